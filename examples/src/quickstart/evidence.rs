//! What became of a connection, as the access logs of the nodes tell it.

use std::net::SocketAddr;

use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::patience::until;
use super::program::Lines;
use super::stage::{Stage, Workload};
use super::undeclared::Undeclared;

/// What became of a connection.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Evidence {
    pub(super) from: &'static str,
    pub(super) to: &'static str,
    pub(super) decision: Decision,
    pub(super) manner: Manner,
    /// Where it went, from hop to hop.
    pub(super) path: Vec<String>,
    /// Those of both ends, as they were shown in a handshake or are known to the node of both.
    pub(super) identities: Option<(String, String)>,
    pub(super) why: String,
    /// What the workload was told instead of a connection.
    pub(super) told: Option<&'static str>,
    /// From the connection's begin to its first answer.
    pub(super) milliseconds: f64,
}

/// How it went from workload to workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Manner {
    Plaintext,
    MutualTls,
    /// Without leaving the node, whose proxy knows both ends.
    SameNode,
}

impl Manner {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::MutualTls => "mTLS",
            Self::SameNode => "same node",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Decision {
    Allowed,
    Denied,
    /// Nobody was against it, and nobody was there.
    Unreachable,
}

impl Decision {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Unreachable => "unreachable",
        }
    }
}

impl Evidence {
    /// It went as it should.
    pub(super) fn is(self, decision: Decision, manner: Manner) -> Result<Self, Undeclared> {
        match self.decision == decision && self.manner == manner {
            true => Ok(self),
            false => Err(Undeclared::Other {
                wanted: match decision {
                    Decision::Allowed => "it is carried, and in the right manner",
                    Decision::Denied | Decision::Unreachable => "it is not carried",
                },
                seen: format!(
                    "{} -> {}: {}, {}, {}",
                    self.from,
                    self.to,
                    self.decision.text(),
                    self.manner.text(),
                    self.why
                ),
            }),
        }
    }
}

/// A connection that is being tried.
pub(super) struct Attempt {
    from: Workload,
    to: Workload,
    began: Instant,
    /// Lines of each node's access log that are older.
    logs: [usize; 2],
    local: Option<SocketAddr>,
    told: Option<&'static str>,
    milliseconds: f64,
}

impl Attempt {
    pub(super) fn new(from: Workload, to: Workload, began: Instant, logs: [usize; 2]) -> Self {
        Self {
            from,
            to,
            began,
            logs,
            local: None,
            told: None,
            milliseconds: 0.0,
        }
    }

    /// It was answered now.
    pub(super) fn took(&mut self, local: SocketAddr, told: Option<&'static str>) {
        self.local = Some(local);
        self.told = told;
        self.milliseconds = self.began.elapsed().as_secs_f64() * 1e3;
    }

