//! Connections of the workloads of this node.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use hbone::metadata::{Forwarded, ForwardedElement, ForwardedError, NetworkError, TraceParent, TraceParentError};
use hbone::{Authority, CopyProgress, Metadata, RefusalKind, TunnelRequest, copy_with_progress};
use mesh_identity::SpiffeId;
use mesh_xds::store::Workload;
use tokio::net::TcpStream;

use super::demand::DemandError;
use super::guard::{Admitted, Refused};
use super::inbound::denied;
use super::mesh::Resident;
use super::node::{Node, has};
use super::plan::{Plan, PlanError, Way, plan};
use crate::admission::Caller;
use crate::proxy::connect::{self, ConnectError};
use crate::proxy::labels::Reporter;
use crate::proxy::party::{Party, baggage};
use crate::proxy::plain::{self, PlainProgress};
use crate::proxy::stretch::Spot;
use crate::proxy::traffic::{Ends, Failure, Outbound as Sent, Traffic};
use crate::proxy::tunnels::{Opened, Tunnels, TunnelsError, Within};

/// Carries connections of workloads to their destinations.
#[derive(Clone)]
pub(super) struct Outbound {
    pub(super) node: Arc<Node>,
    pub(super) tunnels: Tunnels,
}

/// A connection to a destination, ready for a workload's bytes.
pub(super) struct Carrier {
    link: Link,
    told: Vec<Traffic>,
}

enum Link {
    Plain(TcpStream, Arc<PlainProgress>),
    Home(TcpStream, Arc<PlainProgress>, Admitted),
    Tunnel(Box<Opened>, Arc<CopyProgress>),
}

impl Outbound {
    /// Connects `source`, whose connection came from `from`, to `target`.
    ///
    /// Boxed, so that a connection that is open does not keep the room for its opening.
    pub(super) fn connect<'a>(
        &'a self,
        source: &'a Resident,
        from: SocketAddr,
        target: &'a Authority,
    ) -> Pin<Box<dyn Future<Output = Result<Carrier, OutboundError>> + Send + 'a>> {
        Box::pin(self.plan_and_connect(source, from, target))
    }

    async fn plan_and_connect(
        &self,
        source: &Resident,
        from: SocketAddr,
        target: &Authority,
    ) -> Result<Carrier, OutboundError> {
        let mesh = self.node.mesh_with(source, target).await.inspect_err(|reason| {
            let source = &source.workload.uid;
            tracing::warn!(%source, %target, %reason, "connection refused");
        })?;
        let plan = plan(&mesh, source, target, (self.node.hbone_port, self.node.chance.draw()));
        let Plan { way, next, service } = plan.inspect_err(|reason| {
            let source = &source.workload.uid;
            tracing::warn!(%source, %target, %reason, "connection refused");
        })?;
        let is_tunnel = matches!(way, Way::Hbone(_) | Way::Double { .. });
        let identity = Some(&source.id).filter(|_| !matches!(way, Way::Plain(_)));
        let ends = Ends {
            reporter: Reporter::Source,
            source: Party::from(&*source.workload).authenticated(identity),
            is_claimed: false,
            source_addr: from,
            destination_addr: way.next_hop(),
            authority: way.authority().map(ToString::to_string),
            destination: next,
            service,
            is_mutual_tls: is_tunnel,
        };
        match way {
            Way::Plain(spot) => self.plain(source, spot, ends).await,
            Way::Home(resident, addr) => self.home((source, identity), &resident, addr, ends).await,
            Way::Hbone(_) | Way::Double { .. } => self.tunnel(source, &way, ends).await,
        }
    }

    /// As it came. If that leads to a workload of this node, it is judged as one without a tunnel
    /// would be from elsewhere: nothing on the way there does it.
    async fn plain(&self, source: &Resident, spot: Spot, ends: Ends) -> Result<Carrier, OutboundError> {
        let addr = match spot {
            Spot::Addr(addr) => Ok(addr),
            Spot::Name(name, port) => connect::resolve(&name, port).await,
        };
        let addr = addr.and_then(|addr| match self.node.is_own(addr) {
            true => Err(ConnectError::Own(addr)),
            false => Ok(addr),
        });
        if let Ok(addr) = addr
            && let Some(resident) = self.node.known_at(addr.ip()).await?
        {
            let destination = Party::from(&*resident.workload);
            let ends = Ends { destination, ..ends };
            return self.home((source, None), &resident, addr, ends).await;
        }
        let client = address_of(&source.workload, ends.source_addr.ip());
        let progress = Arc::new(PlainProgress::default());
        let traffic = self.node.telemetry.begin(ends, Arc::clone(&progress));
        let connected = match addr {
            Ok(addr) => self.node.connect(addr, client).await,
            Err(error) => Err(error),
        };
        match connected {
            Ok(tcp) => Ok(Carrier {
                link: Link::Plain(tcp, progress),
                told: vec![traffic],
            }),
            Err(error) => Err(refuse(traffic, "CONNECT", error)),
        }
    }

    /// To a workload of this node, by whose policies the connection is judged here: no tunnel is
    /// needed to tell this node what it knows.
    async fn home(
        &self,
        (source, identity): (&Resident, Option<&SpiffeId>),
        resident: &Resident,
        addr: SocketAddr,
        ends: Ends,
    ) -> Result<Carrier, OutboundError> {
        let progress = Arc::new(PlainProgress::default());
        let client = address_of(&source.workload, ends.source_addr.ip());
        let arrival = Ends {
            reporter: Reporter::Destination,
            ..ends.clone()
        };
        let begin = |ends| self.node.telemetry.begin(ends, Arc::clone(&progress));
        let (departed, arrived) = (begin(ends), begin(arrival));
        let caller = Caller::new(identity, client, Some(addr.ip()), addr.port());
        let admitted = match Admitted::new(resident, caller) {
            Ok(_) if self.node.is_own(addr) => Err(Refused::Gone),
            admitted => admitted,
        };
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(refused) => {
                arrived.end(Some(denied(&refused)));
                return Err(refuse(departed, "CONNECT", refused));
            }
        };
        match self.node.connect(addr, client).await {
            Ok(tcp) => Ok(Carrier {
                link: Link::Home(tcp, progress, admitted),
                told: vec![departed, arrived],
            }),
            Err(error) => {
                arrived.end(Some(Failure::of_connection(&error)));
                Err(refuse(departed, "CONNECT", error))
            }
        }
    }

    async fn tunnel(&self, source: &Resident, way: &Way, ends: Ends) -> Result<Carrier, OutboundError> {
        let progress = Arc::new(CopyProgress::default());
        let host = ends.service.as_ref().map(|service| Arc::clone(&service.hostname));
        let metadata = self.metadata(source, ends.source_addr, host.as_deref());
        let traffic = self.node.telemetry.begin(ends, Sent(Arc::clone(&progress)));
        let opened = match way {
            Way::Hbone(stretch) => {
                let request = TunnelRequest::new(stretch.authority.clone()).with_metadata(metadata?);
                self.tunnels.open(&source.id, stretch, request).await
            }
            Way::Double { outer, servers } => {
                let metadata = match &*source.workload.network {
                    "" => metadata?,
                    network => metadata?.with_forwarded_network(network)?,
                };
                let request = TunnelRequest::new(outer.authority.clone()).with_metadata(metadata);
                self.tunnels.open_within(&source.id, outer, servers, request).await
            }
            Way::Plain(_) | Way::Home(..) => return Err(PlanError::Unsupported.into()),
        };
        match opened {
            Ok(opened) => Ok(Carrier {
                link: Link::Tunnel(Box::new(opened), progress),
                told: vec![traffic],
            }),
            Err(error) => Err(refuse(traffic, error.flags(), error)),
        }
    }

    fn metadata(&self, source: &Resident, from: SocketAddr, host: Option<&str>) -> Result<Metadata, OutboundError> {
        let mut element = ForwardedElement::new().with_for(from.into());
        if let Some(host) = host {
            element = element.with_host(host)?;
        }
        let draw = || self.node.chance.draw();
        let trace = u128::from(draw()) << 64 | u128::from(draw()) | 1;
        Ok(Metadata::new()
            .with_baggage(baggage(&source.workload))
            .with_forwarded(Forwarded::new().with(element)?)
            .with_traceparent(TraceParent::new(trace, draw() | 1)?))
    }
}

