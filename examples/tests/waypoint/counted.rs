//! Limits that proxies share: somebody else counts.

use std::net::SocketAddr;

use mesh_xds_types::rate_limit::rate_limit_response::Code;
use mesh_xds_types::rate_limit::{RateLimitRequest, RateLimitResponse};

use crate::cluster::{Cluster, get, told};
use crate::scripted::{Scripted, line};
use crate::world::free_addr;

pub fn limits(addr: SocketAddr, more: &str) -> String {
    format!(
        "[external.limits]\nserver = {{ address = \"{addr}\" }}\ndomain = \"mesh\"\ntimeout_ms = 10000\n{more}\n\
         [[external.limits.rules]]\nservices = [\"shop/till.shop.svc\"]\nactions = [\"destination_cluster\", \
         {{ request_headers = {{ header_name = \"x-user\", descriptor_key = \"user\" }} }}]\n"
    )
}

/// Who asks is one too many.
fn is_over(question: &RateLimitRequest) -> bool {
    let mut entries = question.descriptors.iter().flat_map(|descriptor| &descriptor.entries);
    entries.any(|entry| entry.key == "user" && entry.value == "eve")
}

#[tokio::test]
async fn who_is_over_the_limit_is_answered_429() {
    let counter = Scripted::counter(|question| match is_over(question) {
        true => RateLimitResponse {
            overall_code: Code::OverLimit.into(),
            response_headers_to_add: vec![line("x-limit", "1 per day")],
            raw_body: b"come back tomorrow".to_vec(),
            ..RateLimitResponse::default()
        },
        false => RateLimitResponse {
            overall_code: Code::Ok.into(),
            request_headers_to_add: vec![line("x-counted", "yes")],
            response_headers_to_add: vec![line("x-limit", "9 left")],
            ..RateLimitResponse::default()
        },
    })
    .await;
    let cluster = Cluster::start_with("", &limits(counter.addr, "")).await;
    let caller = cluster.call("cart").await;
    let answer = caller.send(get("/", &[("x-user", "eve")])).await;
    assert_eq!(
        (
            answer.status().as_u16(),
            &answer.headers()["x-limit"],
            &answer.body()[..]
        ),
        (429, &"1 per day".parse().unwrap(), &b"come back tomorrow"[..])
    );
    assert_eq!(cluster.one.asked(), 0);
    let answer = caller.send(get("/", &[("x-user", "ann")])).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["x-limit"]),
        (200, &"9 left".parse().unwrap())
    );
    assert_eq!(told(&answer)["headers"]["x-counted"], "yes");
    // Nothing is known of it that would be counted.
    assert_eq!(told(&caller.get("/").await)["headers"].get("x-counted"), None);
    let asked = counter.asked();
    assert_eq!(asked.len(), 2);
    let entries = asked[0].descriptors[0].entries.iter();
    let entries: Vec<_> = entries.map(|entry| (&*entry.key, &*entry.value)).collect();
    assert_eq!(
        entries,
        [("destination_cluster", "shop/till.shop.svc"), ("user", "eve")]
    );
    cluster.tells("one too many", |record| record["flags"] == "RL").await;
    assert_eq!(
        cluster.counters("ratelimit_").await,
        [
            "ratelimit_ok_total{domain=\"mesh\"} 1",
            "ratelimit_over_limit_total{domain=\"mesh\"} 1"
        ]
    );
}

#[tokio::test]
async fn who_does_not_answer_limits_nobody_unless_the_configuration_says_so() {
    let error = "ratelimit_error_total{domain=\"mesh\"} 2";
    for (more, status, expected) in [
        (
            "",
            200,
            vec![error, "ratelimit_failure_mode_allowed_total{domain=\"mesh\"} 2"],
        ),
        ("failure_mode_deny = true", 500, vec![error]),
    ] {
        let cluster = Cluster::start_with("", &limits(free_addr(), more)).await;
        let caller = cluster.call("cart").await;
        for _ in 0..2 {
            let answer = caller.send(get("/", &[("x-user", "eve")])).await;
            assert_eq!(answer.status().as_u16(), status, "{more}");
        }
        assert_eq!(cluster.one.asked(), if status == 200 { 2 } else { 0 });
        assert_eq!(cluster.counters("ratelimit_").await, expected);
    }
}
