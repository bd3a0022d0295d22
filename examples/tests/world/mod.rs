//! What the tests of this package run in: certificates as files, programs, and applications.

mod app;
mod half_close;
mod pki;
mod process;
mod tunnel;
mod workload;

pub use app::{App, exchange};
pub use half_close::{half_close_first, half_close_last, receive_last_words};
pub use pki::{Files, NoCertificate, Pki};
pub use process::{Process, hbone_cat, hbone_cat_of, node_proxy, peer};
pub use tunnel::{Tunnel, look};
pub use workload::{hbone_cat_by, listen_by, serve_by};

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// Longest wait for anything.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits for `future`, which has to be ready by the deadline.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: nothing in {DEADLINE:?}"),
    }
}

/// Asks `probe` again and again until it answers, by the deadline.
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < end, "{what}: not in {DEADLINE:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// An address on loopback that nobody listens on.
pub fn free_addr() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