impl Carrier {
    /// Carries a workload's connection to its end.
    pub(super) async fn carry(self, tcp: TcpStream) {
        let Self { link, told } = self;
        let failed = match link {
            Link::Plain(server, progress) => {
                let joined = plain::join(tcp, server, &progress).await;
                joined.err().map(|error| Failure::of_connection(&error))
            }
            Link::Home(server, progress, admitted) => tokio::select! {
                biased;
                refused = admitted.withdrawn() => Some(denied(&refused)),
                joined = plain::join(tcp, server, &progress) => joined.err().map(|error| Failure::of_connection(&error)),
            },
            Link::Tunnel(opened, progress) => {
                plain::settle(&tcp);
                let Opened { stream, within } = *opened;
                let copied = copy_with_progress(tcp, stream, progress);
                let outcome = match within {
                    None => copied.await,
                    Some(Within { client, connection }) => {
                        let copied = async {
                            let outcome = copied.await;
                            drop(client);
                            outcome
                        };
                        tokio::join!(copied, connection).0
                    }
                };
                outcome.abort.map(|reason| Failure::of_connection(&reason))
            }
        };
        for traffic in told {
            traffic.end(failed.clone());
        }
    }
}

/// The address that a workload is known by, where its connection comes from another.
fn address_of(workload: &Workload, from: IpAddr) -> Option<IpAddr> {
    match has(workload, from) {
        true => Some(from.to_canonical()),
        false => workload.addresses.first().copied(),
    }
}

fn refuse(traffic: Traffic, flags: &'static str, error: impl Into<OutboundError>) -> OutboundError {
    let error = error.into();
    traffic.end(Some(Failure {
        flags,
        reason: error.to_string(),
    }));
    error
}

/// Why a connection is not carried.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutboundError {
    #[error("the mesh cannot be asked for the destination: {0}")]
    Demand(#[from] DemandError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("policy: {0}")]
    Refused(#[from] Refused),
    #[error(transparent)]
    Tunnel(#[from] TunnelsError),
    #[error(transparent)]
    Forwarded(#[from] ForwardedError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Trace(#[from] TraceParentError),
}

impl OutboundError {
    /// Whether a policy forbids it, here or at the peer.
    pub(super) fn is_denied(&self) -> bool {
        match self {
            Self::Refused(_) => true,
            Self::Tunnel(error) => error.refusal() == Some(RefusalKind::Denied),
            _ => false,
        }
    }

    /// Whether the destination is there and takes no connection.
    pub(super) fn is_refused(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_refused(),
            Self::Tunnel(error) => error.refusal() == Some(RefusalKind::Unavailable),
            _ => false,
        }
    }

    /// Whether there is no way to the destination.
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Demand(_) | Self::Plan(_) | Self::Connect(_) | Self::Tunnel(_)
        )
    }
}