    /// What both nodes' logs say, once they say it.
    pub(super) async fn evidence(self, stage: &Stage) -> Result<Evidence, Undeclared> {
        let [first, second] = self.logs;
        let local = self.local.map(|addr| addr.to_string()).unwrap_or_default();
        let (node_1, node_2) = (&stage.cluster.node_1, &stage.cluster.node_2);
        let departed = until("line of the access log of node 1", async || {
            Ok(node_1.log.find(first, |line| text(line, "src.addr") == local))
        })
        .await?;
        let manner = match (text(&departed, "dst.hbone_addr"), text(&departed, "dst.identity")) {
            ("", "") => Manner::Plaintext,
            ("", _) => Manner::SameNode,
            _ => Manner::MutualTls,
        };
        let log = if manner == Manner::SameNode {
            (&node_1.log, first)
        } else {
            (&node_2.log, second)
        };
        let arrived = match manner {
            Manner::Plaintext => None,
            Manner::MutualTls | Manner::SameNode => Some(self.arrival(log).await?),
        };
        let mut path = vec![format!("{} {}", self.from.name(), self.from.ip(stage.block))];
        path.push(format!("{} node-proxy", self.from.node()));
        let hop = text(&departed, "dst.addr");
        if manner == Manner::MutualTls {
            path.push(format!("(mTLS) {} node-proxy {hop}", self.to.node()));
        }
        let end = arrived.as_ref().map_or(hop, |line| text(line, "dst.addr"));
        path.push(format!("{} {end}", self.to.name()));
        let failure = arrived.as_ref().map_or("", |line| text(line, "error"));
        let decision = match self.told {
            None => Decision::Allowed,
            Some(_) if failure.starts_with("policy: ") => Decision::Denied,
            Some(_) => Decision::Unreachable,
        };
        let identities = arrived.as_ref().map(|line| {
            let identity = |field| text(line, field).to_owned();
            (identity("src.identity"), identity("dst.identity"))
        });
        let why = match (decision, failure) {
            (Decision::Allowed, _) if manner == Manner::Plaintext => {
                format!("`{}` is not in the mesh: nothing to check", self.to.name())
            }
            (Decision::Allowed, _) => in_force(stage, self.to).await?,
            (_, "") => text(&departed, "error").to_owned(),
            (_, failure) => format!("{}: {failure}", self.to.node()),
        };
        Ok(self.told((decision, manner), path, identities, why))
    }

    /// What the destination's node says of it.
    async fn arrival(&self, (log, after): (&Lines, usize)) -> Result<Value, Undeclared> {
        let identity = self.from.identity();
        let is_it = |line: &Value| {
            text(line, "direction") == "inbound"
                && text(line, "src.identity") == identity
                && text(line, "dst.workload") == self.to.name()
        };
        until("line of the destination's access log", async || {
            Ok(log.find(after, is_it))
        })
        .await
    }

    /// What node 2 says of a connection that came without a tunnel.
    pub(super) async fn evidence_of_plaintext(self, stage: &Stage) -> Result<Evidence, Undeclared> {
        let [_, second] = self.logs;
        let local = self.local.map(|addr| addr.to_string()).unwrap_or_default();
        let node_2 = &stage.cluster.node_2;
        let arrived = until("line of the access log of node 2", async || {
            Ok(node_2.log.find(second, |line| text(line, "src.addr") == local))
        })
        .await?;
        let failure = text(&arrived, "error");
        let decision = match failure {
            "" => Decision::Allowed,
            failure if failure.starts_with("policy: ") => Decision::Denied,
            _ => Decision::Unreachable,
        };
        let why = match failure {
            "" => "PERMISSIVE is the default: who shows no certificate may pass too".to_owned(),
            failure => format!("{}: {failure}", self.to.node()),
        };
        let path = vec![
            format!("{} {}", self.from.name(), self.from.ip(stage.block)),
            format!("{} node-proxy", self.to.node()),
            format!("{} {}", self.to.name(), text(&arrived, "dst.addr")),
        ];
        Ok(self.told((decision, Manner::Plaintext), path, None, why))
    }

    fn told(
        self,
        (decision, manner): (Decision, Manner),
        path: Vec<String>,
        identities: Option<(String, String)>,
        why: String,
    ) -> Evidence {
        Evidence {
            from: self.from.name(),
            to: self.to.name(),
            decision,
            manner,
            path,
            identities,
            why,
            told: self.told,
            milliseconds: self.milliseconds,
        }
    }
}

/// The policies that connections to a workload are held to.
async fn in_force(stage: &Stage, workload: Workload) -> Result<String, Undeclared> {
    let names = stage.cluster.policies_of(workload.name()).await?;
    Ok(match &*names {
        [] => format!("no policy is about `{}`", workload.name()),
        names => format!("passes {}", names.join(" and ")),
    })
}

fn text<'v>(line: &'v Value, field: &str) -> &'v str {
    line.get(field).and_then(Value::as_str).unwrap_or_default()
}
