//! `hbone-cat serve`.

use std::sync::Arc;

use hbone::Listener;
use tokio::net::TcpListener;

use super::args::Serve;
use super::credentials::Credentials;
use super::ready::Ready;
use super::{Failure, policy};
use crate::admission::Admission;
use crate::events::Log;
use crate::forward::Forward;
use crate::sockets;
use crate::workers::{Keepers, Signals, Stop};

pub(super) fn run(args: &Serve) -> Result<(), Failure> {
    let keepers = Keepers::new();
    let credentials = Credentials::load(&args.identity, &keepers)?;
    let (allow, tls) = credentials.server(&args.allow)?;
    let sockets =
        sockets::bind(args.bind, args.process.threads).map_err(|error| Failure::Bind { flag: "--bind", error })?;
    let forward = args.forward.map_or(Forward::Authority, Forward::Fixed);
    let admission = match args.policy.as_slice() {
        [] => None,
        files => Some(Admission {
            policies: policy::follow(files, credentials.id().trust_domain(), &keepers)?,
            forward,
        }),
    };
    let signals = Signals::catch()?;
    let mut config = args.process.config();
    config.set_observer(Arc::new(Log)).set_timers(signals.timers());
    let mut server = Listener::with_identity(tls, config);
    server.set_scope(Arc::new(credentials.live().scope(allow)));
    let ready = Ready::Serve {
        bind: sockets.addr,
        forward: args.forward,
        identity: credentials.id().to_string(),
    };
    ready.print(args.process.json)?;
    let workers = sockets.listeners.into_iter().map(|listener| {
        let (server, admission) = (server.clone(), admission.clone());
        move |stop: Stop| async move {
            let listener = TcpListener::from_std(listener)?;
            match admission {
                Some(admission) => server.serve(listener, admission, stop.draining()).await,
                None => server.serve(listener, forward, stop.draining()).await,
            }
            Ok(())
        }
    });
    signals.run(workers.collect(), keepers)
}
