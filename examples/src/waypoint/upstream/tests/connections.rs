use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Request;
use mesh_policy::traffic::breaker::Resource;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::world::{App, Gone, Log, World, answer, get, in_turn, limits, post, retries, rule};
use crate::waypoint::body;
use crate::waypoint::upstream::error::Fault;

const SECOND: Duration = Duration::from_secs(1);

/// Reads up to the end of a head.
async fn head(io: &mut DuplexStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

#[tokio::test(start_paused = true)]
async fn connections_are_used_again() {
    for is_http2 in [false, true] {
        let world = World::new(
            is_http2,
            [(
                "app",
                App::http(async |request| {
                    // With content and without.
                    Ok(answer(200, request.uri().query().unwrap_or_default().to_owned()))
                }),
            )],
        );
        let mut order = world.order();
        for number in 0..10 {
            let mut request = get(number);
            *request.uri_mut() = ["http://shop/", "http://shop/?text"][number % 2].parse().unwrap();
            assert_eq!(world.ask(request, &order).await.0, 200);
        }
        assert_eq!(world.net.dials("app"), 1);
        order.rule = limits(|limits| limits.idle_timeout = Some(5 * SECOND));
        tokio::time::sleep(4 * SECOND).await;
        world.ask(get(10), &order).await;
        assert_eq!(world.net.dials("app"), 1);
        tokio::time::sleep(20 * SECOND).await;
        world.ask(get(11), &order).await;
        assert_eq!(world.net.dials("app"), 2);
        order.rule = limits(|limits| limits.requests_per_connection = Some(2));
        for number in 0..8 {
            world.ask(get(number), &order).await;
        }
        assert!((5..=6).contains(&world.net.dials("app")), "{}", world.net.dials("app"));
    }
}

#[tokio::test(start_paused = true)]
async fn many_requests_make_one_connection_of_http2() {
    let log = Log::default();
    let world = World::new(true, [("app", App::answering(200, "app", &log))]);
    let order = world.order();
    let asked = (0..50).map(|number| world.ask(get(number), &order));
    let mut asked: Vec<_> = asked.map(Box::pin).collect();
    for asking in &mut asked {
        // Begun one after the other; the first makes the connection for all.
        std::future::poll_fn(|cx| {
            assert!(asking.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
    }
    for asking in asked {
        assert_eq!(asking.await.0, 200);
    }
    assert_eq!(world.net.dials("app"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_gone_before_the_request_costs_nothing() {
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    // Answers one request, and is gone without a word.
    let once = App::raw(move |mut io| {
        let count = Arc::clone(&count);
        async move {
            if head(&mut io).await.is_some() {
                count.fetch_add(1, Ordering::SeqCst);
                io.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                    .await
                    .unwrap();
            }
        }
    });
    let world = World::new(false, [("once", once)]);
    let mut order = world.order();
    order.retries = retries(0, "");
    for number in 0..20 {
        let (status, _, attempts) = world.ask(post(number, "text"), &order).await;
        assert_eq!((status, attempts), (200, 1));
    }
    assert_eq!(served.load(Ordering::SeqCst), 20);
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_done_is_done_again_only_if_that_is_safe() {
    for is_http2 in [false, true] {
        let done = Log::default();
        let leaving = |done: &Log| {
            let done = done.clone();
            App::http(move |_| {
                done.note("done");
                async { Err(Gone) }
            })
        };
        let world = World::new(is_http2, [("one", leaving(&done)), ("other", leaving(&done))]);
        let mut order = world.order();
        order.retries = retries(1, "reset");
        let error = world.send(post(1, ""), &order).await.unwrap_err();
        assert!(matches!(error.fault, Fault::Reset(_)), "{error}");
        assert_eq!((error.attempts, done.take().len()), (1, 1));
        let error = world.send(get(1), &order).await.unwrap_err();
        assert_eq!((error.attempts, done.take().len()), (2, 2));
        assert_eq!(error.flags().to_string(), "UC,URX");
    }
}

/// An HTTP/2 server that answers a request with a frame of its stream instead, or of the connection.
fn refusing(frame: &'static [u8], is_of_stream: bool) -> App {
    App::raw(move |mut io| async move {
        let mut preface = [0; 24];
        drop(io.read_exact(&mut preface).await);
        // Empty settings.
        drop(io.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await);
        let mut header = [0; 9];
        while io.read_exact(&mut header).await.is_ok() {
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
            let mut payload = vec![0; length];
            drop(io.read_exact(&mut payload).await);
            if header[3] == 1 {
                let mut frame = frame.to_vec();
                if is_of_stream {
                    frame[5..9].copy_from_slice(&header[5..9]);
                }
                drop(io.write_all(&frame).await);
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn what_a_peer_of_http2_did_not_take_goes_elsewhere() {
    let go_away: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let refused: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    let cancelled: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 0, 0, 0, 0, 8];
    for (frame, is_of_stream, is_safe) in [(go_away, false, true), (refused, true, true), (cancelled, true, false)] {
        let log = Log::default();
        let world = World::new(
            true,
            [
                ("refuses", refusing(frame, is_of_stream)),
                ("well", App::answering(200, "well", &log)),
            ],
        );
        let mut order = world.order();
        order.retries = retries(2, "reset");
        order.rule = rule(in_turn);
        let mut statuses = Vec::new();
        for number in 0..10 {
            statuses.push(world.ask(post(number, "text"), &order).await.0);
        }
        assert!(world.net.dials("refuses") > 0);
        assert_eq!(statuses.iter().all(|status| *status == 200), is_safe, "{statuses:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_given_up_leave_nothing() {
    for is_http2 in [false, true] {
        let hanging = App::http(|_| std::future::pending::<Result<_, Gone>>());
        let world = World::new(is_http2, [("hangs", hanging), ("silent", App::Silent)]);
        let order = world.order();
        for number in 0..50 {
            let asked = tokio::time::timeout(SECOND, world.send(post(number, "x"), &order)).await;
            assert!(asked.is_err());
        }
        tokio::time::sleep(SECOND).await;
        let state = world.cluster(&order).state();
        for resource in [Resource::Pending, Resource::Requests, Resource::Retries] {
            assert_eq!(state.breaker.in_use(resource), 0, "{resource}");
        }
        assert_eq!(state.requests_under_way(), 0);
        // An HTTP/1.1 connection ends with its request, one of HTTP/2 is for others.
        assert!(state.breaker.in_use(Resource::Connections) <= u32::from(is_http2));
    }
}

#[tokio::test(start_paused = true)]
async fn connections_end_with_what_they_carry_when_all_is_to_end() {
    for is_http2 in [false, true] {
        let app = App::http(async |_| Ok(answer(200, "x".repeat(100_000))));
        let world = World::new(is_http2, [("app", app)]);
        let order = world.order();
        world.ask(get(1), &order).await;
        let sent = world.send(get(2), &order).await.unwrap();
        world.upstream.close();
        let breaker = &world.cluster(&order).state().breaker;
        assert_eq!(breaker.in_use(Resource::Connections), 1);
        assert_eq!(
            sent.response.into_body().collect().await.unwrap().to_bytes().len(),
            100_000
        );
        tokio::time::sleep(SECOND).await;
        assert_eq!(breaker.in_use(Resource::Connections), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn another_mesh_keeps_the_connections_to_who_is_still_there() {
    for is_http2 in [false, true] {
        let log = Log::default();
        let mut world = World::new(
            is_http2,
            [
                ("one", App::answering(200, "one", &log)),
                ("other", App::answering(200, "other", &log)),
            ],
        );
        let order = world.order();
        for number in 0..20 {
            world.ask(get(number), &order).await;
        }
        assert_eq!((world.net.dials("one"), world.net.dials("other")), (1, 1));
        world.mesh(&["one"]);
        let order = world.order();
        for number in 0..20 {
            assert_eq!(world.ask(get(number), &order).await.1, "one");
        }
        assert_eq!(world.net.dials("one"), 1);
        tokio::time::sleep(30 * SECOND).await;
        let breaker = &world.cluster(&order).state().breaker;
        assert_eq!(breaker.in_use(Resource::Connections), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_becomes_another_protocols_holds_its_places() {
    let app = App::raw(|mut io| async move {
        head(&mut io).await;
        io.write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
            .await
            .unwrap();
        let mut word = [0; 4];
        io.read_exact(&mut word).await.unwrap();
        io.write_all(&word).await.unwrap();
    });
    let world = World::new(false, [("app", app)]);
    let order = world.order();
    let request = Request::get("http://shop/")
        .header("connection", "upgrade")
        .header("upgrade", "echo")
        .body(body::whole(""))
        .unwrap();
    let mut sent = world.send(request, &order).await.unwrap();
    assert_eq!(sent.response.status(), 101);
    let upgraded = hyper::upgrade::on(&mut sent.response).await.unwrap();
    drop(sent);
    let state = world.cluster(&order).state();
    assert_eq!(
        (state.breaker.in_use(Resource::Requests), state.requests_under_way()),
        (1, 1)
    );
    let mut io = hyper_util::rt::TokioIo::new(upgraded);
    io.write_all(b"ping").await.unwrap();
    let mut word = [0; 4];
    io.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"ping");
    drop(io);
    tokio::time::sleep(SECOND).await;
    assert_eq!(
        (state.breaker.in_use(Resource::Requests), state.requests_under_way()),
        (0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn an_answers_head_has_a_bound_by_any_protocol() {
    for is_http2 in [false, true] {
        for (bytes, fits) in [(50 * 1024, true), (70 * 1024, false)] {
            let long = App::http(move |_| {
                let mut long = answer(200, "");
                for number in 0..10 {
                    let name = http::HeaderName::try_from(format!("x-{number}")).unwrap();
                    long.headers_mut().insert(name, "x".repeat(bytes / 10).parse().unwrap());
                }
                async { Ok(long) }
            });
            let world = World::new(is_http2, [("long", long)]);
            let mut order = world.order();
            order.retries = retries(0, "");
            assert_eq!(world.send(get(1), &order).await.is_ok(), fits, "{bytes}");
        }
    }
}
