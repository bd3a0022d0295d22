use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use http::HeaderMap;
use http_body_util::{BodyExt, Full};
use hyper::body::Frame;
use mesh_xds_types::core::{HeaderValue, HeaderValueOption};
use mesh_xds_types::envoy_type::HttpStatus;
use mesh_xds_types::ext_authz::check_response::HttpResponse;
use mesh_xds_types::ext_authz::{CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse};
use mesh_xds_types::rpc;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;

use super::super::about::{About, End};
use super::super::{Authorized, External, fake};
use super::*;

const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

fn about() -> About<'static> {
    let end = End {
        address: ANYWHERE,
        identity: None,
    };
    About {
        source: end,
        destination: end,
        authority: "cart.shop",
        id: "id",
        time: SystemTime::UNIX_EPOCH,
    }
}

fn provider(addr: SocketAddr, more: &str) -> External {
    fake::external(&format!(
        "[[authorization]]\nname = 'opa'\nserver = {{ address = '{addr}' }}\n{more}"
    ))
}

fn request(body: &'static str) -> Request<Full<Bytes>> {
    let request = Request::post("/items").header("x-user", "admin").header("cookie", "a");
    request.body(Full::from(body)).unwrap()
}

async fn authorize(
    external: &External,
    body: &'static str,
) -> Result<Authorized<Full<Bytes>>, Unauthorized<Infallible>> {
    external.authorize(["opa"], request(body), &about()).await
}

fn refusal(outcome: Result<Authorized<Full<Bytes>>, Unauthorized<Infallible>>) -> (u16, Reason) {
    match outcome {
        Err(Unauthorized::Refused(refused)) => (refused.reply.status.as_u16(), refused.reason),
        other => panic!("{other:?}"),
    }
}

fn status(code: i32) -> Option<rpc::Status> {
    Some(rpc::Status {
        code,
        ..rpc::Status::default()
    })
}

fn line(key: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: key.into(),
            value: value.into(),
            raw_value: Vec::new(),
        }),
        ..HeaderValueOption::default()
    }
}

fn ok() -> CheckResponse {
    CheckResponse {
        status: status(0),
        ..CheckResponse::default()
    }
}

/// A provider that answers all alike, and what it was asked.
async fn answering(answer: CheckResponse) -> (fake::Fake, Arc<Mutex<Vec<CheckRequest>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&asked);
    let fake = fake::authorization(move |question| {
        record.lock().unwrap().push(question);
        let answer = answer.clone();
        async { Ok(answer) }
    });
    (fake.await, asked)
}

#[tokio::test]
async fn who_may_pass_does_with_what_the_provider_vouches_for() {
    let (fake, asked) = answering(CheckResponse {
        http_response: Some(HttpResponse::OkResponse(OkHttpResponse {
            headers: vec![line("X-User", "ann")],
            headers_to_remove: vec!["cookie".into(), ":path".into()],
            response_headers_to_add: vec![line("set-cookie", "b"), line("set-cookie", "c")],
            ..OkHttpResponse::default()
        })),
        ..ok()
    })
    .await;
    let external = provider(fake.addr, "context_extensions = { mesh = 'east' }");
    let authorized = authorize(&external, "body").await.unwrap();
    let (head, body) = authorized.request.into_parts();
    assert_eq!(head.headers.get_all("x-user").iter().collect::<Vec<_>>(), ["ann"]);
    assert!(!head.headers.contains_key("cookie") && head.uri == "/items");
    assert_eq!(body.collect().await.unwrap().to_bytes(), "body");
    let mut response = HeaderMap::new();
    authorized.response.apply(&mut response);
    assert_eq!(response.get_all("set-cookie").iter().collect::<Vec<_>>(), ["b", "c"]);

    let asked = asked.lock().unwrap();
    let attributes = asked[0].attributes.as_ref().unwrap();
    let told = attributes.request.as_ref().unwrap().http.as_ref().unwrap();
    assert_eq!((told.method.as_str(), told.size, told.body.as_str()), ("POST", 4, ""));
    assert_eq!(attributes.context_extensions["mesh"], "east");
}

