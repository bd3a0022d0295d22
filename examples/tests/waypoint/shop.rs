//! An application that tells what it was asked.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::App;

/// A shop, and how many requests it has answered.
pub struct Shop {
    pub app: App,
    pub asked: Arc<AtomicUsize>,
}

impl Shop {
    pub async fn open(ip: IpAddr, name: &'static str) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let app = App::start_at(ip, move |tcp| serve(tcp, name, Arc::clone(&count))).await;
        Self { app, asked }
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

async fn serve(tcp: TcpStream, name: &'static str, asked: Arc<AtomicUsize>) {
    let upgraded = Arc::new(Mutex::new(None));
    let slot = Arc::clone(&upgraded);
    let service = service_fn(move |request| answer(request, name, Arc::clone(&asked), Arc::clone(&slot)));
    let mut first = [0; 3];
    while tcp.peek(&mut first).await.unwrap_or(0) < 3 {
        if tcp.peek(&mut first).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let io = TokioIo::new(tcp);
    let served = match &first {
        b"PRI" => {
            http2::Builder::new(TokioExecutor::new())
                .serve_connection(io, service)
                .await
        }
        _ => {
            http1::Builder::new()
                .serve_connection(io, service)
                .with_upgrades()
                .await
        }
    };
    drop(served);
    let upgraded = upgraded.lock().unwrap().take();
    if let Some(upgraded) = upgraded {
        let mut io = TokioIo::new(upgraded.await.unwrap());
        let mut buf = [0; 1024];
        while let Ok(read @ 1..) = io.read(&mut buf).await {
            io.write_all(&buf[..read]).await.unwrap();
        }
    }
}

async fn answer(
    mut request: Request<Incoming>,
    name: &'static str,
    asked: Arc<AtomicUsize>,
    upgraded: Arc<Mutex<Option<OnUpgrade>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    asked.fetch_add(1, Ordering::Relaxed);
    let lines = request.headers();
    if lines.contains_key("upgrade") && !lines.contains_key("x-status") {
        let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        let mut response = response.header("connection", "upgrade").header("upgrade", "websocket");
        let said = |key: &HeaderValue| accept(key.as_bytes()).parse().unwrap();
        let said = lines
            .get("x-accept")
            .cloned()
            .or_else(|| lines.get("sec-websocket-key").map(said));
        if let Some(said) = said {
            response = response.header("sec-websocket-accept", said);
        }
        *upgraded.lock().unwrap() = Some(hyper::upgrade::on(&mut request));
        return Ok(response.body(Full::default()).unwrap());
    }
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let headers = head.headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.to_string(), Value::from(value))
    });
    let told = json!({
        "name": name,
        "method": head.method.as_str(),
        "uri": head.uri.to_string(),
        "version": format!("{:?}", head.version),
        "headers": headers.collect::<serde_json::Map<_, _>>(),
        "body": String::from_utf8_lossy(&body),
    });
    let mut response = Response::new(Full::from(told.to_string()));
    response.headers_mut().insert("x-shop", name.parse().unwrap());
    if let Some(status) = head.headers.get("x-status") {
        *response.status_mut() = StatusCode::from_bytes(status.as_bytes()).unwrap();
    }
    Ok(response)
}

/// What a key is answered with (RFC 6455 §4.2.2).
pub fn accept(key: &[u8]) -> String {
    let said = [key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &said))
}
