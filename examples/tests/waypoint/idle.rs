//! Clients that send or take no more, and what they keep from others.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::cluster::{Caller, Cluster};
use crate::withdrawal::{chat, echo};
use crate::world::soon;

const IDLE: &str = "[settings]\nidle_seconds = 1\n";
const STALLED: &[u8] = b"POST / HTTP/1.1\r\nhost: till.shop.svc\r\ncontent-length: 4\r\n\r\nab";

#[tokio::test]
async fn who_sends_no_more_is_not_waited_for() {
    let cluster = Cluster::start_with("", IDLE).await;
    let caller = cluster.call("cart").await;
    let mut tunnel = caller.open().await.unwrap();
    tunnel.write_all(STALLED).await.unwrap();
    let mut answer = Vec::new();
    drop(soon("answer", tunnel.read_to_end(&mut answer)).await);
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    let record = cluster.tells("the end", |record| record["http.status"] == 408).await;
    assert_eq!((&record["flags"], &record["bytes_recv"]), (&"SI".into(), &2.into()));
}

#[tokio::test]
async fn who_takes_no_answer_is_not_waited_for() {
    // The application needs some time to tell so much.
    let cluster = Cluster::start_with("", &IDLE.replace('1', "3")).await;
    let caller = cluster.call("cart").await;
    let length = 8 * 1024 * 1024;
    let ended = async |version: &'static str| {
        let is = |record: &serde_json::Value| record["flags"] == "SI" && record["http.protocol"] == version;
        let record = cluster.tells("the end", is).await;
        assert_eq!(record["http.status"], 200, "{record}");
    };
    let mut tunnel = caller.open().await.unwrap();
    let head = format!("POST / HTTP/1.1\r\nhost: till.shop.svc\r\ncontent-length: {length}\r\n\r\n");
    tunnel.write_all(head.as_bytes()).await.unwrap();
    tunnel.write_all(&vec![b'a'; length]).await.unwrap();
    ended("HTTP/1.1").await;
    let mut answer = Vec::new();
    let read = soon("end", tunnel.read_to_end(&mut answer)).await;
    assert!(read.is_err() && answer.len() < length, "{read:?}");
    let (mut http2, mut connection) = caller.http2().await;
    let request = Request::post("http://till.shop.svc/").body(Full::from(vec![b'a'; length]));
    let answer = soon("answer", http2.send_request(request.unwrap())).await.unwrap();
    ended("HTTP/2").await;
    drop(soon("end", connection.join_next()).await);
    assert!(answer.into_body().collect().await.is_err());
}

/// An answer of which the client has room for one byte at a time.
async fn narrow(caller: &Caller) -> (Response<Incoming>, impl Sized + use<>) {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(1);
    let tunnel = caller.open().await.unwrap();
    let (mut http2, connection) = builder.handshake::<_, Full<Bytes>>(TokioIo::new(tunnel)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let request = Request::post("http://till.shop.svc/").body(Full::new(vec![b'a'; 2_000].into()));
    let answer = soon("answer", http2.send_request(request.unwrap())).await.unwrap();
    (answer, (http2, tasks))
}

#[tokio::test]
async fn an_answer_is_told_as_whole_when_there_was_a_window_for_it() {
    let cluster = Cluster::start_with("", IDLE).await;
    let caller = cluster.call("cart").await;
    let (answer, _connection) = narrow(&caller).await;
    let record = cluster.tells("the end", |record| record["http.status"] == 200).await;
    assert_eq!(record["flags"], "SI", "{record}");
    assert!(answer.into_body().collect().await.is_err());
}

#[tokio::test]
async fn an_answer_that_its_client_resets_is_not_told_as_whole() {
    let cluster = Cluster::start("").await;
    let caller = cluster.call("cart").await;
    let (mut answer, _connection) = narrow(&caller).await;
    let some = soon("a part", answer.body_mut().frame()).await.unwrap().unwrap();
    assert_eq!(some.data_ref().map(Bytes::len), Some(1));
    drop(answer);
    let record = cluster.tells("the end", |record| record["http.status"] == 200).await;
    assert_eq!(record["flags"], "DC", "{record}");
}

#[tokio::test]
async fn a_silent_websocket_ends() {
    let cluster = Cluster::start_with("", IDLE).await;
    let caller = cluster.call("cart").await;
    let mut tunnel = chat(&caller).await;
    echo(&mut tunnel).await;
    drop(soon("end", tunnel.read_to_end(&mut Vec::new())).await);
    let record = cluster.tells("the end", |record| record["http.status"] == 101).await;
    assert_eq!((&record["flags"], &record["bytes_sent"]), (&"SI".into(), &3.into()));
}

#[tokio::test]
async fn no_client_takes_the_places_of_the_others() {
    let cluster = Cluster::start_with("", "[settings]\nmax_requests = 3\n").await;
    let (greedy, other) = (cluster.call("spy").await, cluster.call("cart").await);
    let mut held = Vec::new();
    for asked in [1, 2] {
        let mut tunnel = greedy.open().await.unwrap();
        tunnel.write_all(STALLED).await.unwrap();
        held.push(tunnel);
        crate::world::eventually("a request", async || (cluster.one.asked() == asked).then_some(())).await;
    }
    let refused = cluster.call("spy").await.get("/").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(other.get("/").await.status(), StatusCode::OK);
    let record = cluster.tells("a refusal", |record| record["flags"] == "OM").await;
    assert!(record["error"].to_string().contains("of this client"), "{record}");
}
