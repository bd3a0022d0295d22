//! The roots of the authority: how they replace each other, and the files that say so.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_identity::source::dev_ca::{
    CertificateRequest, DevCa, DevCaError, DevCaSource, Issued, RotationError, Template,
};
use mesh_identity::{TrustDomain, provider};
use rustls::pki_types::UnixTime;
use tokio::sync::watch;
use tokio::time::sleep;

use super::replace::replace;
use super::vault::{Kept, KeptRoot, Unwritten, Vault, VaultError};

/// How long certificates live at most, and if nothing is asked for.
pub(super) const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Everybody may read what certificates are verified with.
const ROOTS_MODE: u32 = 0o644;

/// Time until files that could not be written are tried again: the first time, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Signs with one root, while others are believed.
pub(super) struct Roots {
    source: DevCaSource,
    trust_domain: TrustDomain,
    kept: Mutex<Kept>,
    /// Where the roots outlive the program.
    vault: Option<Vault>,
    /// Where those who are to believe in the roots find them.
    file: Option<PathBuf>,
    /// Why the files do not say what is in force, if they do not.
    problem: watch::Sender<Option<String>>,
}

/// A step of replacing the root; each has to have reached every node before the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The next root is handed out and signs nothing.
    Prepare,
    /// It signs, and the last one is handed out besides.
    Activate,
    /// The last one is not handed out any more.
    Revoke,
}

impl Roots {
    /// What the vault has kept, or a new root.
    pub(super) fn new(
        trust_domain: TrustDomain,
        vault: Option<Vault>,
        file: Option<PathBuf>,
    ) -> Result<Self, RootsError> {
        let kept = vault.as_ref().map(|vault| vault.load(&trust_domain)).transpose()?;
        let kept = match kept.flatten() {
            Some(kept) => kept,
            None => Kept {
                trust_domain: trust_domain.to_string(),
                active: KeptRoot::of(&new_root(&trust_domain)?),
                prepared: None,
                retired: None,
            },
        };
        let roots = Self {
            source: source(&trust_domain, &kept)?,
            trust_domain,
            kept: Mutex::new(kept),
            vault,
            file,
            problem: watch::Sender::new(None),
        };
        roots.write(&roots.kept())?;
        Ok(roots)
    }

    /// Takes the next step of replacing the root. The one before has to be in the files: whoever
    /// starts from them would not know a root that signs.
    pub(super) fn step(&self, step: Step) -> Result<(), StepError> {
        let mut kept = self.kept();
        if let Some(problem) = &*self.problem.borrow() {
            return Err(StepError::Behind(problem.clone()));
        }
        match step {
            Step::Prepare => {
                let next = new_root(&self.trust_domain).map_err(RotationError::from)?;
                let root = KeptRoot::of(&next);
                self.source.prepare(next)?;
                kept.prepared = Some(root);
            }
            Step::Activate => {
                self.source.activate(UnixTime::now(), 0)?;
                if let Some(next) = kept.prepared.take() {
                    kept.retired = Some(std::mem::replace(&mut kept.active, next));
                }
            }
            Step::Revoke => {
                self.source.revoke()?;
                kept.retired = None;
            }
        }
        tracing::info!(?step, "root replaced in part");
        self.write(&kept).map_err(|unwritten| {
            tracing::warn!(reason = %unwritten, "the roots in force are not in their files");
            self.problem.send_replace(Some(unwritten.to_string()));
            StepError::Unwritten(unwritten)
        })
    }

    /// Writes the files again that could not be written, until they are. Never completes.
    pub(super) async fn keep(&self) {
        let mut problem = self.problem.subscribe();
        // The sender is `self`, so it is there.
        while problem.wait_for(Option::is_some).await.is_ok() {
            let mut pause = FIRST_PAUSE;
            loop {
                sleep(pause).await;
                let written = self.write(&self.kept());
                let Err(unwritten) = written else { break };
                pause = (pause * 2).min(LONGEST_PAUSE);
                tracing::warn!(reason = %unwritten, seconds = pause.as_secs(), "the roots are not in their files yet");
                self.problem.send_replace(Some(unwritten.to_string()));
            }
            self.problem.send_replace(None);
            tracing::info!("the roots in force are in their files");
        }
    }

    /// Why the files do not say what is in force, if they do not.
    pub(super) fn problem(&self) -> Option<String> {
        self.problem.borrow().clone()
    }

    pub(super) fn issue_with(&self, template: Template) -> Result<Issued, DevCaError> {
        self.source.issue_with(template)
    }