#[tokio::test]
async fn a_denial_is_passed_on_with_status_headers_and_body() {
    let (fake, _) = answering(CheckResponse {
        status: status(7),
        http_response: Some(HttpResponse::DeniedResponse(DeniedHttpResponse {
            status: Some(HttpStatus { code: 302 }),
            headers: vec![line("location", "https://login.example/"), line("content-length", "1")],
            body: "log in".into(),
        })),
        ..CheckResponse::default()
    })
    .await;
    // Allowing failures allows no denial.
    for more in ["", "failure_mode_allow = true"] {
        let Err(Unauthorized::Refused(refused)) = authorize(&provider(fake.addr, more), "").await else {
            panic!()
        };
        assert_eq!((refused.reason, refused.reason.flag()), (Reason::Denied, "UAEX"));
        let response = http::Response::from(refused.reply);
        assert_eq!(
            (response.status().as_u16(), response.body().as_ref()),
            (302, b"log in".as_slice())
        );
        assert_eq!(response.headers()["location"], "https://login.example/");
        assert_eq!(response.headers()["content-type"], "text/plain");
        assert!(!response.headers().contains_key("content-length"));
    }
}

#[tokio::test]
async fn silence_refuses_unless_the_configuration_says_otherwise() {
    let slow = fake::authorization(|_| std::future::pending()).await;
    let failing = fake::authorization(async |_| Err(Status::internal("no"))).await;
    let long = fake::authorization(async |_| {
        let denied = DeniedHttpResponse {
            body: "x".repeat(MAX_ANSWER),
            ..DeniedHttpResponse::default()
        };
        Ok(CheckResponse {
            status: status(7),
            http_response: Some(HttpResponse::DeniedResponse(denied)),
            ..CheckResponse::default()
        })
    })
    .await;
    let other = fake::limits(|_| std::future::pending()).await;
    for (what, addr, time) in [
        ("slow", slow.addr, "timeout_ms = 20"),
        ("dead", fake::nobody().await, "timeout_ms = 60000"),
        ("failing", failing.addr, "timeout_ms = 60000"),
        ("too long", long.addr, "timeout_ms = 60000"),
        ("another service", other.addr, "timeout_ms = 60000"),
    ] {
        let closed = provider(addr, &format!("{time}\nstatus_on_error = 503"));
        let refused = refusal(authorize(&closed, "").await);
        assert_eq!(refused, (503, Reason::AuthorizationFailed), "{what}");
        let open = provider(addr, &format!("{time}\nfailure_mode_allow = true"));
        let authorized = authorize(&open, "body").await.unwrap();
        assert_eq!(authorized.request.headers()["x-user"], "admin", "{what}");
        assert_eq!(
            authorized.request.into_body().collect().await.unwrap().to_bytes(),
            "body",
            "{what}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_carried_out_always_refuses() {
    let forbidden = OkHttpResponse {
        headers: vec![line("transfer-encoding", "chunked")],
        ..OkHttpResponse::default()
    };
    for answer in [
        CheckResponse::default(),
        CheckResponse {
            http_response: Some(HttpResponse::OkResponse(forbidden)),
            ..ok()
        },
    ] {
        let (fake, _) = answering(answer).await;
        for more in ["", "failure_mode_allow = true"] {
            let refused = refusal(authorize(&provider(fake.addr, more), "").await);
            assert_eq!(refused, (403, Reason::AuthorizationFailed));
        }
    }
}

#[tokio::test]
async fn a_provider_is_told_so_much_of_a_body_and_the_service_gets_all() {
    let (fake, asked) = answering(ok()).await;
    for (more, body, told) in [
        ("", "", Some("")),
        ("", "abcd", Some("abcd")),
        ("", "abcde", None),
        ("allow_partial_message = true", "abcde", Some("abcd")),
    ] {
        asked.lock().unwrap().clear();
        let section = format!("[authorization.with_request_body]\nmax_request_bytes = 4\n{more}");
        let external = provider(fake.addr, &section);
        let outcome = authorize(&external, body).await;
        let Some(told) = told else {
            assert_eq!(refusal(outcome), (413, Reason::BodyTooLarge));
            assert!(asked.lock().unwrap().is_empty());
            continue;
        };
        assert_eq!(
            outcome.unwrap().request.into_body().collect().await.unwrap().to_bytes(),
            body
        );
        let asked = asked.lock().unwrap();
        let http = asked[0]
            .attributes
            .as_ref()
            .unwrap()
            .request
            .as_ref()
            .unwrap()
            .http
            .as_ref()
            .unwrap();
        assert_eq!((http.body.as_str(), http.size), (told, body.len() as i64));
        assert_eq!(http.headers["x-envoy-auth-partial-body"], (told != body).to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_a_provider_is_to_be_told_of_has_its_time() {
    let external = provider(ANYWHERE, "[authorization.with_request_body]\nmax_request_bytes = 1024");
    let slow = Request::post("/").body(Slow(Box::pin(sleep(Duration::ZERO)))).unwrap();
    let began = Instant::now();
    let outcome = external.authorize(["opa"], slow, &about()).await;
    let Err(Unauthorized::Refused(refused)) = outcome else {
        panic!()
    };
    assert_eq!(
        (refused.reply.status.as_u16(), refused.reason),
        (408, Reason::BodyTooSlow)
    );
    assert_eq!(began.elapsed(), BODY_TIMEOUT);
}

#[tokio::test]
async fn calls_beyond_the_bound_fail_at_once() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let release = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&release);
    let fake = fake::authorization(move |_| {
        let (arrived, held) = (arrived.clone(), Arc::clone(&held));
        async move {
            arrived.send(()).unwrap();
            held.acquire().await.unwrap().forget();
            Ok(ok())
        }
    })
    .await;
    let external = provider(fake.addr, "timeout_ms = 10000\nmax_in_flight = 2");
    let (first, second) = (authorize(&external, ""), authorize(&external, ""));
    let burst = async {
        arrivals.recv().await.unwrap();
        arrivals.recv().await.unwrap();
        for _ in 0..3 {
            assert_eq!(
                refusal(authorize(&external, "").await),
                (403, Reason::AuthorizationFailed)
            );
        }
        release.add_permits(3);
    };
    let (first, second, ()) = tokio::join!(first, second, burst);
    assert!(first.is_ok() && second.is_ok());
    assert!(authorize(&external, "").await.is_ok(), "places are given back");
}

#[tokio::test]
async fn all_providers_must_agree_and_be_known() {
    let (yes, asked) = answering(ok()).await;
    let (no, _) = answering(CheckResponse {
        status: status(16),
        ..CheckResponse::default()
    })
    .await;
    let external = fake::external(&format!(
        "[[authorization]]\nname = 'yes'\nserver = {{ address = '{}' }}\n\
         [[authorization]]\nname = 'no'\nserver = {{ address = '{}' }}",
        yes.addr, no.addr
    ));
    let ask = async |names: &[&'static str]| external.authorize(names.iter().copied(), request(""), &about()).await;
    assert!(ask(&["yes"]).await.is_ok());
    assert_eq!(refusal(ask(&["yes", "no"]).await), (403, Reason::Denied));
    assert_eq!(
        refusal(ask(&["yes", "nobody"]).await),
        (403, Reason::AuthorizationFailed)
    );
    assert_eq!(asked.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_call_can_be_made_by_a_task_of_any_thread() {
    fn sent<F: Future + Send>(call: F) -> F {
        call
    }
    let external = provider(fake::nobody().await, "");
    assert!(sent(authorize(&external, "")).await.is_err());
}

/// A body of which a byte comes each second.
struct Slow(Pin<Box<Sleep>>);

impl Body for Slow {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.0.as_mut().poll(cx));
        self.0.as_mut().reset(Instant::now() + Duration::from_secs(1));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
    }
}
