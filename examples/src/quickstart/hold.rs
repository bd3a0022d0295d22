//! Everything goes on, for whoever wants to look around.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::report::{Address, Report};
use super::stage::{ECHO, Stage, Workload};
use super::undeclared::Undeclared;
use crate::topology::{Graph, Observatory, Page};

/// Who asks whom, how much, and how long they rest then.
const TRAFFIC: [(Workload, Workload, usize, u64); 6] = [
    (Workload::Web, Workload::Till, 2_000, 150),
    (Workload::Cart, Workload::Till, 60_000, 400),
    (Workload::Cart, Workload::Stock, 8_000, 250),
    (Workload::Web, Workload::Cart, 3_000, 300),
    (Workload::Web, Workload::Legacy, 1_000, 500),
    (Workload::Spy, Workload::Till, 0, 900),
];

/// Keeps traffic going and shows it, until dropped.
pub(super) async fn hold(stage: &Stage, report: &Report, json: bool) -> Result<(), Undeclared> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let page = Address {
        name: "topology page".to_owned(),
        addr: listener.local_addr()?,
    };
    let (sender, graph) = watch::channel(Arc::new(Graph::default()));
    let mut tasks = JoinSet::new();
    tasks.spawn(Observatory::new(stage.cluster.sources()?).keep_looking(sender));
    tasks.spawn(Page { graph }.serve(listener, std::future::pending()));
    tell(report, page, json)?;
    let [web_till, cart_till, cart_stock, web_cart, web_legacy, spy_till] = TRAFFIC.map(|traffic| flow(stage, traffic));
    tokio::join!(
        web_till,
        cart_till,
        cart_stock,
        web_cart,
        web_legacy,
        spy_till,
        knock(stage)
    );
    Ok(())
}

fn tell(report: &Report, page: Address, json: bool) -> Result<(), Undeclared> {
    let mut stdout = io::stdout().lock();
    if json {
        let mut value = serde_json::to_value(report)?;
        if let Some(addresses) = value.get_mut("addresses").and_then(|list| list.as_array_mut()) {
            addresses.push(serde_json::to_value(page)?);
        }
        writeln!(stdout, "{value}")?;
    } else {
        writeln!(
            stdout,
            "\nEverything stays up until SIGINT or SIGTERM, with some traffic:\n"
        )?;
        for Address { name, addr } in report.addresses.iter().chain([&page]) {
            let scheme = if name.ends_with("page") || name.ends_with("admin") {
                "http://"
            } else {
                ""
            };
            writeln!(stdout, "  {name:<20} {scheme}{addr}")?;
        }
    }
    Ok(stdout.flush()?)
}

async fn flow(stage: &Stage, (from, to, bytes, rest): (Workload, Workload, usize, u64)) {
    loop {
        let spoken = async {
            if let Ok(mut connection) = stage.try_connect(from, to, ECHO).await? {
                connection.echo_of(&vec![b'.'; bytes]).await?;
                connection.finish().await?;
            }
            Ok::<_, Undeclared>(())
        };
        // What fails is shown by the metrics.
        drop(spoken.await);
        sleep(Duration::from_millis(rest)).await;
    }
}

/// Knocks where whoever shows no certificate is turned away.
async fn knock(stage: &Stage) {
    loop {
        drop(stage.ask_directly(Workload::Legacy).await);
        sleep(Duration::from_millis(1_200)).await;
    }
}
