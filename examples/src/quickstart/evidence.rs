//! What became of a connection, as the access logs of the nodes tell it.

use std::net::SocketAddr;

use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::patience::until;
use super::stage::{Stage, Workload};
use super::undeclared::Undeclared;

/// What became of a connection.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Evidence {
    pub(super) from: &'static str,
    pub(super) to: &'static str,
    pub(super) decision: Decision,
    pub(super) is_encrypted: bool,
    /// Where it went, from hop to hop.
    pub(super) path: Vec<String>,
    /// Those that both ends saw in the handshake.
    pub(super) identities: Option<(String, String)>,
    pub(super) why: String,
    /// What the workload was told instead of a connection.
    pub(super) told: Option<&'static str>,
    /// From the connection's begin to its first answer.
    pub(super) milliseconds: f64,
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
    pub(super) fn is(self, decision: Decision, is_encrypted: bool) -> Result<Self, Undeclared> {
        match self.decision == decision && self.is_encrypted == is_encrypted {
            true => Ok(self),
            false => Err(Undeclared::Other {
                wanted: match (decision, is_encrypted) {
                    (Decision::Allowed, true) => "it is carried by mutual TLS",
                    (Decision::Allowed, false) => "it is carried in plaintext",
                    _ => "it is not carried",
                },
                seen: format!("{} -> {}: {}, {}", self.from, self.to, self.decision.text(), self.why),
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
        let is_encrypted = !text(&departed, "dst.hbone_addr").is_empty();
        let arrived = match is_encrypted {
            true => Some(
                until("line of the access log of node 2", async || {
                    let identity = self.from.identity();
                    Ok(node_2.log.find(second, |line| {
                        text(line, "src.identity") == identity && text(line, "dst.workload") == self.to.name()
                    }))
                })
                .await?,
            ),
            false => None,
        };
        let mut path = vec![format!("{} {}", self.from.name(), self.from.ip(stage.block))];
        path.push(format!("{} node-proxy", self.from.node()));
        let hop = text(&departed, "dst.addr");
        if is_encrypted {
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
            (Decision::Allowed, _) if is_encrypted => in_force(stage, self.to).await?,
            (Decision::Allowed, _) => format!("`{}` is not in the mesh: nothing to check", self.to.name()),
            (_, "") => text(&departed, "error").to_owned(),
            (_, failure) => format!("{}: {failure}", self.to.node()),
        };
        Ok(self.told(decision, is_encrypted, path, identities, why))
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
        Ok(self.told(decision, false, path, None, why))
    }

    fn told(
        self,
        decision: Decision,
        is_encrypted: bool,
        path: Vec<String>,
        identities: Option<(String, String)>,
        why: String,
    ) -> Evidence {
        Evidence {
            from: self.from.name(),
            to: self.to.name(),
            decision,
            is_encrypted,
            path,
            identities,
            why,
            told: self.told,
            milliseconds: self.milliseconds,
        }
    }
}

/// The policies that node 2 holds connections to a workload to.
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
