//! The program's parts, together.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mesh_xds::delta::{self, ServerConfig};
use mesh_xds::server::{Discovery, Event};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::Failure;
use super::admin::Admin;
use super::args::Args;
use super::authority::Authority;
use super::certificate::Certificate;
use super::dump;
use super::publish::publish;
use super::ready::Ready;
use super::serve::Server;
use super::state::{Directory, tell};
use super::tokens::Tokens;
use crate::logging;
use crate::sockets::{self, Sockets};
use crate::workers::{Keepers, Signals, Stop};

/// What becomes of the mesh, refusals and failures.
const LOG: &str = "warn,mesh_examples::control_plane::state=info";

/// Serves until a signal; or prints, where only that is asked for.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let settings = args.settings();
    let directory = Directory {
        path: args.dir.clone(),
        settings: settings.clone(),
    };
    let Some(bind) = args.bind else {
        let (_, mesh) = directory.load()?;
        writeln!(io::stdout(), "{:#}", dump::dump(&mesh))?;
        return Ok(());
    };
    logging::init(LOG);
    if args.tls.is_none() && !bind.ip().is_loopback() {
        return Err(Failure::Plaintext(bind));
    }
    let discovery = Discovery::new(delta::Server::new(ServerConfig::new()), observe);
    let published = discovery.clone();
    let keepers = Keepers::new();
    let state = directory.follow(move |mesh| publish(&published, mesh), &keepers)?;
    let authority = Authority::new(settings, args.roots.clone(), state.clone())?;
    let certificate = match &args.tls {
        Some(name) => {
            let certificate = Certificate::new(authority.clone(), name);
            certificate.config()?;
            Some(Arc::new(certificate))
        }
        None => None,
    };
    let server = Server::new(&discovery, Tokens::new(state.clone()), authority.clone(), certificate);
    let first = Arc::clone(&state.borrow());
    let admin = Admin {
        state,
        discovery,
        authority,
    };
    let served = listen("--bind", bind)?;
    let admin_socket = args.admin.map(|addr| listen("--admin", addr)).transpose()?;
    let signals = Signals::catch()?;
    tell(&first.mesh, &[]);
    Ready::new(served.addr, admin_socket.as_ref().map(|socket| socket.addr)).print(args.json)?;
    let work = |stop: Stop| async move {
        let mut tasks = JoinSet::new();
        for listener in served.listeners {
            tasks.spawn(server.clone().serve(TcpListener::from_std(listener)?, stop.clone()));
        }
        for listener in admin_socket.into_iter().flat_map(|socket| socket.listeners) {
            let listener = TcpListener::from_std(listener)?;
            tasks.spawn(admin.clone().serve(listener, stop.clone()));
        }
        tasks.join_all().await;
        Ok::<_, Failure>(())
    };
    signals.run(vec![work], keepers)
}

fn listen(flag: &'static str, addr: SocketAddr) -> Result<Sockets, Failure> {
    sockets::bind(addr, 1).map_err(|error| Failure::Bind { flag, error })
}

fn observe(event: Event<'_>) {
    match event {
        Event::Refused { message, .. } => tracing::warn!(reason = message, "a node refused resources"),
        Event::Stalled { client } => tracing::warn!(?client, "a node does not answer"),
        _ => {}
    }
}
