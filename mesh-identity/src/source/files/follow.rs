use std::{error::Error, future::Future, path::PathBuf, sync::Arc, time::Duration};

use rustls::{
    crypto::CryptoProvider,
    time_provider::{DefaultTimeProvider, TimeProvider},
};
use rustls_pki_types::UnixTime;
use thiserror::Error;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

use super::{
    contents::{Contents, Judge, Verdict},
    layout::FileLayout,
    read::read,
    settle::{DEBOUNCE, Settling, Step},
};
use crate::{
    bundle::TrustBundles,
    profile::Profile,
    source::{
        follower::{Follower, Publisher, Source},
        snapshot::Snapshot,
    },
    svid::Svid,
};

/// Files as a source: changes are followed, and a set of files is taken whole or not at all.
///
/// A set is taken if each file can be read and makes sense, the key is the chain's, the chain leads
/// to the roots, and the identity is of the layout's trust domain and the same as before. Until then
/// the last good set stays in use, and the source's problem is one line that names the file, a
/// [`FileError`](super::FileError); or [`NoClock`].
///
/// If nothing but the identity is wrong, bundles and revocation lists are taken nonetheless: with the
/// identity before, as long as it leads to the roots, or with none if that one has expired.
///
/// The files are read again every [`interval`](FileSourceBuilder::interval), by name. That follows
/// whatever way they were replaced in: written over, renamed onto, or swapped as a folder behind
/// Kubernetes' `..data` link, on any file system. Changes have to stay for 100 ms before they are
/// taken.
#[derive(Debug)]
pub struct FileSource {
    publisher: Arc<Publisher>,
}

impl FileSource {
    /// Starts with the files, and the cryptography for the key in them.
    pub fn builder(layout: FileLayout, provider: Arc<CryptoProvider>) -> FileSourceBuilder {
        FileSourceBuilder {
            layout,
            provider,
            profile: Profile::default(),
            interval: Duration::from_secs(5),
            clock: Arc::new(DefaultTimeProvider),
        }
    }
}

impl Source for FileSource {
    fn follow(&self) -> Follower {
        self.publisher.follow()
    }
}

/// Sets up a [`FileSource`].
#[derive(Debug)]
pub struct FileSourceBuilder {
    layout: FileLayout,
    provider: Arc<CryptoProvider>,
    profile: Profile,
    interval: Duration,
    clock: Arc<dyn TimeProvider>,
}

impl FileSourceBuilder {
    /// Reads the files so often; at least every 100 ms. The default is 5 s, which is little beside
    /// the minute that Kubernetes takes to update a mounted secret.
    #[must_use]
    pub fn interval(self, interval: Duration) -> Self {
        Self {
            interval: interval.max(DEBOUNCE),
            ..self
        }
    }

    /// Checks one's own chain under this profile. The default is [`Profile::istio`].
    #[must_use]
    pub fn profile(self, profile: Profile) -> Self {
        Self { profile, ..self }
    }

    /// Judges the validity of certificates by this clock. The default is the system's.
    #[must_use]
    pub fn clock(self, clock: Arc<dyn TimeProvider>) -> Self {
        Self { clock, ..self }
    }

    /// The source, and the future that has to be polled for anything to be read. It completes only
    /// with the runtime, on whose threads for blocking calls it reads.
    #[must_use = "nothing is read unless the future is polled"]
    pub fn build(self) -> (FileSource, impl Future<Output = ()> + Send + 'static) {
        let publisher = Arc::new(Publisher::new());
        let source = FileSource {
            publisher: Arc::clone(&publisher),
        };
        let reload = Reload {
            files: self,
            publisher,
            settling: Settling::default(),
            own: None,
            trust: Arc::default(),
            refusal: None,
        };
        (source, reload.run())
    }
}

struct Reload {
    files: FileSourceBuilder,
    publisher: Arc<Publisher>,
    settling: Settling,
    /// The last good identity, expired or not.
    own: Option<Arc<Svid>>,
    /// The bundles that were published last.
    trust: Arc<TrustBundles>,
    /// What was last said about the files, if they were refused.
    refusal: Option<String>,
}

impl Reload {
    async fn run(mut self) {
        let paths = self.files.layout.paths().map(|(path, limit)| (path.to_owned(), limit));
        let paths: Arc<[(PathBuf, usize)]> = paths.collect();
        loop {
            let reading = Arc::clone(&paths);
            let Ok(contents) = spawn_blocking(move || read_all(&reading)).await else {
                return;
            };
            match self.files.clock.current_time() {
                Some(now) => match self.settling.take(contents, Instant::now().into_std()) {
                    Step::ReadAgain(delay) => {
                        sleep(delay).await;
                        continue;
                    }
                    Step::Judge => self.judge(now),
                    // Time may have healed the fault or brought one.
                    Step::Rest if self.refusal.is_some() || self.has_expired(now) => self.judge(now),
                    Step::Rest => {}
                },
                None => self.refuse(NoClock),
            }
            sleep(self.files.interval).await;
        }
    }

    fn judge(&mut self, now: UnixTime) {
        let Some(contents) = self.settling.judged() else {
            return;
        };
        let judge = Judge {
            layout: &self.files.layout,
            provider: &self.files.provider,
            profile: self.files.profile,
            before: self.own.as_ref(),
        };
        match judge.verdict(contents, now) {
            Ok(Verdict { snapshot, fault: None }) => {
                self.own = snapshot.default_svid().cloned();
                self.refusal = None;
                self.publish(snapshot);
            }
            Ok(Verdict {
                snapshot,
                fault: Some(fault),
            }) => {
                if *snapshot.trust() != self.trust {
                    // Publishing ends what was the problem, which this one is not.
                    self.refusal = None;
                    self.publish(snapshot);
                }
                self.refuse(fault);
            }
            Err(fault) => self.refuse(fault),
        }
    }

    fn publish(&mut self, snapshot: Snapshot) {
        self.trust = Arc::clone(snapshot.trust());
        self.publisher.publish(snapshot);
    }

    fn refuse(&mut self, fault: impl Error + Send + Sync + 'static) {
        let text = Some(fault.to_string());
        if self.refusal != text {
            self.refusal = text;
            self.publisher.report(fault);
        }
    }

    fn has_expired(&self, now: UnixTime) -> bool {
        self.own.as_ref().is_some_and(|svid| now > svid.not_after())
    }
}

/// The clock could not be read, by which files are judged. They are read again at the next interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the clock could not be read")]
pub struct NoClock;

fn read_all(paths: &[(PathBuf, usize)]) -> Contents {
    Contents::new(paths.iter().map(|(path, limit)| (path.clone(), read(path, *limit))))
}