    pub(super) fn certify(&self, request: &CertificateRequest, template: Template) -> Result<Vec<String>, DevCaError> {
        self.source.certify(request, template)
    }

    /// All roots that are believed.
    pub(super) fn to_pem(&self) -> String {
        self.source.roots_pem()
    }

    /// The keys first: nobody may be told of a root that the next start does not know.
    fn write(&self, kept: &Kept) -> Result<(), Unwritten> {
        if let Some(vault) = &self.vault {
            vault.save(kept)?;
        }
        let Some(path) = &self.file else { return Ok(()) };
        replace(path, ROOTS_MODE, &self.to_pem()).map_err(|error| Unwritten {
            flag: "--roots",
            path: path.clone(),
            error,
        })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn new_root(trust_domain: &TrustDomain) -> Result<DevCa, DevCaError> {
    DevCa::new(trust_domain.clone(), UnixTime::now())
}

/// The authority, brought to where it was step by step.
fn source(trust_domain: &TrustDomain, kept: &Kept) -> Result<DevCaSource, RotationError> {
    let now = UnixTime::now();
    let active = kept.active.authority(trust_domain)?;
    let first = |authority| DevCaSource::new(authority, [], LIFETIME, provider::aws_lc_rs(), now, 0);
    let source = match &kept.retired {
        None => first(active)?,
        Some(retired) => {
            let source = first(retired.authority(trust_domain)?)?;
            source.prepare(active)?;
            source.activate(now, 0)?;
            source
        }
    };
    if let Some(prepared) = &kept.prepared {
        source.prepare(prepared.authority(trust_domain)?)?;
    }
    Ok(source)
}

/// Why there is no root to begin with.
#[derive(Debug, thiserror::Error)]
pub(super) enum RootsError {
    #[error("--state: {0}")]
    Vault(#[from] VaultError),
    #[error("the root cannot be made: {0}")]
    Rotation(#[from] RotationError),
    #[error("the root cannot be made: {0}")]
    Generator(#[from] DevCaError),
    #[error(transparent)]
    Unwritten(#[from] Unwritten),
}

/// Why the root is not replaced, or not everywhere.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error(transparent)]
    Rotation(#[from] RotationError),
    #[error("the last step is not in the files yet: {0}")]
    Behind(String),
    /// The step is taken.
    #[error("the step is taken, and not in the files yet, which are tried again: {0}")]
    Unwritten(Unwritten),
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn roots(folder: &Path) -> Result<Roots, RootsError> {
        let vault = Vault::open(&folder.join("state"))?;
        let file = folder.join("roots.pem");
        Roots::new("cluster.local".parse().unwrap(), Some(vault), Some(file))
    }

    #[test]
    fn a_start_at_any_step_finds_the_roots_that_were_there() {
        let folder = tempfile::tempdir().unwrap();
        let mut before = roots(folder.path()).unwrap().to_pem();
        for step in [
            Step::Prepare,
            Step::Activate,
            Step::Prepare,
            Step::Revoke,
            Step::Activate,
        ] {
            let roots = roots(folder.path()).unwrap();
            assert_eq!(roots.to_pem(), before, "before {step:?}");
            roots.step(step).unwrap();
            before = roots.to_pem();
            assert_eq!(fs::read_to_string(folder.path().join("roots.pem")).unwrap(), before);
        }
        assert!(matches!(
            roots(folder.path()).unwrap().step(Step::Activate),
            Err(StepError::Rotation(_))
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_is_not_in_the_files_is_written_again_before_another_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let roots = roots(folder.path()).unwrap();
        let (file, block) = (folder.path().join("roots.pem"), folder.path().join("roots.pem.partial"));
        fs::create_dir(&block).unwrap();
        assert!(matches!(roots.step(Step::Prepare), Err(StepError::Unwritten(_))));
        assert!(matches!(roots.step(Step::Activate), Err(StepError::Behind(_))));
        assert!(roots.problem().unwrap().contains("roots.pem: "));
        let count = || fs::read_to_string(&file).unwrap().matches("BEGIN").count();
        let repair = async {
            sleep(LONGEST_PAUSE * 3).await;
            assert_eq!(count(), 1);
            fs::remove_dir(&block).unwrap();
            roots.problem.subscribe().wait_for(Option::is_none).await.unwrap();
        };
        tokio::select! {
            () = roots.keep() => unreachable!("it never completes"),
            () = repair => {}
        }
        assert_eq!(count(), 2);
        roots.step(Step::Activate).unwrap();
    }
}
