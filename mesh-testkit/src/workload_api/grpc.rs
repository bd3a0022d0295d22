use std::sync::Arc;

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::protobuf::fields;
use super::{Call, Reply, Shared, code};

const HEADER: &str = "workload.spiffe.io";

/// Serves one connection until it ends or is cut.
pub(super) async fn serve(shared: Arc<Shared>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let mut cuts = shared.cuts.subscribe();
    let serving = async {
        let Ok(mut connection) = server::handshake(stream).await else {
            return;
        };
        let mut calls = JoinSet::new();
        while let Some(Ok((request, respond))) = connection.accept().await {
            calls.spawn(call(Arc::clone(&shared), request, respond));
        }
    };
    tokio::select! {
        () = serving => {}
        // The sender lives as long as the connection's `shared`.
        _ = cuts.changed() => {}
    }
}

async fn call(shared: Arc<Shared>, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let path = request.uri().path().to_owned();
    let has_header = request.headers().get_all(HEADER).iter().eq(["true"]);
    let Some(message) = body(request.into_body()).await else {
        return;
    };
    let call = Call {
        method: path.trim_start_matches("/SpiffeWorkloadAPI/").to_owned(),
        has_header,
        fields: fields(message.get(5..).expect("a framed message")),
    };
    shared.calls.send_modify(|calls| calls.push(call.clone()));
    let response = Response::builder().header("content-type", "application/grpc");
    let Ok(mut stream) = respond.send_response(response.body(()).unwrap(), false) else {
        return;
    };
    // The client may be gone at any moment, which is for nobody to know.
    drop(match call.method.as_str() {
        _ if !has_header => status(
            &mut stream,
            code::INVALID_ARGUMENT,
            "security header missing from request",
        ),
        "FetchX509SVID" => follow(stream, shared.x509.subscribe()).await,
        "FetchJWTBundles" => follow(stream, shared.jwt_bundles.subscribe()).await,
        "FetchJWTSVID" | "ValidateJWTSVID" => {
            let answer = Arc::clone(&*shared.answer.lock().unwrap());
            match say(&mut stream, &answer(&call)) {
                Ok(Next::Open) => status(&mut stream, 0, ""),
                Ok(Next::Silent) => std::future::pending().await,
                ended => ended.map(drop),
            }
        }
        _ => status(&mut stream, code::UNIMPLEMENTED, "no such method"),
    });
}

/// Says what is to be said, and again whenever it changes.
async fn follow(mut stream: SendStream<Bytes>, mut replies: watch::Receiver<Reply>) -> Result<(), h2::Error> {
    loop {
        let reply = replies.borrow_and_update().clone();
        if let Next::Ended = say(&mut stream, &reply)? {
            return Ok(());
        }
        tokio::select! {
            changed = replies.changed() => if changed.is_err() { return Ok(()) },
            reset = std::future::poll_fn(|cx| stream.poll_reset(cx)) => return reset.map(drop),
        }
    }
}

/// How a stream is after something was said.
enum Next {
    Open,
    Silent,
    Ended,
}

fn say(stream: &mut SendStream<Bytes>, reply: &Reply) -> Result<Next, h2::Error> {
    match reply {
        Reply::Message(message) => {
            let mut framed = vec![0];
            framed.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
            framed.extend_from_slice(message);
            stream.send_data(framed.into(), false)?;
            Ok(Next::Open)
        }
        Reply::Raw(bytes) => {
            stream.send_data(bytes.clone().into(), false)?;
            Ok(Next::Silent)
        }
        Reply::Status(code, message) => status(stream, *code, message).map(|()| Next::Ended),
        Reply::End => status(stream, 0, "").map(|()| Next::Ended),
        Reply::Silence => Ok(Next::Silent),
    }
}

fn status(stream: &mut SendStream<Bytes>, code: u16, message: &str) -> Result<(), h2::Error> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.into());
    // Percent-encoding is how gRPC writes what no header can hold.
    let encoded: String = message
        .bytes()
        .map(|byte| match byte {
            b' '..=b'~' if byte != b'%' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect();
    trailers.insert("grpc-message", HeaderValue::from_str(&encoded).unwrap());
    stream.send_trailers(trailers)
}

async fn body(mut body: RecvStream) -> Option<Vec<u8>> {
    let mut received = Vec::new();
    while let Some(part) = body.data().await {
        let part = part.ok()?;
        body.flow_control().release_capacity(part.len()).ok()?;
        received.extend_from_slice(&part);
    }
    Some(received)
}
