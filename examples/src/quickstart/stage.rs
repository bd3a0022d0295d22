//! Everything that runs, and what is tried with it.

use std::io;
use std::net::SocketAddr;

use hbone::{CopyAbort, CopyOutcome, Rejection, TunnelError};
use mesh_identity::SpiffeId;
use rustls::crypto::hash::Hash;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::attempt::{Attempt, Undeclared};
use super::identities::{Identities, IdentitiesError};
use super::nodes::Nodes;
use super::policies::{Policies, PoliciesError};
use super::report::{Address, Checksums, Decision, Node, Outcome, Report, Step};
use super::services::{self, Request, Seed, Services};
use crate::admission::Stopped;

/// Services, nodes, and where the client's node takes connections to the services.
pub(super) struct Stage {
    identities: Identities,
    services: Services,
    nodes: Nodes,
    policies: Policies,
    http: SocketAddr,
    bulk: SocketAddr,
    /// Nobody listens there.
    closed: SocketAddr,
    hash: &'static dyn Hash,
    _tasks: JoinSet<()>,
}

impl Stage {
    pub(super) async fn build() -> Result<Self, StageError> {
        let (identities, trust) = Identities::issue()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(trust);
        let hash = services::sha256(identities.provider()).ok_or(StageError::NoHash)?;
        let services = Services::start(hash).await?;
        let policies = Policies::new()?;
        let mut nodes = Nodes::start(&identities, policies.follow()).await?;
        Ok(Self {
            http: nodes.capture(&identities, services.http).await?,
            bulk: nodes.capture(&identities, services.bulk).await?,
            closed: TcpListener::bind("127.0.0.1:0").await?.local_addr()?,
            identities,
            services,
            nodes,
            policies,
            hash,
            _tasks: tasks,
        })
    }

    /// Tries everything, one thing after the other.
    pub(super) async fn play(&mut self) -> Report {
        let Identities {
            client,
            intruder,
            stranger,
            ..
        } = &self.identities;
        let (client, intruder, stranger) = (client.clone(), intruder.clone(), stranger.clone());
        let to_http = self.through_both(self.http, self.services.http);
        let to_bulk = self.through_both(self.bulk, self.services.bulk);
        let to_closed = vec![at("server node", self.nodes.server), at("closed port", self.closed)];
        let to_server = vec![at("server node", self.nodes.server)];
        let greeted = self.greet().await;
        let greeted_again = self.greet_again().await;
        let transferred = self.transfer().await;
        let denied = self.denied(&intruder).await;
        let distrusted = self.distrusted(&stranger).await;
        let unreachable = self.unreachable(&client).await;
        let closed = self.closed().await;
        let reopened = self.reopened().await;
        let rotated = self.rotated().await;
        let revoked = self.revoked().await;
        let renewed = self.renewed().await;
        let step = |name, client, path, result| Step::new(name, (client, &self.identities.server), path, result);
        let steps = vec![
            step("HTTP request", &client, to_http.clone(), greeted),
            step("HTTP request again", &client, to_http.clone(), greeted_again),
            step("bulk, both ways", &client, to_bulk, transferred),
            step("identity not listed", &intruder, to_server.clone(), denied),
            step("other trust domain", &stranger, to_server, distrusted),
            step("closed port", &client, to_closed, unreachable),
            step("policy against it", &client, to_http.clone(), closed),
            step("policy withdrawn", &client, to_http.clone(), reopened),
            step("new root", &client, to_http.clone(), rotated),
            step("old root revoked", &client, to_http.clone(), revoked),
            step("HTTP request anew", &client, to_http, renewed),
        ];
        let client = Node {
            identity: client.to_string(),
            addresses: vec![at("http", self.http), at("bulk", self.bulk)],
        };
        let server = Node {
            identity: self.identities.server.to_string(),
            addresses: vec![at("tunnels", self.nodes.server)],
        };
        Report::new(client, server, steps)
    }

    /// Drains both nodes.
    pub(super) async fn stop(self) {
        self.nodes.stop().await;
    }

    async fn greet(&mut self) -> Result<Outcome, Undeclared> {
        let began = Instant::now();
        let (sent, received) = services::get(self.http).await?.ok_or(Undeclared::NoGreeting)?;
        let outcome = Outcome::carried(sent, received, began.elapsed());
        self.carried(sent, received).await?;
        Ok(outcome)
    }

    /// The tunnel of a second request needs no connection of its own.
    async fn greet_again(&mut self) -> Result<Outcome, Undeclared> {
        let before = self.nodes.connections();
        let outcome = self.greet().await?;
        match self.nodes.connections() - before {
            0 => Ok(outcome),
            connections => Err(Undeclared::Connections { connections }),
        }
    }

    /// An open tunnel ends with the policies that admitted it.
    async fn closed(&mut self) -> Result<Outcome, Undeclared> {
        let began = Instant::now();
        let request = Request::begin(self.http).await?;
        self.policies.close()?;
        let told = request.lost().await?;
        match self.sighting(&self.identities.client.clone()).await? {
            Err(stopped @ Stopped::Withdrawn) => Ok(Outcome::ended(
                Decision::Denied,
                format!("{stopped}, {told}"),
                began.elapsed(),
            )),
            Err(stopped) => Err(stopped.into()),
            Ok(_) => Err(Undeclared::Opened),
        }
    }

    /// The connection was none of the policy's business.
    async fn reopened(&mut self) -> Result<Outcome, Undeclared> {
        self.policies.open()?;
        self.greet_again().await
    }

