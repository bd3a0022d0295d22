use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::world::{App, Gone, Log, World, answer, in_turn, post, retries, rule};
use crate::waypoint::body::{Body, BodyError};
use crate::waypoint::upstream::error::Fault;

/// A body that comes as its sender sends it.
struct Trickle(mpsc::Receiver<Result<Bytes, BodyError>>);

impl hyper::body::Body for Trickle {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0
            .poll_recv(cx)
            .map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }
}

pub(super) fn trickle() -> (mpsc::Sender<Result<Bytes, BodyError>>, Request<Body>) {
    let (sender, receiver) = mpsc::channel(8);
    let request = Request::put("http://shop/a")
        .body(Body::new(Trickle(receiver)))
        .unwrap();
    (sender, request)
}

/// Reads a chunk, and goes away.
fn leaving() -> App {
    App::http(async |request| {
        let _ = request.into_body().frame().await;
        Err(Gone)
    })
}

#[tokio::test(start_paused = true)]
async fn a_body_is_sent_again_for_as_long_as_all_of_it_is_kept() {
    for is_http2 in [false, true] {
        for (size, attempts) in [(10, 3), (60_000, 3), (70_000, 1)] {
            let log = Log::default();
            let world = World::new(is_http2, [("ill", App::answering(503, "ill", &log))]);
            let mut order = world.order();
            order.retries = retries(2, "503");
            let text = "x".repeat(size);
            let mut request = post(0, &text);
            *request.method_mut() = hyper::Method::PUT;
            let (status, _, tried) = world.ask(request, &order).await;
            assert_eq!((status, tried), (503, attempts), "{size}");
            let seen = log.take();
            assert!(seen.iter().all(|line| *line == format!("ill PUT 0{text}")), "{size}");
            assert_eq!(seen.len(), attempts as usize);
        }
    }
}

/// Answers before it has read anything, and reads on.
struct Reading(hyper::body::Incoming);

impl hyper::body::Body for Reading {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        while let Poll::Ready(Some(Ok(_))) = Pin::new(&mut self.0).poll_frame(cx) {}
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_is_not_read_on_between_two_attempts() {
    for is_http2 in [false, true] {
        let log = Log::default();
        let early = App::http(async |request| {
            let mut answer = hyper::Response::new(Body::new(Reading(request.into_body())));
            *answer.status_mut() = hyper::StatusCode::SERVICE_UNAVAILABLE;
            answer.headers_mut().insert("retry-after", "1".parse().unwrap());
            Ok(answer)
        });
        let world = World::new(
            is_http2,
            [("early", early), ("well", App::answering(200, "well", &log))],
        );
        let mut order = world.order();
        order.retries = retries(1, "503");
        order.rule = rule(in_turn);
        for _ in 0..2 {
            let (sender, request) = trickle();
            let asking = world.ask(request, &order);
            let sending = async {
                for _ in 0..30 {
                    sender.send(Ok("x".repeat(10_000).into())).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                drop(sender);
            };
            let ((status, ..), ()) = tokio::join!(asking, sending);
            assert_eq!(status, 200);
        }
        let seen = log.take();
        assert_eq!(seen.len(), 2);
        assert!(seen.iter().all(|line| line.len() == "well PUT ".len() + 300_000));
    }
}

#[tokio::test(start_paused = true)]
async fn half_a_body_goes_on_elsewhere() {
    for is_http2 in [false, true] {
        let log = Log::default();
        let world = World::new(
            is_http2,
            [("leaves", leaving()), ("well", App::answering(200, "well", &log))],
        );
        let mut order = world.order();
        order.retries = retries(3, "reset");
        for _ in 0..10 {
            let (sender, request) = trickle();
            let asking = world.ask(request, &order);
            let sending = async {
                sender.send(Ok("one".into())).await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
                sender.send(Ok("two".into())).await.unwrap();
                drop(sender);
            };
            let ((status, ..), ()) = tokio::join!(asking, sending);
            assert_eq!(status, 200);
        }
        assert!(log.take().iter().all(|line| line == "well PUT onetwo"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_fails_is_not_tried_again() {
    for is_http2 in [false, true] {
        let log = Log::default();
        let world = World::new(is_http2, [("well", App::answering(200, "well", &log))]);
        let mut order = world.order();
        order.retries = retries(3, "5xx");
        let (sender, request) = trickle();
        let sending = async {
            sender.send(Ok("one".into())).await.unwrap();
            sender.send(Err(BodyError::Timeout)).await.unwrap();
        };
        let (sent, ()) = tokio::join!(world.send(request, &order), sending);
        let error = sent.unwrap_err();
        assert!(matches!(error.fault, Fault::Client), "{error}");
        assert_eq!(error.attempts, 1);
        assert!(log.take().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn an_early_answer_is_passed_on() {
    for is_http2 in [false, true] {
        let world = World::new(is_http2, [("early", App::http(async |_| Ok(answer(413, "too much"))))]);
        let (sender, request) = trickle();
        sender.send(Ok("one".into())).await.unwrap();
        let (status, text, _) = world.ask(request, &world.order()).await;
        assert_eq!((status, &*text), (413, "too much"));
    }
}
