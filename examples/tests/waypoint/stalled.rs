//! Requests that are answered before their end, which never comes.

use std::convert::Infallible;
use std::future::ready;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::shop::Shop;
use crate::world::{App, eventually, soon};

/// One byte, and then nothing.
struct Stalled(bool);

impl Body for Stalled {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match std::mem::replace(&mut self.0, true) {
            false => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"a"))))),
            true => Poll::Pending,
        }
    }
}

/// Answers at once, and counts the requests of which the rest is given up.
async fn reader(ip: IpAddr) -> Shop {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let app = App::start_at(ip, move |tcp| {
        let (count, reading) = (Arc::clone(&count), Mutex::new(JoinSet::new()));
        async move {
            let service = service_fn(|request: Request<Incoming>| {
                let count = Arc::clone(&count);
                reading.lock().unwrap().spawn(async move {
                    if request.into_body().collect().await.is_err() {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                });
                ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
            });
            let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            drop(http.serve_connection(TokioIo::new(tcp), service).await);
        }
    })
    .await;
    Shop { app, asked }
}

#[tokio::test]
async fn an_endpoint_does_not_wait_for_the_rest_either() {
    let cluster = Cluster::start_before(reader).await;
    let caller = cluster.call("cart").await;
    let io = TokioIo::new(caller.open().await.unwrap());
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
    let (mut send, connection) = handshake.await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let request = Request::post("http://till.shop.svc/").body(Stalled(false)).unwrap();
    let answer = soon("answer", send.send_request(request)).await.unwrap();
    assert_eq!(answer.status(), 200);
    drop(answer.into_body().collect().await);
    eventually("the end of the request", async || {
        (cluster.one.asked() == 1).then_some(())
    })
    .await;
}
