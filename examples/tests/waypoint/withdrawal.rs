//! WebSockets, and policies that come later.

use hbone::TunnelStream;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cluster::{Caller, Cluster};
use crate::custom::{CUSTOM, allowed, provider};
use crate::issuer::Issuer;
use crate::scripted::Scripted;
use crate::world::soon;

const DENY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-WHO, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: '', name: till}]
  action: DENY
  rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/WHO]}}], to: [{operation: {paths: [/chat]}}]}]
";

pub async fn chat(caller: &Caller) -> TunnelStream {
    chat_with(caller, "").await
}

/// With this line more in the request.
pub async fn chat_with(caller: &Caller, line: &str) -> TunnelStream {
    let mut tunnel = caller.open().await.unwrap();
    let upgrade =
        format!("GET /chat HTTP/1.1\r\nhost: till.shop.svc\r\nconnection: Upgrade\r\nupgrade: websocket\r\n{line}\r\n");
    tunnel.write_all(upgrade.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon("answer", tunnel.read_u8()).await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    tunnel
}

/// Whether it still goes on. A change is in force before a line tells of it, and whoever carries bytes
/// has it judged before it carries more: after a change, an echo is of what that change lets through.
pub async fn echo(tunnel: &mut TunnelStream) {
    tunnel.write_all(b"one").await.unwrap();
    let mut echo = [0; 3];
    soon("echo", tunnel.read_exact(&mut echo)).await.unwrap();
    assert_eq!(&echo, b"one");
}

const BY_CLAIM: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: by-claim, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: '', name: till}]
  rules: [{when: [{key: 'request.auth.claims[sub]', values: [WHO]}]}]
---
";

/// Waits for its end, which is told once, with the reason that it had first.
async fn ends(cluster: &Cluster, mut tunnel: TunnelStream, reason: &str) -> Value {
    let end = soon("end", tunnel.read_to_end(&mut Vec::new())).await;
    assert!(end.is_err(), "{reason}");
    let record = cluster.tells(reason, |record| record["http.status"] == 101).await;
    assert!(record["error"].to_string().contains(reason), "{record}");
    record
}

#[tokio::test]
async fn a_websocket_goes_on_for_as_long_as_policies_let_it() {
    let cluster = Cluster::start("").await;
    let caller = cluster.call("cart").await;
    let mut tunnel = chat(&caller).await;
    echo(&mut tunnel).await;
    cluster.change(&DENY.replace("WHO", "spy"), 1).await;
    echo(&mut tunnel).await;
    cluster.change(&DENY.replace("WHO", "cart"), 2).await;
    let record = ends(&cluster, tunnel, "no-cart").await;
    // What was carried is told, however it ended.
    assert_eq!((&record["bytes_recv"], &record["bytes_sent"]), (&6.into(), &6.into()));
}

#[tokio::test]
async fn a_websocket_goes_on_for_as_long_as_its_token_lets_it() {
    let issuer = Issuer::new("https://issuer.test");
    let line = format!("authorization: Bearer {}\r\n", issuer.token("ann"));
    let believed = issuer.rule(&issuer.inline());
    let ann = BY_CLAIM.replace("WHO", "ann");
    let others_keys = issuer.rule(&Issuer::new("https://issuer.test").inline());
    for (later, reason) in [
        // Policies ask for another claim.
        (
            believed.clone() + &BY_CLAIM.replace("WHO", "bob"),
            "no policy allows it",
        ),
        // Nobody's tokens are believed.
        (ann.clone(), "no policy allows it"),
        // The issuer has other keys.
        (others_keys + &ann, "jwtRules[0]"),
    ] {
        let cluster = Cluster::start(&(believed.clone() + &ann)).await;
        let caller = cluster.call("cart").await;
        let mut tunnel = chat_with(&caller, &line).await;
        echo(&mut tunnel).await;
        // A change of policies, and one of whose tokens are believed, that let it go on.
        let both = ann.replace("[ann]", "[ann, eve]");
        cluster.change(&(believed.clone() + &both), 1).await;
        echo(&mut tunnel).await;
        let reread = believed.replace("header: x-sub", "header: x-who");
        cluster.change(&(reread + &ann), 2).await;
        echo(&mut tunnel).await;
        cluster.change(&later, 3).await;
        ends(&cluster, tunnel, reason).await;
    }
}

#[tokio::test]
async fn a_websocket_goes_on_for_as_long_as_those_have_agreed_who_are_to_be_asked() {
    let opa = Scripted::provider(|_| allowed(Default::default())).await;
    let asked = CUSTOM.replace("[/asked, /asked/*]", "[/chat]");
    let wider = CUSTOM.replace("[/asked, /asked/*]", "[/chat, /more]");
    let other = asked
        .replace("ask-opa", "ask-other")
        .replace("name: opa", "name: other");
    let config = provider(opa.addr, "") + &provider(opa.addr, "").replace("\"opa\"", "\"other\"");
    let cluster = Cluster::start_with(&asked, &config).await;
    let caller = cluster.call("cart").await;
    let mut tunnel = chat(&caller).await;
    echo(&mut tunnel).await;
    cluster.change(&wider, 1).await;
    echo(&mut tunnel).await;
    // Who has agreed once is not asked again.
    assert_eq!(opa.asked().len(), 1);
    cluster.change(&(wider + &other), 2).await;
    ends(&cluster, tunnel, "external authorization by opa, other").await;
}
