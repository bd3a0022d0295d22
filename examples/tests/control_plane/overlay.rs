//! Two node proxies of a mesh that is a directory.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::select;

use crate::plane::{FAR, NEAR, Plane, ask, namespace, pod, service};
use crate::world::{App, Process, eventually, exchange, node_proxy, soon};

pub struct Node {
    pub process: Process,
    pub socks5: Option<SocketAddr>,
    pub admin: SocketAddr,
}

pub async fn node(plane: &Plane, name: &str, token: &str, listens: &str) -> Node {
    let config = plane.dir.path().join(format!("{name}.toml"));
    let (addr, token) = (plane.addr, plane.token(token));
    let server = format!("{{address = \"{addr}\", token = {token:?}}}");
    let text = format!(
        "node = {name:?}\ntrust_domain = \"cluster.local\"\n[mesh]\nxds = {server}\n[identity]\nistio_ca = {server}\n\
         {listens}[admin]\nbind = \"127.0.0.1:0\"\n[settings]\ndemand_seconds = 10\ndrain_seconds = 1\n"
    );
    fs::write(&config, text).unwrap();
    let mut process = Process::start(&mut node_proxy(&config));
    let ready = process.ready().await;
    Node {
        socks5: ready["socks5"][0].as_str().map(|addr| addr.parse().unwrap()),
        admin: ready["admin"].as_str().unwrap().parse().unwrap(),
        process,
    }
}

/// Connects by SOCKS5 from a workload's address; `None`: refused.
pub async fn connect(proxy: SocketAddr, from: IpAddr, to: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from, 0)).unwrap();
    let mut tcp = socket.connect(proxy).await.unwrap();
    let IpAddr::V4(ip) = to.ip() else { unreachable!() };
    let mut request = vec![5, 1, 0, 5, 1, 0, 1];
    request.extend(ip.octets());
    request.extend(to.port().to_be_bytes());
    tcp.write_all(&request).await.unwrap();
    let mut answer = [0; 12];
    soon("answer", tcp.read_exact(&mut answer)).await.ok()?;
    (answer[3] == 0).then_some(tcp)
}

