//! A proxy as a program: what keeps it up to date, its threads, and why it fails.

use std::io;
use std::net::TcpListener;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mesh_xds::client::Handle;
use tokio::sync::{mpsc, watch};

use super::access_log::AccessLog;
use super::admin::{Admin, Operated};
use super::args::Launch;
use super::config::{self, ConfigError, Configuration, IdentitySource, LogFormat, MeshSource};
use super::control_plane::DialSetupError;
use super::credentials::{Credentials, CredentialsError, Terms};
use super::discovery::{self, Subscription};
use super::level::{self, Level};
use super::listeners::{ListenError, Listeners, Share};
use super::mesh_file::{self, MeshFileError};
use super::metrics::Metrics;
use super::traffic::Telemetry;
use super::view::View;
use crate::events::Log;
use crate::usage::USAGE;
use crate::workers::{Driver, Interrupted, Keepers, Signals, Stop};

/// How long stdout may take for what is left of the access log.
const LOG_PATIENCE: Duration = Duration::from_secs(2);

/// Runs a proxy by its configuration.
pub(crate) fn start<C: Configuration, E: From<Failure>>(
    launch: &Launch,
    run: fn(&C, bool, Level) -> Result<(), E>,
) -> Result<(), E> {
    let level = level::init();
    let config = config::read(&launch.config).map_err(Failure::from)?;
    run(&config, launch.json, level)
}

/// A proxy that is about to run.
pub(crate) struct Program {
    /// Threads that follow files.
    pub(crate) keepers: Keepers,
    /// What keeps up with the control plane, all on one thread.
    pub(crate) drivers: Vec<Driver>,
    pub(crate) telemetry: Arc<Telemetry>,
    level: Level,
    signals: Signals,
}

impl Program {
    /// Signals and the log's level are the program's from now on.
    pub(crate) fn new(level: Level, access_log: LogFormat) -> Result<Self, Failure> {
        Ok(Self {
            keepers: Keepers::new(),
            drivers: Vec::new(),
            telemetry: Arc::new(Telemetry {
                metrics: Metrics::new(),
                log: AccessLog::start(access_log)?,
            }),
            level,
            signals: Signals::catch()?,
        })
    }

    /// Timers of a thread that carries nothing.
    pub(crate) fn timers(&self) -> hbone::Timers {
        self.signals.timers()
    }

    /// How its tunnels are.
    pub(crate) fn tunnels(&self, drain: Duration) -> hbone::Config {
        let mut config = hbone::Config::default();
        config
            .set_drain_timeout(drain)
            .set_observer(Arc::new(Log))
            .set_timers(self.timers());
        config
    }

    /// The identities that it speaks under.
    pub(crate) fn credentials(
        &mut self,
        identity: &IdentitySource,
        terms: Terms<'_>,
    ) -> Result<Arc<Credentials>, Failure> {
        let (credentials, drivers) = Credentials::load(identity, terms)?;
        self.drivers.extend(drivers);
        Ok(Arc::new(credentials))
    }

    /// Has `view` keep up with the mesh. Answers whether it is there by now, and what a discovery
    /// server will be asked for more by.
    pub(crate) fn follow(
        &mut self,
        mesh: &MeshSource,
        subscription: Subscription,
        view: impl View,
    ) -> Result<(watch::Receiver<bool>, Arc<OnceLock<Handle>>), Failure> {
        let (sync, is_synced) = watch::channel(false);
        let handle = Arc::default();
        match mesh {
            MeshSource::File(file) => {
                mesh_file::follow(file, view, &self.keepers)?;
                sync.send_replace(true);
            }
            MeshSource::Xds(server) => {
                let followed = discovery::follow(server, subscription, view, sync, Arc::clone(&handle));
                self.drivers.push(followed?);
            }
        }
        Ok((is_synced, handle))
    }

    /// Says that it is ready, and carries until a signal: `carry` is the work of one thread.
    pub(crate) fn run<P: Operated, R: Clone + Send, F: Future<Output = Result<(), Failure>>>(
        self,
        proxy: &Arc<P>,
        listeners: Listeners<R>,
        carry: fn(Arc<P>, Share<R>, Stop) -> F,
        ready: impl FnOnce() -> io::Result<()>,
    ) -> Result<(), Failure> {
        let Self {
            keepers,
            drivers,
            telemetry,
            level,
            signals,
        } = self;
        keepers.drive("control-plane", drivers)?;
        ready()?;
        let workers = works(listeners).into_iter().map(|work| {
            let (proxy, level) = (Arc::clone(proxy), level.clone());
            move |stop| async move {
                match work {
                    Work::Carry(share, _carrying) => carry(proxy, share, stop).await,
                    Work::Operate(listener, carried) => operate(Admin { proxy, level }, listener, carried).await,
                }
            }
        });
        let result = signals.run(workers.collect(), keepers);
        if let Err(reason) = telemetry.log.finish(LOG_PATIENCE) {
            tracing::warn!(%reason, "access log incomplete");
        }
        result
    }
}

/// What a thread does. Nothing is sent: that a thread carries shows in what it holds.
enum Work<R> {
    Carry(Share<R>, mpsc::Sender<()>),
    Operate(TcpListener, mpsc::Receiver<()>),
}

fn works<R: Clone>(listeners: Listeners<R>) -> Vec<Work<R>> {
    let (carrying, carried) = mpsc::channel(1);
    let (shares, admin) = listeners.into_shares();
    let shares = shares.into_iter().map(|share| Work::Carry(share, carrying.clone()));
    shares
        .chain(admin.map(|listener| Work::Operate(listener, carried)))
        .collect()
}

/// Answers operators for as long as connections are carried.
async fn operate<P: Operated>(
    admin: Admin<P>,
    listener: TcpListener,
    mut carried: mpsc::Receiver<()>,
) -> Result<(), Failure> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let ended = async move { while carried.recv().await.is_some() {} };
    admin.serve(listener, ended).await;
    Ok(())
}

/// Why a proxy fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error("mesh.xds.{0}")]
    Discovery(#[from] DialSetupError),
    #[error("mesh.file: {0}")]
    Mesh(#[from] MeshFileError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    #[error("operating system: {0}")]
    System(#[from] io::Error),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Credentials(_) | Self::Discovery(_) | Self::Mesh(_) | Self::Listen(_) => USAGE,
            Self::Interrupted(_) | Self::System(_) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_keeper_is_no_mistake_of_the_operator() {
        let keepers = Keepers::new();
        keepers.start("mesh", || {}).unwrap();
        let worker = async |stop: Stop| {
            stop.draining().await;
            Ok::<_, Failure>(())
        };
        let failure = Signals::catch().unwrap().run(vec![worker], keepers).unwrap_err();
        let line = "stopped, for nothing keeps up with the mesh any more";
        assert_eq!((failure.exit_code(), &*failure.to_string()), (1, line));
    }
}
