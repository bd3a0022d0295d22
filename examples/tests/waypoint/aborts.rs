//! WebSockets that are aborted: neither side takes that for an end in order.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use hyper::{Method, Request, StatusCode};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::cluster::{Caller, Cluster};
use crate::shop::{Shop, accept};
use crate::withdrawal::{chat, echo};
use crate::world::{App, eventually, soon};

const DENY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-chat, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: '', name: till}]
  action: DENY
  rules: [{to: [{operation: {paths: [/chat]}}]}]
";

/// How clients have ended.
type Ends = Arc<Mutex<Vec<&'static str>>>;

/// A cluster whose application notes the ends of WebSockets.
async fn cluster() -> (Cluster, Ends) {
    let ends = Ends::default();
    let noted = Arc::clone(&ends);
    let cluster = Cluster::start_before(async |ip| Shop {
        app: App::start_at(ip, move |tcp| converse(tcp, Arc::clone(&noted))).await,
        asked: Arc::default(),
    })
    .await;
    (cluster, ends)
}

/// Opens a WebSocket, and sends back what is said, until `end` or `cut` asks for that.
async fn converse(mut tcp: TcpStream, ends: Ends) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match tcp.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let key = lines
        .clone()
        .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
    let said = key.map_or_else(String::new, |(_, key)| {
        format!("sec-websocket-accept: {}\r\n", accept(key.as_bytes()))
    });
    let answer = format!("HTTP/1.1 101 Up\r\nconnection: upgrade\r\nupgrade: websocket\r\n{said}\r\n");
    tcp.write_all(answer.as_bytes()).await.unwrap();
    let (mut word, mut has_ended) = ([0; 3], false);
    let end = loop {
        match tcp.read_exact(&mut word).await {
            Ok(_) if &word == b"cut" => {
                SockRef::from(&tcp).set_linger(Some(Duration::ZERO)).unwrap();
                return;
            }
            Ok(_) if &word == b"end" => {
                tcp.shutdown().await.unwrap();
                has_ended = true;
            }
            Ok(_) if has_ended => {}
            Ok(_) => tcp.write_all(&word).await.unwrap(),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break "end",
            Err(_) => break "reset",
        }
    };
    ends.lock().unwrap().push(end);
}

/// A WebSocket by HTTP/2.
struct Chat {
    sending: SendStream<Bytes>,
    receiving: RecvStream,
    _connection: JoinSet<()>,
}

impl Chat {
    async fn open(caller: &Caller) -> Self {
        let tunnel = caller.open().await.unwrap();
        let (mut client, connection) = h2::client::handshake(tunnel).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async { drop(connection.await) });
        eventually("leave to ask", async || {
            client.is_extended_connect_protocol_enabled().then_some(())
        })
        .await;
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri("http://till.shop.svc/chat");
        let request = request.header("sec-websocket-version", "13");
        let request = request.extension(Protocol::from_static("websocket")).body(()).unwrap();
        let (answer, sending) = client.send_request(request, false).unwrap();
        let answer = soon("answer", answer).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        Self {
            sending,
            receiving: answer.into_body(),
            _connection: tasks,
        }
    }

    fn say(&mut self, word: &'static str) {
        self.sending.send_data(word.into(), false).unwrap();
    }

    /// What comes next.
    async fn hear(&mut self) -> Option<Result<Bytes, h2::Error>> {
        loop {
            match soon("word", self.receiving.data()).await {
                Some(Ok(nothing)) if nothing.is_empty() => {}
                heard => return heard,
            }
        }
    }

    async fn echo(&mut self) {
        self.say("one");
        assert_eq!(self.hear().await.unwrap().unwrap(), "one");
    }

    async fn is_reset(&mut self) {
        let error = self.hear().await.expect("no end in order").unwrap_err();
        assert_eq!(error.reason(), Some(Reason::CANCEL), "{error}");
    }
}

async fn told(ends: &Ends, end: &str) {
    eventually("the end of a client", async || {
        let told = ends.lock().unwrap().pop()?;
        assert_eq!(told, end);
        Some(())
    })
    .await;
}

#[tokio::test]
async fn a_client_that_aborts_has_not_ended() {
    let (cluster, ends) = cluster().await;
    let caller = cluster.call("cart").await;
    for reason in [Reason::CANCEL, Reason::NO_ERROR, Reason::INTERNAL_ERROR] {
        let mut chat = Chat::open(&caller).await;
        chat.echo().await;
        chat.sending.send_reset(reason);
        told(&ends, "reset").await;
    }
    // So does one whose last word is under way.
    let mut chat = Chat::open(&caller).await;
    chat.echo().await;
    chat.say("two");
    drop(chat);
    told(&ends, "reset").await;
    let mut tunnel = self::chat(&caller).await;
    echo(&mut tunnel).await;
    drop(tunnel);
    told(&ends, "reset").await;
    let is_abort = |record: &serde_json::Value| record["flags"] == "UC" && record["http.status"] == 200;
    cluster.tells("an abort", is_abort).await;
}

#[tokio::test]
async fn an_endpoint_that_aborts_has_not_ended() {
    let (cluster, _) = cluster().await;
    let caller = cluster.call("cart").await;
    let mut chat = Chat::open(&caller).await;
    chat.echo().await;
    chat.say("cut");
    chat.is_reset().await;
    let mut tunnel = self::chat(&caller).await;
    echo(&mut tunnel).await;
    tunnel.write_all(b"cut").await.unwrap();
    assert!(soon("end", tunnel.read_to_end(&mut Vec::new())).await.is_err());
}

#[tokio::test]
async fn a_withdrawn_websocket_has_not_ended() {
    let (cluster, ends) = cluster().await;
    let caller = cluster.call("cart").await;
    let mut chat = Chat::open(&caller).await;
    chat.echo().await;
    cluster.change(DENY, 1).await;
    chat.is_reset().await;
    told(&ends, "reset").await;
}

#[tokio::test]
async fn each_side_ends_in_order_by_itself() {
    let (cluster, ends) = cluster().await;
    let caller = cluster.call("cart").await;
    // The client first.
    let mut chat = Chat::open(&caller).await;
    chat.echo().await;
    chat.sending.send_data(Bytes::new(), true).unwrap();
    assert!(chat.hear().await.is_none());
    told(&ends, "end").await;
    // The endpoint first, which hears on.
    let mut chat = Chat::open(&caller).await;
    chat.say("end");
    assert!(chat.hear().await.is_none());
    chat.sending.send_data("two".into(), true).unwrap();
    told(&ends, "end").await;
    // Its room is free again, whoever ended and how.
    let mut chat = Chat::open(&caller).await;
    chat.echo().await;
}