#[tokio::test]
async fn a_namespace_is_enrolled_by_its_label_and_policies_close_what_they_forbid() {
    let ip = |number: u8| IpAddr::from([127, 19, (std::process::id() % 250) as u8, number]);
    let (cart, till, vip) = (ip(1), ip(2), SocketAddr::new(ip(100), 80));
    let echo = App::echo_at(till).await;
    let workloads = pod("cart", &cart.to_string(), "near")
        + &pod("till", &till.to_string(), "far")
        + &service("till", &vip.ip().to_string(), echo.addr.port());
    let plane = Plane::start(&(namespace("a: b") + &workloads)).await;
    let near = node(&plane, "near", NEAR, "[[socks5]]\nbind = \"127.0.0.1:0\"\n").await;
    let far = node(&plane, "far", FAR, &format!("[[inbound]]\nbind = \"{till}:15008\"\n")).await;
    let proxy = near.socks5.unwrap();

    let plain = eventually("plain connection", async || connect(proxy, cart, vip).await).await;
    exchange(plain, 1, 1000).await;

    let ambient = namespace("istio.io/dataplane-mode: ambient") + &workloads;
    plane.change(&ambient).await;
    for node in [&near, &far] {
        eventually("enrolment", async || {
            let (_, dump) = ask(node.admin, "GET /config_dump HTTP/1.1\r\nhost: 127.0.0.1").await;
            dump.contains(r#""protocol":"HBONE""#).then_some(())
        })
        .await;
    }
    let mut tunnel = eventually("tunnel", async || connect(proxy, cart, vip).await).await;
    tunnel.write_all(b"through").await.unwrap();
    let mut answer = [0; 7];
    soon("echo", tunnel.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"through");

    let policy = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                  metadata: {name: nobody, namespace: shop}\nspec:\n  selector: {matchLabels: {app: till}}\n";
    plane.change(&(ambient.clone() + policy)).await;
    let end = soon("end of the open tunnel", tunnel.read(&mut answer)).await;
    assert!(!matches!(end, Ok(1..)));
    eventually("refusal", async || {
        connect(proxy, cart, vip).await.is_none().then_some(())
    })
    .await;
    plane.change(&ambient).await;
    let again = eventually("tunnel", async || connect(proxy, cart, vip).await).await;

    // Without a control plane, what is known goes on.
    drop(plane);
    exchange(again, 1, 1000).await;
    exchange(connect(proxy, cart, vip).await.unwrap(), 1, 1000).await;
    drop((near.process, far.process));
}

#[tokio::test]
async fn a_control_plane_that_comes_back_interrupts_nobody_and_lets_nobody_in() {
    let ip = |number: u8| IpAddr::from([127, 20, (std::process::id() % 250) as u8, number]);
    let (cart, till, thief, late) = (ip(1), ip(2), ip(3), ip(4));
    let vip = SocketAddr::new(ip(100), 80);
    let echo = App::echo_at(till).await;
    let policy = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                  metadata: {name: buyers, namespace: shop}\nspec:\n  selector: {matchLabels: {app: till}}\n  \
                  rules: [{from: [{source: {serviceAccounts: [cart, late]}}]}]\n";
    let before = namespace("istio.io/dataplane-mode: ambient")
        + &pod("cart", &cart.to_string(), "near")
        + &pod("thief", &thief.to_string(), "near")
        + &pod("till", &till.to_string(), "far")
        + &service("till", &vip.ip().to_string(), echo.addr.port())
        + policy;
    let mut plane = Plane::start_with(&before, |dir| {
        vec!["--state".into(), dir.path().join("state").display().to_string()]
    })
    .await;
    let near = node(&plane, "near", NEAR, "[[socks5]]\nbind = \"127.0.0.1:0\"\n").await;
    let far = node(&plane, "far", FAR, &format!("[[inbound]]\nbind = \"{till}:15008\"\n")).await;
    let proxy = near.socks5.unwrap();
    let steady = eventually("tunnel", async || connect(proxy, cart, vip).await).await;
    let roots = plane.dump().await["roots"].clone();

    let visit = async || {
        let tcp = connect(proxy, cart, vip).await.expect("whoever was let in is let in");
        exchange(tcp, 1, 1000).await;
        assert!(connect(proxy, thief, vip).await.is_none(), "nobody else is");
    };
    let visits = async || {
        loop {
            visit().await;
        }
    };
    let comes_back = async {
        plane
            .restart(async |plane: &Plane| {
                visit().await;
                plane.write(&(before.clone() + &pod("late", &late.to_string(), "near")));
            })
            .await;
        // Who comes now has a certificate of the same root, or the others would not believe it.
        let tcp = eventually("tunnel of the new one", async || connect(proxy, late, vip).await).await;
        exchange(tcp, 1, 1000).await;
    };
    select! {
        () = visits() => unreachable!("visits go on"),
        () = comes_back => {}
    }
    visit().await;
    exchange(steady, 1, 1000).await;
    assert_eq!(plane.dump().await["roots"], roots);
    drop((near.process, far.process));
}

#[tokio::test]
async fn what_has_to_pass_a_waypoint_that_is_not_there_is_refused_unless_it_may_go_around() {
    let ip = |number: u8| IpAddr::from([127, 21, (std::process::id() % 250) as u8, number]);
    let (cart, till, vip) = (ip(1), ip(2), SocketAddr::new(ip(100), 80));
    let echo = App::echo_at(till).await;
    let objects = namespace("istio.io/dataplane-mode: ambient, istio.io/use-waypoint: guard")
        + &pod("cart", &cart.to_string(), "near")
        + &pod("till", &till.to_string(), "far")
        + &service("till", &vip.ip().to_string(), echo.addr.port());
    for (what, passes) in [("refuse", false), ("bypass", true)] {
        let plane = Plane::start_with(&objects, |_| vec!["--unusable-waypoint".into(), what.into()]).await;
        let near = node(&plane, "near", NEAR, "[[socks5]]\nbind = \"127.0.0.1:0\"\n").await;
        let far = node(&plane, "far", FAR, &format!("[[inbound]]\nbind = \"{till}:15008\"\n")).await;
        let proxy = near.socks5.unwrap();
        match passes {
            true => {
                let tcp = eventually("tunnel", async || connect(proxy, cart, vip).await).await;
                exchange(tcp, 1, 1000).await;
            }
            false => {
                let told = "the waypoint of `shop/till.shop.svc.cluster.local` is not there";
                eventually("refusal for want of the waypoint", async || {
                    assert!(connect(proxy, cart, vip).await.is_none());
                    near.process
                        .stderr()
                        .iter()
                        .any(|line| line.contains(told))
                        .then_some(())
                })
                .await;
            }
        }
        drop((near.process, far.process));
    }
}
