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
use super::certificate::{Certificate, CertificateError};
use super::dump;
use super::login::Login;
use super::publish::publish;
use super::ready::Ready;
use super::roots::{Roots, RootsError};
use super::serve::Server;
use super::state::{Directory, tell};
use super::tokens::Tokens;
use super::vault::Vault;
use crate::logging;
use crate::sockets::{self, Sockets};
use crate::workers::{Driver, Keepers, Signals, Stop};

/// What becomes of the mesh, refusals and failures.
const LOG: &str = "warn,mesh_examples::control_plane::state=info,mesh_examples::control_plane::roots=info";

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
    check_exposure(args, bind)?;
    let login = args.admin_token.as_deref().map(Login::new).transpose()?.map(Arc::new);
    let discovery = Discovery::new(delta::Server::new(ServerConfig::new()), observe);
    let published = discovery.clone();
    let keepers = Keepers::new();
    let state = directory.follow(move |mesh| publish(&published, mesh), &keepers)?;
    let roots = roots(args, &keepers)?;
    let authority = Authority::new(settings, roots, state.clone());
    let certificate = |protocol| certificate(&authority, args.tls.as_deref(), protocol);
    let server = Server::new(
        &discovery,
        Tokens::new(state.clone()),
        authority.clone(),
        certificate(b"h2")?,
    );
    let first = Arc::clone(&state.borrow());
    let is_remote = args.admin.is_some_and(|addr| !addr.ip().is_loopback());
    let admin = Admin {
        state,
        discovery,
        login,
        certificate: if is_remote { certificate(b"http/1.1")? } else { None },
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

/// Checks that nobody elsewhere can read a token on its way, or do without one.
fn check_exposure(args: &Args, bind: SocketAddr) -> Result<(), Failure> {
    let is_remote = |addr: &SocketAddr| !addr.ip().is_loopback();
    if args.tls.is_none() && is_remote(&bind) {
        return Err(Failure::Plaintext {
            flag: "--bind",
            addr: bind,
        });
    }
    match args.admin.filter(is_remote) {
        Some(addr) if args.admin_token.is_none() => Err(Failure::Unguarded(addr)),
        Some(addr) if args.tls.is_none() => Err(Failure::Plaintext { flag: "--admin", addr }),
        _ => Ok(()),
    }
}

/// The roots, whose files a keeper writes.
fn roots(args: &Args, keepers: &Keepers) -> Result<Arc<Roots>, Failure> {
    let vault = args.state.as_deref().map(Vault::open).transpose();
    let vault = vault.map_err(RootsError::from)?;
    let roots = Arc::new(Roots::new(args.trust_domain.clone(), vault, args.roots.clone())?);
    let kept = Arc::clone(&roots);
    keepers.drive("roots", vec![Driver::new("roots", async move { kept.keep().await })])?;
    Ok(roots)
}

/// A certificate for this name to speak a protocol by, which can be made.
fn certificate(
    authority: &Authority,
    name: Option<&str>,
    protocol: &'static [u8],
) -> Result<Option<Arc<Certificate>>, CertificateError> {
    let Some(name) = name else { return Ok(None) };
    let certificate = Certificate::new(authority.clone(), name, protocol);
    certificate.config()?;
    Ok(Some(Arc::new(certificate)))
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
