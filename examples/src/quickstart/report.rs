//! What happened, for people and for programs.

use std::fmt;
use std::net::SocketAddr;

use mesh_identity::SpiffeId;
use serde::Serialize;

use super::attempt::Undeclared;

/// Everything that happened.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Whether all of it was as declared.
    ok: bool,
    client: Node,
    server: Node,
    steps: Vec<Step>,
}

impl Report {
    pub(super) fn new(client: Node, server: Node, steps: Vec<Step>) -> Self {
        Self {
            ok: steps.iter().all(|step| step.ok),
            client,
            server,
            steps,
        }
    }

    pub(super) fn is_ok(&self) -> bool {
        self.ok
    }

    /// Where the nodes listen.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.client.addresses.iter().chain(&self.server.addresses)
    }
}

/// A node, and where it listens.
#[derive(Debug, Serialize)]
pub(super) struct Node {
    pub(super) identity: String,
    pub(super) addresses: Vec<Address>,
}

/// An address, and what is there.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Address {
    pub(super) name: &'static str,
    pub(super) addr: SocketAddr,
}

/// One thing that was tried.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    name: &'static str,
    /// Whether it went as declared.
    ok: bool,
    client: String,
    server: String,
    path: Vec<Address>,
    #[serde(flatten)]
    outcome: Option<Outcome>,
    /// What was not as declared.
    error: Option<String>,
}

impl Step {
    pub(super) fn new(
        name: &'static str,
        (client, server): (&SpiffeId, &SpiffeId),
        path: Vec<Address>,
        result: Result<Outcome, Undeclared>,
    ) -> Self {
        let (outcome, error) = match result {
            Ok(outcome) => (Some(outcome), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Self {
            name,
            ok: error.is_none(),
            client: client.to_string(),
            server: server.to_string(),
            path,
            outcome,
            error,
        }
    }
}

/// How it went, as declared.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) decision: Decision,
    /// Status that the CONNECT request was answered with, if it came to one.
    pub(super) status: Option<u16>,
    /// What the client was told instead of a tunnel.
    pub(super) refusal: Option<String>,
    /// Bytes from and to the application.
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) checksums: Option<Checksums>,
    pub(super) milliseconds: f64,
}

/// What the server made of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Decision {
    Allowed,
    Denied,
    NotTrusted,
}

/// SHA-256 of a transfer, at both ends of each direction.
#[derive(Debug, Serialize)]
pub(super) struct Checksums {
    pub(super) sent: String,
    pub(super) sent_as_received: String,
    pub(super) received: String,
    pub(super) received_as_sent: String,
}

impl Checksums {
    pub(super) fn agree(&self) -> bool {
        self.sent == self.sent_as_received && self.received == self.received_as_sent
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "HBONE quickstart: real sockets and real mutual TLS, all on loopback\n"
        )?;
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        f.write_str(match self.ok {
            true => "Everything went as declared.",
            false => "Not everything went as declared.",
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.outcome, &self.error) {
            (Some(outcome), _) => writeln!(f, "ok     {:<19}  {outcome}", self.name)?,
            (None, error) => writeln!(f, "WRONG  {:<19}  {}", self.name, error.as_deref().unwrap_or_default())?,
        }
        writeln!(f, "       client   {}", self.client)?;
        writeln!(f, "       server   {}", self.server)?;
        let path: Vec<String> = self
            .path
            .iter()
            .map(|hop| format!("{} {}", hop.name, hop.addr))
            .collect();
        writeln!(f, "       path     {}", path.join(" -> "))?;
        let Some(outcome) = &self.outcome else { return Ok(()) };
        if let Some(refusal) = &outcome.refusal {
            writeln!(f, "       refusal  {refusal}")?;
        }
        if let Some(Checksums { sent, received, .. }) = &outcome.checksums {
            writeln!(f, "       SHA-256  {sent}  up, equal at both ends")?;
            writeln!(f, "                {received}  down, equal at both ends")?;
        }
        Ok(())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decision = self.decision.text();
        let status = self.status.map_or("-".into(), |status| status.to_string());
        let [sent, received] = [self.sent, self.received].map(|bytes| Bytes(bytes).to_string());
        write!(
            f,
            "{decision:<11}  status {status:>3}  {sent:>6} up  {received:>6} down  {:>6.1} ms",
            self.milliseconds
        )
    }
}

impl Decision {
    fn text(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::NotTrusted => "not trusted",
        }
    }
}

/// A number of bytes, for people.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: u64 = 1024 * 1024;
        match self.0 {
            bytes @ 0..MIB => f.pad(&format!("{bytes} B")),
            bytes => f.pad(&format!("{} MiB", bytes / MIB)),
        }
    }
}