    /// A tunnel lives on while everybody gets certificates from a new root.
    async fn rotated(&mut self) -> Result<Outcome, Undeclared> {
        let began = Instant::now();
        let request = Request::begin(self.http).await?;
        self.identities.rotate()?;
        let (sent, received) = request.finish().await?.ok_or(Undeclared::NoGreeting)?;
        self.carried(sent, received).await?;
        Ok(Outcome::carried(sent, received, began.elapsed()))
    }

    /// The connection was made under the old root, so the tunnels on it end with that root.
    async fn revoked(&mut self) -> Result<Outcome, Undeclared> {
        let began = Instant::now();
        let request = Request::begin(self.http).await?;
        self.identities.revoke()?;
        let told = request.lost().await?;
        let copied = self.sighting(&self.identities.client.clone()).await?;
        match copied?.abort {
            Some(CopyAbort::Tunnel(TunnelError::ConnectionLost(lost))) => Ok(Outcome::ended(
                Decision::NotTrusted,
                format!("{lost}, {told}"),
                began.elapsed(),
            )),
            Some(other) => Err(other.into()),
            None => Err(Undeclared::Opened),
        }
    }

    /// One new connection, with certificates of the new root.
    async fn renewed(&mut self) -> Result<Outcome, Undeclared> {
        let before = self.nodes.connections();
        let outcome = self.greet().await?;
        match self.nodes.connections() - before {
            1 => Ok(outcome),
            connections => Err(Undeclared::Connections { connections }),
        }
    }

    async fn transfer(&mut self) -> Result<Outcome, Undeclared> {
        let began = Instant::now();
        let tcp = TcpStream::connect(self.bulk).await?;
        let app = services::exchange(tcp, Seed::App, self.hash).await?;
        let outcome = Outcome::carried(app.sent, app.received, began.elapsed());
        self.carried(app.sent, app.received).await?;
        let service = self.services.transfer().await.ok_or(Undeclared::Unseen)?;
        let checksums = Checksums {
            sent: app.sent_sha256,
            sent_as_received: service.received_sha256,
            received: app.received_sha256,
            received_as_sent: service.sent_sha256,
        };
        match checksums.agree() {
            true => Ok(outcome.with_checksums(checksums)),
            false => Err(Undeclared::Checksums),
        }
    }

    /// Nobody but the client is on the server's list.
    async fn denied(&mut self, intruder: &SpiffeId) -> Result<Outcome, Undeclared> {
        let attempt = self.attempt(intruder, self.services.http).await?;
        match self.rejected(intruder).await? {
            Rejection::Denied(_) => attempt.refused(Decision::Denied, 401),
            rejection => Err(Stopped::from(rejection).into()),
        }
    }

    /// The server has no roots of the other trust domain, so it ends the TLS handshake.
    async fn distrusted(&mut self, stranger: &SpiffeId) -> Result<Outcome, Undeclared> {
        self.attempt(stranger, self.services.http).await?.not_trusted()
    }

    async fn unreachable(&mut self, client: &SpiffeId) -> Result<Outcome, Undeclared> {
        let attempt = self.attempt(client, self.closed).await?;
        match self.rejected(client).await? {
            Rejection::UpstreamUnreachable => attempt.refused(Decision::Allowed, 503),
            rejection => Err(Stopped::from(rejection).into()),
        }
    }

    async fn attempt(&self, client: &SpiffeId, destination: SocketAddr) -> Result<Attempt, Undeclared> {
        let tls = self.identities.tls_of(client)?;
        Attempt::make(self.nodes.server, &tls, destination).await
    }

    /// The server saw the client open a tunnel, which carried these bytes and ended in order.
    async fn carried(&mut self, sent: u64, received: u64) -> Result<(), Undeclared> {
        let copied = self.sighting(&self.identities.client.clone()).await??;
        match copied.abort {
            Some(abort) => Err(abort.into()),
            None if (copied.to_tcp, copied.to_tunnel) == (sent, received) => Ok(()),
            None => Err(Undeclared::Bytes {
                up: copied.to_tcp,
                down: copied.to_tunnel,
            }),
        }
    }

    async fn rejected(&mut self, client: &SpiffeId) -> Result<Rejection, Undeclared> {
        match self.sighting(client).await? {
            Err(Stopped::Rejected(rejection)) => Ok(rejection),
            Err(stopped) => Err(stopped.into()),
            Ok(_) => Err(Undeclared::Opened),
        }
    }

    async fn sighting(&mut self, client: &SpiffeId) -> Result<Result<CopyOutcome, Stopped>, Undeclared> {
        let sighting = self.nodes.sighting().await.ok_or(Undeclared::Unseen)?;
        match sighting.peer == *client {
            true => Ok(sighting.result),
            false => Err(Undeclared::Peer { seen: sighting.peer }),
        }
    }

    fn through_both(&self, captured: SocketAddr, service: SocketAddr) -> Vec<Address> {
        vec![
            at("client node", captured),
            at("server node", self.nodes.server),
            at("service", service),
        ]
    }
}

fn at(name: &'static str, addr: SocketAddr) -> Address {
    Address { name, addr }
}

/// Why nothing can be tried.
#[derive(Debug, thiserror::Error)]
pub(super) enum StageError {
    #[error(transparent)]
    Identities(#[from] IdentitiesError),
    #[error(transparent)]
    Policies(#[from] PoliciesError),
    #[error("operating system: {0}")]
    System(#[from] io::Error),
    #[error("the crypto provider has no SHA-256")]
    NoHash,
}
