//! What is counted and told.

use hbone::metadata::{Baggage, BaggageKey, WorkloadKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cluster::Cluster;
use crate::nodes::ask;
use crate::world::soon;

#[tokio::test]
async fn requests_are_counted_by_istios_names() {
    let cluster = Cluster::start("").await;
    let caller = cluster.call("cart").await;
    caller.get("/").await;
    let record = cluster
        .tells("a request", |record| record["message"] == "request complete")
        .await;
    for (field, value) in [
        ("src.identity", "spiffe://cluster.local/ns/shop/sa/cart"),
        ("dst.service", "till.shop.svc"),
        ("dst.workload", "till"),
        ("dst.identity", "spiffe://cluster.local/ns/shop/sa/till"),
        ("http.method", "GET"),
        ("http.protocol", "HTTP/1.1"),
    ] {
        assert_eq!(record[field], value, "{record}");
    }
    let (status, text) = ask(cluster.admin, "GET", "/metrics").await;
    assert_eq!(status, 200);
    let line = text
        .lines()
        .find(|line| line.starts_with("istio_requests_total{"))
        .unwrap();
    for label in [
        "reporter=\"waypoint\"",
        "source_principal=\"spiffe://cluster.local/ns/shop/sa/cart\"",
        "destination_workload=\"till\"",
        "destination_service=\"till.shop.svc\"",
        "request_protocol=\"http\"",
        "response_code=\"200\"",
        "response_flags=\"-\"",
        "connection_security_policy=\"mutual_tls\"",
    ] {
        assert!(line.contains(label), "{label}: {line}");
    }
    assert!(text.contains("istio_request_duration_milliseconds_count{") && text.ends_with("# EOF\n"));
    let (status, dump) = ask(cluster.admin, "GET", "/config_dump").await;
    assert!(status == 200 && dump.contains("shop/till.shop.svc"), "{dump}");
}

/// Names are a client's own words where the mesh has no workload at its address.
#[tokio::test]
async fn a_client_with_ever_new_names_takes_nobodys_series() {
    let cluster = Cluster::start("").await;
    let caller = cluster.call("spy").await;
    for number in 0..110 {
        let key = BaggageKey::Workload(WorkloadKind::Deployment);
        let baggage = Baggage::new().with(key, &format!("w{number}")).unwrap();
        let mut tunnel = caller.open_as(baggage).await;
        let request = b"TRACE / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        tunnel.write_all(request).await.unwrap();
        soon("answer", tunnel.read_to_end(&mut Vec::new())).await.unwrap();
    }
    let (_, text) = ask(cluster.admin, "GET", "/metrics").await;
    let series = text.lines().filter(|line| line.starts_with("istio_requests_total{"));
    let of_spy = series.filter(|line| line.contains("/sa/spy"));
    let (named, nameless): (Vec<_>, Vec<_>) = of_spy.partition(|line| line.contains("source_workload=\"w"));
    assert_eq!((named.len(), nameless.len()), (100, 1));
}
