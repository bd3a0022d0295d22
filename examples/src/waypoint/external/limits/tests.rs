use std::sync::{Arc, Mutex};

use mesh_policy::{ConnectionFacts, RequestFacts};
use mesh_xds_types::rate_limit::RateLimitResponse;
use mesh_xds_types::rate_limit::rate_limit_response::Code;
use tonic::Status;

use super::super::{External, fake};
use super::*;

const RULES: &str = "
[[limits.rules]]
actions = ['remote_address', { request_headers = { header_name = 'X-User', descriptor_key = 'user' } }]
[[limits.rules]]
services = ['shop/cart.shop']
actions = ['destination_cluster']
";

const CLUSTERS: Clusters<'static> = Clusters {
    source: "waypoint",
    destination: "cart",
};

fn counting(addr: std::net::SocketAddr, more: &str) -> External {
    fake::external(&format!(
        "[limits]\nserver = {{ address = '{addr}' }}\ndomain = 'mesh'\n{more}\n{RULES}"
    ))
}

async fn limit(external: &External, service: &str, lines: &[(&str, &str)]) -> Result<Within, Refused> {
    let headers = lines.to_vec();
    let connection = ConnectionFacts::new().source_ip("10.0.0.7".parse().unwrap());
    let request = RequestFacts::new(connection, b"GET", &headers);
    external.limit(service, &[], Facts::from(&request), CLUSTERS).await
}

fn said(code: Code) -> RateLimitResponse {
    RateLimitResponse {
        overall_code: code.into(),
        ..RateLimitResponse::default()
    }
}

#[tokio::test]
async fn the_service_is_asked_by_descriptors_and_only_if_there_are_any() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&asked);
    let fake = fake::limits(move |question: RateLimitRequest| {
        record.lock().unwrap().push(question);
        async { Ok(said(Code::Ok)) }
    })
    .await;
    let external = counting(fake.addr, "timeout_ms = 60000");
    for (service, lines, expected) in [
        ("shop/other.shop", &[][..], None),
        (
            "shop/other.shop",
            &[("x-user", "ann")],
            Some("remote_address=10.0.0.7,user=ann"),
        ),
        ("shop/cart.shop", &[], Some("destination_cluster=cart")),
        (
            "shop/cart.shop",
            &[("x-user", "ann")],
            Some("remote_address=10.0.0.7,user=ann destination_cluster=cart"),
        ),
    ] {
        assert_eq!(limit(&external, service, lines).await, Ok(Within::default()));
        let asked: Vec<_> = asked
            .lock()
            .unwrap()
            .drain(..)
            .map(|question| written(&question))
            .collect();
        assert_eq!(
            asked,
            expected.map(|descriptors| format!("mesh: {descriptors}")).as_slice()
        );
    }
}

fn written(question: &RateLimitRequest) -> String {
    let descriptors = question.descriptors.iter().map(|descriptor| {
        let entries = descriptor.entries.iter();
        let entries: Vec<_> = entries.map(|entry| format!("{}={}", entry.key, entry.value)).collect();
        entries.join(",")
    });
    format!("{}: {}", question.domain, descriptors.collect::<Vec<_>>().join(" "))
}

#[tokio::test]
async fn one_request_too_many_is_refused() {
    let fake = fake::limits(async |_| Ok(said(Code::OverLimit))).await;
    let external = counting(fake.addr, "timeout_ms = 60000");
    let refused = limit(&external, "shop/cart.shop", &[]).await.unwrap_err();
    assert_eq!((refused.reply.status.as_u16(), refused.reason), (429, Reason::Limited));
}

#[tokio::test]
async fn silence_lets_pass_unless_the_configuration_says_otherwise() {
    let slow = fake::limits(|_| std::future::pending()).await;
    let failing = fake::limits(async |_| Err(Status::unavailable("no"))).await;
    let unsure = fake::limits(async |_| Ok(said(Code::Unknown))).await;
    let other = fake::authorization(|_| std::future::pending()).await;
    for (what, addr, time) in [
        ("slow", slow.addr, ""),
        ("dead", fake::nobody().await, "timeout_ms = 60000"),
        ("failing", failing.addr, "timeout_ms = 60000"),
        ("unsure", unsure.addr, "timeout_ms = 60000"),
        ("another service", other.addr, "timeout_ms = 60000"),
    ] {
        let open = counting(addr, time);
        assert_eq!(
            limit(&open, "shop/cart.shop", &[]).await,
            Ok(Within::default()),
            "{what}"
        );
        let closed = counting(addr, &format!("{time}\nfailure_mode_deny = true"));
        let refused = limit(&closed, "shop/cart.shop", &[]).await.unwrap_err();
        assert_eq!(
            (refused.reply.status.as_u16(), refused.reason),
            (500, Reason::LimitFailed),
            "{what}"
        );
    }
}
