//! The tasks of a pool: one that keeps house, and one for each connection.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::connect::{Connect, DialFailure, Key};
use super::group::GroupId;
use super::shared::Shared;
use crate::client::Client;
use crate::slot::ConnId;

/// Starts dials and does what is due. Owns the tasks of all connections.
pub(super) async fn keep_house<K: Key, C: Connect<K>>(shared: Arc<Shared<K, C>>) {
    let mut connections = JoinSet::new();
    loop {
        for (group, key) in shared.take_dials() {
            connections.spawn(connect(Arc::clone(&shared), group, key));
        }
        let wake_at = shared.wake_at();
        let due = async {
            match wake_at {
                Some(at) => shared.config.timers.sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = shared.poked() => {}
            () = due => shared.tick(),
            Some(joined) = connections.join_next() => {
                if let Err(error) = joined {
                    tracing::error!(%error, "a pooled connection's task failed");
                }
            }
        }
    }
}

/// A connection's life: its dial, and its driver's work.
async fn connect<K: Key, C: Connect<K>>(shared: Arc<Shared<K, C>>, group: GroupId, key: Arc<K>) {
    let dial = Dial {
        shared: &shared,
        group,
        failure: Some(DialFailure::Panicked),
    };
    let dialled = timeout(shared.config.dial_timeout, shared.connector.connect(&key)).await;
    let (client, driver) = match dialled {
        Ok(Ok(connected)) => connected,
        Ok(Err(error)) => return dial.fail(DialFailure::Connect(error)),
        Err(_) => return dial.fail(DialFailure::Timeout),
    };
    let conn = dial.succeed(client.clone());
    // Before the driver, so that it is dropped after it: an ended connection has no tunnels.
    let live = Live { shared: &shared, conn };
    let mut driver = pin!(driver);
    let mut known = None;
    let ended = poll_fn(|cx| {
        let ended = driver.as_mut().poll(cx);
        let status = client.status();
        let news = Some((status.limit, status.accepting));
        if known != news {
            known = news;
            live.shared.refresh(conn);
        }
        ended
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "pooled connection lost");
    }
}

/// A dial whose outcome is told, even if its connector panics.
struct Dial<'a, K: Key, C: Connect<K>> {
    shared: &'a Arc<Shared<K, C>>,
    group: GroupId,
    failure: Option<DialFailure<C::Error>>,
}

impl<K: Key, C: Connect<K>> Dial<'_, K, C> {
    fn succeed(mut self, client: Client) -> ConnId {
        self.failure = None;
        self.shared.connected(self.group, client)
    }

    fn fail(mut self, failure: DialFailure<C::Error>) {
        self.failure = Some(failure);
    }
}

impl<K: Key, C: Connect<K>> Drop for Dial<'_, K, C> {
    fn drop(&mut self) {
        if let Some(failure) = self.failure.take() {
            self.shared.dial_failed(self.group, failure);
        }
    }
}

/// A connection whose end is told, even if its driver panics.
struct Live<'a, K: Key, C: Connect<K>> {
    shared: &'a Arc<Shared<K, C>>,
    conn: ConnId,
}

impl<K: Key, C: Connect<K>> Drop for Live<'_, K, C> {
    fn drop(&mut self) {
        self.shared.ended(self.conn);
    }
}
