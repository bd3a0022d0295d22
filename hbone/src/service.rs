//! Tunnels as [`tower_service::Service`]s, for the middleware of that world.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tower_service::Service;

use crate::client::{Client, OpenError};
use crate::pool::{Connect, Key, Pool, PoolError};
use crate::request::TunnelRequest;
use crate::stream::TunnelStream;

/// A tunnel that is being opened.
type Opening<E> = Pin<Box<dyn Future<Output = Result<TunnelStream, E>> + Send>>;

/// Opens tunnels on one connection. Always ready: a tunnel for which there is no place waits in
/// its own call, and gives up with it.
impl Service<TunnelRequest> for Client {
    type Response = TunnelStream;
    type Error = OpenError;
    type Future = Opening<OpenError>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), OpenError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: TunnelRequest) -> Self::Future {
        let client = self.clone();
        Box::pin(async move { client.open(request).await })
    }
}

/// Opens tunnels on pooled connections, by key. Always ready, as a client is.
impl<K: Key, C: Connect<K>> Service<(K, TunnelRequest)> for Pool<K, C> {
    type Response = TunnelStream;
    type Error = PoolError<C::Error>;
    type Future = Opening<PoolError<C::Error>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (key, request): (K, TunnelRequest)) -> Self::Future {
        let pool = self.clone();
        Box::pin(async move { pool.open(&key, request).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_service<R, S: Service<R, Response = TunnelStream>>() {}

    type Connector = fn(u8) -> std::future::Ready<Result<(Client, Driver), std::io::Error>>;
    type Driver = std::future::Ready<Result<(), crate::lost::Lost>>;

    #[test]
    fn client_and_pool_are_services() {
        is_service::<TunnelRequest, Client>();
        is_service::<(u8, TunnelRequest), Pool<u8, Connector>>();
    }
}
