//! Whom else requests need the consent of: policies with the action CUSTOM.

use std::net::SocketAddr;

use mesh_xds_types::envoy_type::HttpStatus;
use mesh_xds_types::ext_authz::check_response::HttpResponse;
use mesh_xds_types::ext_authz::{CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse};
use mesh_xds_types::rate_limit::RateLimitResponse;
use mesh_xds_types::rate_limit::rate_limit_response::Code;
use mesh_xds_types::rpc::Status;

use crate::cluster::{Cluster, get, told};
use crate::counted::limits;
use crate::issuer::Issuer;
use crate::nodes::identity;
use crate::scripted::{Scripted, line, option};
use crate::world::free_addr;

pub const CUSTOM: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask-opa, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: '', name: till}]
  action: CUSTOM
  provider: {name: opa}
  rules: [{to: [{operation: {paths: [/asked, /asked/*]}}]}]
---
";

const DENY_DELETED: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nothing-deleted, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: '', name: till}]
  action: DENY
  rules: [{to: [{operation: {paths: [/asked/deleted]}}]}]
---
";

pub fn provider(addr: SocketAddr, more: &str) -> String {
    format!(
        "[[external.authorization]]\nname = \"opa\"\nserver = {{ address = \"{addr}\" }}\ntimeout_ms = 10000\n{more}\n"
    )
}

pub fn allowed(ok: OkHttpResponse) -> CheckResponse {
    CheckResponse {
        status: Some(Status::default()),
        http_response: Some(HttpResponse::OkResponse(ok)),
        ..CheckResponse::default()
    }
}

pub fn denied() -> CheckResponse {
    CheckResponse {
        status: Some(Status {
            code: 7,
            ..Status::default()
        }),
        http_response: Some(HttpResponse::DeniedResponse(DeniedHttpResponse {
            status: Some(HttpStatus { code: 401 }),
            headers: vec![option("www-authenticate", "Basic"), option("x-why", "no badge")],
            body: "show your badge".to_owned(),
        })),
        ..CheckResponse::default()
    }
}

/// What a provider was told of a request: who sends it, its method and its path.
fn told_of(question: &CheckRequest) -> [&str; 3] {
    let attributes = question.attributes.as_ref().unwrap();
    let http = attributes.request.as_ref().unwrap().http.as_ref().unwrap();
    [&attributes.source.as_ref().unwrap().principal, &http.method, &http.path]
}

#[tokio::test]
async fn who_agrees_may_change_request_and_answer() {
    let opa = Scripted::provider(|_| {
        allowed(OkHttpResponse {
            headers: vec![option("x-user", "ann")],
            headers_to_remove: vec!["cookie".to_owned()],
            response_headers_to_add: vec![option("x-checked", "by opa")],
            ..OkHttpResponse::default()
        })
    })
    .await;
    let cluster = Cluster::start_with(CUSTOM, &provider(opa.addr, "")).await;
    let caller = cluster.call("cart").await;
    let lines = [("x-user", "admin"), ("cookie", "a=b")];
    let answer = caller.send(get("/asked/it", &lines)).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["x-checked"]),
        (200, &"by opa".parse().unwrap())
    );
    let headers = &told(&answer)["headers"];
    assert_eq!((&headers["x-user"], headers.get("cookie")), (&"ann".into(), None));
    // No policy has it asked about this one.
    let answer = caller.send(get("/other", &lines)).await;
    assert!(answer.headers().get("x-checked").is_none());
    assert_eq!(told(&answer)["headers"]["x-user"], "admin");
    let asked = opa.asked();
    let client = identity("cart").to_string();
    assert_eq!(
        asked.iter().map(told_of).collect::<Vec<_>>(),
        [[&*client, "GET", "/asked/it"]]
    );
    assert_eq!(
        cluster.counters("ext_authz_").await,
        ["ext_authz_ok_total{provider=\"opa\"} 1"]
    );
}

#[tokio::test]
async fn a_refusal_is_the_answer() {
    let opa = Scripted::provider(|_| denied()).await;
    let cluster = Cluster::start_with(CUSTOM, &provider(opa.addr, "failure_mode_allow = true")).await;
    let caller = cluster.call("cart").await;
    let answer = caller.get("/asked").await;
    assert_eq!(
        (answer.status().as_u16(), &answer.body()[..]),
        (401, &b"show your badge"[..])
    );
    let headers = answer.headers();
    assert_eq!(
        (&headers["www-authenticate"], &headers["x-why"]),
        (&"Basic".parse().unwrap(), &"no badge".parse().unwrap())
    );
    assert_eq!(cluster.one.asked(), 0);
    cluster.tells("a refusal", |record| record["flags"] == "UAEX").await;
    assert_eq!(
        cluster.counters("ext_authz_").await,
        ["ext_authz_denied_total{provider=\"opa\"} 1"]
    );
}

#[tokio::test]
async fn silence_is_a_refusal_unless_the_configuration_says_otherwise() {
    for (more, status, expected) in [
        (
            "status_on_error = 503",
            503,
            vec!["ext_authz_error_total{provider=\"opa\"} 2"],
        ),
        (
            "failure_mode_allow = true",
            200,
            vec![
                "ext_authz_error_total{provider=\"opa\"} 2",
                "ext_authz_failure_mode_allowed_total{provider=\"opa\"} 2",
            ],
        ),
    ] {
        let cluster = Cluster::start_with(CUSTOM, &provider(free_addr(), more)).await;
        let caller = cluster.call("cart").await;
        for _ in 0..2 {
            assert_eq!(caller.get("/asked").await.status().as_u16(), status, "{more}");
        }
        assert_eq!(cluster.one.asked(), if status == 200 { 2 } else { 0 });
        assert_eq!(cluster.counters("ext_authz_").await, expected);
    }
}

/// As in Istio: first whom CUSTOM policies ask, then tokens, then DENY and ALLOW.
#[tokio::test]
async fn others_are_asked_before_tokens_and_policies() {
    let issuer = Issuer::new("https://issuer.test");
    let token = format!("Bearer {}", issuer.token("ann"));
    let opa = Scripted::provider(move |question| match told_of(question) {
        [_, _, "/asked/refused"] => denied(),
        // As a provider does that has sent people to log in.
        [_, _, "/asked/logged-in"] => allowed(OkHttpResponse {
            headers: vec![option("authorization", &token)],
            ..OkHttpResponse::default()
        }),
        _ => allowed(OkHttpResponse {
            response_headers_to_add: vec![option("x-checked", "by opa")],
            ..OkHttpResponse::default()
        }),
    })
    .await;
    let objects = [CUSTOM, DENY_DELETED, &issuer.rule(&issuer.inline()), &issuer.needed()].concat();
    let cluster = Cluster::start_with(&objects, &provider(opa.addr, "")).await;
    let caller = cluster.call("cart").await;
    let bad = ("authorization", "Bearer a.b.c");
    for (path, lines, status) in [
        // Its token is none, but nobody has looked at it yet.
        ("/asked/refused", &[bad][..], "401 show your badge"),
        ("/asked/it", &[bad], "401 Jwt"),
        ("/asked/it", &[], "403 RBAC"),
        ("/asked/deleted", &[], "403 RBAC"),
        ("/asked/logged-in", &[], "200 "),
    ] {
        let answer = caller.send(get(path, lines)).await;
        let text = format!(
            "{} {}",
            answer.status().as_u16(),
            String::from_utf8_lossy(answer.body())
        );
        assert!(text.starts_with(status), "{path}: {text}");
        // Who has agreed has a say in the answer, whoever gives it.
        let is_checked = answer.headers().get("x-checked").is_some();
        assert_eq!(is_checked, ["/asked/it", "/asked/deleted"].contains(&path), "{path}");
    }
    assert_eq!(opa.asked().len(), 5);
    assert_eq!(cluster.one.asked(), 1);
}

/// As in Istio, where each provider has a filter of its own: what one changes about a request may be
/// what the next one's policy turns on.
#[tokio::test]
async fn whoever_a_change_concerns_is_asked_too() {
    let tiers = Scripted::provider(|_| {
        allowed(OkHttpResponse {
            headers: vec![option("x-tier", "admin")],
            ..OkHttpResponse::default()
        })
    })
    .await;
    let opa = Scripted::provider(|question| match told_of(question) {
        [_, "DELETE", _] => denied(),
        _ => allowed(OkHttpResponse::default()),
    })
    .await;
    let of_tier = CUSTOM.replace(
        "to: [{operation: {paths: [/asked, /asked/*]}}]",
        "when: [{key: 'request.headers[x-tier]', values: [admin]}]",
    );
    let for_all = CUSTOM
        .replace("ask-opa", "ask-tiers")
        .replace("name: opa", "name: tiers")
        .replace("/asked, /asked/*", "/*");
    let config = provider(opa.addr, "") + &provider(tiers.addr, "").replace("opa", "tiers");
    let cluster = Cluster::start_with(&(of_tier + &for_all), &config).await;
    let caller = cluster.call("cart").await;
    let mut delete = get("/", &[]);
    *delete.method_mut() = hyper::Method::DELETE;
    assert_eq!(caller.send(delete).await.status(), 401);
    assert_eq!(cluster.one.asked(), 0);
    assert_eq!(caller.get("/").await.status(), 200);
    assert_eq!((tiers.asked().len(), opa.asked().len()), (2, 2));
}

/// As in Envoy, where an answer passes the filters in reverse, one of a filter's own like any other.
#[tokio::test]
async fn whoever_is_asked_first_has_the_last_say_in_an_answer() {
    let allowed_by = |name| {
        allowed(OkHttpResponse {
            response_headers_to_add: vec![option("x-by", name)],
            ..OkHttpResponse::default()
        })
    };
    let opa = Scripted::provider(move |_| allowed_by("opa")).await;
    let second = Scripted::provider(move |question| match told_of(question) {
        [_, "DELETE", _] => denied(),
        _ => allowed_by("second"),
    })
    .await;
    let counter = Scripted::counter(|_| RateLimitResponse {
        overall_code: Code::Ok.into(),
        response_headers_to_add: vec![line("x-by", "counter")],
        ..RateLimitResponse::default()
    })
    .await;
    let config =
        provider(opa.addr, "") + &provider(second.addr, "").replace("opa", "second") + &limits(counter.addr, "");
    let objects = CUSTOM.to_owned() + &CUSTOM.replace("opa", "second");
    let cluster = Cluster::start_with(&objects, &config).await;
    let caller = cluster.call("cart").await;
    for (method, status, by) in [
        ("GET", 200, &["counter", "second", "opa"][..]),
        ("DELETE", 401, &["opa"]),
    ] {
        let mut request = get("/asked", &[("x-user", "ann")]);
        *request.method_mut() = method.parse().unwrap();
        let answer = caller.send(request).await;
        assert_eq!(answer.status().as_u16(), status, "{method}");
        let said = answer.headers().get_all("x-by").iter();
        assert_eq!(said.collect::<Vec<_>>(), by, "{method}");
    }
    assert_eq!((opa.asked().len(), second.asked().len()), (2, 2));
}
