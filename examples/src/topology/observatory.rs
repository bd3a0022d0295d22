//! Looks at a mesh again and again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::exposition::{self, Sample};
use super::graph::{Count, Graph};
use super::inventory::Inventory;
use super::scrape::get;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Whom to ask: their admin addresses.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    pub(crate) control_plane: SocketAddr,
    /// By the names of their nodes.
    pub(crate) node_proxies: Vec<(String, SocketAddr)>,
}

/// What was seen of a mesh.
pub(crate) struct Observatory {
    sources: Sources,
    /// The last that was told: without a control plane, what it told stays.
    inventory: Inventory,
    /// What each node's proxy counted when it last answered, so that nothing seems to begin anew when
    /// it answers again.
    samples: BTreeMap<String, Vec<Sample>>,
    earlier: Option<(Count, Instant)>,
}

impl Observatory {
    pub(crate) fn new(sources: Sources) -> Self {
        Self {
            sources,
            inventory: Inventory::default(),
            samples: BTreeMap::new(),
            earlier: None,
        }
    }

    /// Asks everybody. Rates are since the last look.
    pub(crate) async fn look(&mut self) -> Graph {
        let mut problems = Vec::new();
        let told = get(self.sources.control_plane, "/config_dump").await;
        let told = told.map_err(|error| error.to_string());
        match told.and_then(|text| Inventory::read(&text).map_err(|error| error.to_string())) {
            Ok(inventory) => self.inventory = inventory,
            Err(reason) => problems.push(format!("control plane: {reason}")),
        }
        for (node, admin) in &self.sources.node_proxies {
            let told = get(*admin, "/metrics").await.map_err(|error| error.to_string());
            match told.and_then(|text| exposition::read(&text).map_err(|error| error.to_string())) {
                Ok(read) => drop(self.samples.insert(node.clone(), read)),
                Err(reason) => problems.push(format!("node proxy of {node}: {reason}")),
            }
        }
        let (now, count) = (
            Instant::now(),
            Count::new(self.samples.values().flatten(), &self.inventory),
        );
        let earlier = self.earlier.as_ref().map(|(count, at)| (count, now - *at));
        let graph = Graph::new(&self.inventory, &count, earlier);
        self.earlier = Some((count, now));
        problems.extend(graph.problems);
        Graph { problems, ..graph }
    }

    /// Looks for as long as somebody wants to know.
    pub(crate) async fn keep_looking(mut self, graph: watch::Sender<Arc<Graph>>) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !graph.is_closed() {
            ticks.tick().await;
            graph.send_replace(Arc::new(self.look().await));
        }
    }
}
