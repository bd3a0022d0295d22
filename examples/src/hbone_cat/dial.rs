//! `hbone-cat dial`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hbone::pool::PoolKey;
use hbone::{PoolConfig, TunnelRequest};
use mesh_identity::PeerPolicy;
use mesh_identity::live::Live;
use mesh_identity::tls::{ClientTls, IdentityUnavailable};
use tokio::net::TcpListener;

use super::Failure;
use super::args::Dial;
use super::credentials::Credentials;
use super::ready::Ready;
use super::stdio::Pipe;
use crate::events::Log;
use crate::relay::Relay;
use crate::sockets;
use crate::workers::{Keepers, Signals, Stop};

pub(super) fn run(args: &Dial) -> Result<(), Failure> {
    let keepers = Keepers::new();
    let credentials = Credentials::load(&args.identity, &keepers)?;
    let tls = credentials.client(&args.expect)?;
    let ready = |listen| {
        let ready = Ready::Dial {
            listen,
            peer: args.peer,
            target: args.target.to_string(),
            identity: credentials.id().to_string(),
        };
        ready.print(args.process.json)
    };
    match args.listen {
        None => pipe(args, (&tls()?, credentials.live()), keepers, || ready(None)),
        Some(addr) => listen(args, addr, (&credentials, keepers), tls, |bound| ready(Some(bound))),
    }
}

/// One tunnel, for stdin and stdout.
fn pipe(
    args: &Dial,
    (tls, live): (&ClientTls, &Live),
    keepers: Keepers,
    ready: impl FnOnce() -> io::Result<()> + Send,
) -> Result<(), Failure> {
    let config = args.process.config();
    let request = TunnelRequest::new(args.target.clone());
    let worker = async |stop: Stop| {
        let pipe = Pipe::open(args.peer, (tls, live), &config, request, stop.clone()).await?;
        ready()?;
        Ok(pipe.run(stop).await?)
    };
    Signals::catch()?.run(vec![worker], keepers)
}

/// One tunnel for each connection to `addr`.
fn listen(
    args: &Dial,
    addr: SocketAddr,
    (credentials, keepers): (&Credentials, Keepers),
    tls: impl Fn() -> Result<ClientTls, IdentityUnavailable> + Clone + Send + Sync + 'static,
    ready: impl FnOnce(SocketAddr) -> io::Result<()>,
) -> Result<(), Failure> {
    let sockets = sockets::bind(addr, args.process.threads).map_err(|error| Failure::Bind {
        flag: "--listen",
        error,
    })?;
    let signals = Signals::catch()?;
    let (mut config, mut pool) = (args.process.config(), PoolConfig::default());
    config.set_observer(Arc::new(Log)).set_timers(signals.timers());
    pool.set_timers(signals.timers());
    ready(sockets.addr)?;
    let relay = Relay {
        key: PoolKey::new(
            credentials.id().clone(),
            PeerPolicy::exact(args.expect.clone()),
            args.peer,
        ),
        identities: move |_: &_| tls().inspect_err(|reason| tracing::warn!(%reason, "no identity")).ok(),
        live: credentials.live().clone(),
        config,
        pool,
        request: TunnelRequest::new(args.target.clone()),
    };
    let workers = sockets.listeners.into_iter().map(|listener| {
        let relay = relay.clone();
        async |stop: Stop| {
            let listener = TcpListener::from_std(listener)?;
            relay.run(listener, stop.draining()).await;
            Ok(())
        }
    });
    signals.run(workers.collect(), keepers)
}
