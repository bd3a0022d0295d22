//! The identities that a proxy speaks under, from wherever they come.

use std::collections::HashMap;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hbone::Host;
use mesh_identity::live::{ClosePolicy, Live, Scope};
use mesh_identity::source::files::{FileError, FileLayout, FileSource, load_bundle, load_svid};
use mesh_identity::source::istio_ca::{
    CaAddress, CaAddressError, CaConfig, CaRoots, IstioCa, Lease, Priority, RequestError,
};
use mesh_identity::source::workload_api::{self, Endpoint, EndpointError, WorkloadApi};
use mesh_identity::source::{Follower, MergedSource, Share, Source};
use mesh_identity::tls::{ClientTls, Identities, IdentityUnavailable, ServerTls};
use mesh_identity::{PeerPolicy, RevocationList, RevocationListError, SpiffeId, TrustDomain, provider};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use tokio::time::sleep;

use super::config::{Files, IdentitySource, Server};
use crate::manifest::{self, Unreadable};
use crate::settle::IDENTITY_INTERVAL;
use crate::workers::Driver;

/// The length of a file of revocation lists, in bytes.
const MAX_REVOCATION_LISTS: usize = 8 * 1024 * 1024;

/// On which terms certificates are had.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub(crate) trust_domain: &'a TrustDomain,
    pub(crate) cluster: &'a str,
    /// For how long an authority is asked for one.
    pub(crate) lifetime: Duration,
    /// How long a connection waits for one.
    pub(crate) patience: Duration,
}

/// The identities of those whom a proxy serves, and what they need to speak.
pub(crate) struct Credentials {
    identities: Identities,
    follower: Follower,
    live: Live,
    /// Whom workloads of this node let speak at all: the members of their trust domain.
    members: PeerPolicy,
    scope: Arc<Scope>,
    /// Asked for each identity, where that is needed.
    ca: Option<IstioCa>,
    /// Those that are wanted before a connection needs them.
    prefetched: Mutex<HashMap<SpiffeId, Lease>>,
    /// How long a connection waits for a certificate.
    patience: Duration,
    /// Asked for as long as this lives.
    _agent: Option<WorkloadApi>,
}

impl Credentials {
    pub(crate) fn load(identity: &IdentitySource, terms: Terms<'_>) -> Result<(Self, Vec<Driver>), CredentialsError> {
        let provider = provider::aws_lc_rs();
        let (mut ca, mut agent, mut drivers) = (None, None, Vec::new());
        let follower = match identity {
            IdentitySource::Files(files) => of_files(files, &provider, &mut drivers)?,
            IdentitySource::WorkloadApi(socket) => {
                let endpoint: Endpoint = socket.parse()?;
                let (api, driver) = WorkloadApi::new(&endpoint, workload_api::Config::new(Arc::clone(&provider)));
                drivers.push(Driver::new("identities", driver));
                agent.insert(api).follow()
            }
            IdentitySource::IstioCa(server) => {
                let config = ca_config(server, terms.trust_domain, terms.cluster)?.lifetime(terms.lifetime);
                let (source, driver) = IstioCa::new(config, Arc::clone(&provider));
                drivers.push(Driver::new("identities", driver.run()));
                ca.insert(source).follow()
            }
        };
        // A tunnel may outlive the certificates that it began with: short ones are renewed all the
        // time, and nothing in HTTP/2 could show a peer the next.
        let closing = ClosePolicy::default().keep_expired();
        let live = Live::builder(follower.clone(), Arc::clone(&provider)).close_policy(closing);
        let (live, driver) = live.build();
        drivers.push(Driver::new("trust", driver));
        let members = PeerPolicy::member_of(terms.trust_domain.clone());
        let credentials = Self {
            identities: Identities::new(follower.clone(), provider),
            follower,
            scope: Arc::new(live.scope(members.clone())),
            live,
            members,
            ca,
            prefetched: Mutex::default(),
            patience: terms.patience,
            _agent: agent,
        };
        Ok((credentials, drivers))
    }

    /// What open connections are held to.
    pub(crate) fn live(&self) -> &Live {
        &self.live
    }

    /// What accepted connections are held to.
    pub(crate) fn scope(&self) -> Arc<Scope> {
        Arc::clone(&self.scope)
    }

    pub(crate) fn follower(&self) -> &Follower {
        &self.follower
    }

    pub(crate) fn server(&self, id: &SpiffeId) -> Result<ServerTls, IdentityUnavailable> {
        self.identities.server(Some(id), &self.members)
    }

    pub(crate) fn client(&self, id: &SpiffeId, servers: &PeerPolicy) -> Result<ClientTls, IdentityUnavailable> {
        self.identities.client(Some(id), servers)
    }

    /// Has certificates for these, before a connection needs them, and for nobody else.
    pub(crate) fn prefetch(&self, residents: Vec<SpiffeId>) {
        let Some(ca) = &self.ca else { return };
        let mut prefetched = self.prefetched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *prefetched);
        for id in residents {
            if prefetched.contains_key(&id) {
                continue;
            }
            let lease = before.remove(&id).map_or_else(|| ca.request(&id, Priority::Warmup), Ok);
            match lease {
                Ok(lease) => drop(prefetched.insert(id, lease)),
                Err(reason) => tracing::warn!(identity = %id, %reason, "no certificate"),
            }
        }
    }

    /// Waits until there is a certificate for `id`, though not for ever: who then asks for it is
    /// told why there is none.
    pub(crate) async fn wait_for(&self, id: &SpiffeId) {
        let mut follower = self.follower.clone();
        if follower.snapshot().svid(id).is_some() {
            return;
        }
        let urged = self.ca.as_ref().map(|ca| ca.request(id, Priority::RealTime));
        let seen = async { while follower.snapshot().svid(id).is_none() && follower.changed().await.is_ok() {} };
        tokio::select! {
            () = seen => {}
            () = refusal(urged) => {}
            () = sleep(self.patience) => tracing::debug!("no certificate in time"),
        }
    }
}

/// Waits for the authority to refuse a certificate.
async fn refusal(urged: Option<Result<Lease, RequestError>>) {
    match urged {
        Some(Ok(mut lease)) => match lease.svid().await {
            Ok(_) => pending().await,
            Err(reason) => tracing::warn!(identity = %lease.id(), %reason, "no certificate"),
        },
        Some(Err(reason)) => tracing::warn!(%reason, "no certificate"),
        None => pending().await,
    }
}

fn of_files(
    files: &[Files],
    provider: &Arc<CryptoProvider>,
    drivers: &mut Vec<Driver>,
) -> Result<Follower, CredentialsError> {
    let mut parts = Vec::new();
    for Files { cert, key, roots, crl } in files {
        let svid = load_svid(cert, key, provider, UnixTime::now())?;
        let home = svid.id().trust_domain();
        load_bundle(home.clone(), roots)?;
        let mut layout = FileLayout::new(home.clone(), cert, key, roots);
        if let Some(crl) = crl {
            // Who is revoked is not let in before the lists are read.
            check_lists(crl)?;
            layout = layout.with_revocation_lists(crl);
        }
        let (source, driver) = FileSource::builder(layout, Arc::clone(provider))
            .interval(IDENTITY_INTERVAL)
            .build();
        parts.push((Share::All, source.follow()));
        drivers.push(Driver::new("identities", driver));
    }
    if parts.is_empty() {
        return Err(CredentialsError::Nothing);
    }
    let (merged, driver) = MergedSource::new(parts);
    drivers.push(Driver::new("identities", driver));
    Ok(merged.follow())
}

fn check_lists(file: &Path) -> Result<(), CredentialsError> {
    let text = manifest::read_at_most(file, MAX_REVOCATION_LISTS)?;
    let lists = RevocationList::from_pem(text.as_bytes());
    lists.map(drop).map_err(|error| CredentialsError::Lists {
        file: file.to_owned(),
        error,
    })
}

fn ca_config(server: &Server, trust_domain: &TrustDomain, cluster: &str) -> Result<CaConfig, CredentialsError> {
    let Some(token) = &server.token else {
        return Err(CredentialsError::NoToken);
    };
    let host = match server.address.host() {
        Host::Ip(ip) => ip.to_string(),
        Host::Name(name) => name.to_owned(),
    };
    let port = server.address.port();
    let mut address = match &server.roots {
        Some(roots) => CaAddress::new(&host, port, CaRoots::file(roots))?,
        None => CaAddress::dangerous_plaintext(&host, port)?,
    };
    if let Some(name) = &server.server_name {
        address = address.server_name(name)?;
    }
    let config = CaConfig::node_agent(address, token, trust_domain.clone());
    config.cluster(cluster).map_err(|_| CredentialsError::Cluster)
}

/// What is wrong with what the configuration says about identities.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialsError {
    #[error("identity.files: {0}")]
    File(#[from] FileError),
    #[error("identity.files: {0}")]
    Unreadable(#[from] Unreadable),
    #[error("identity.files: {}: {error}", file.display())]
    Lists {
        file: PathBuf,
        #[source]
        error: RevocationListError,
    },
    #[error("identity.files: there are none")]
    Nothing,
    #[error("identity.workload_api: {0}")]
    Agent(#[from] EndpointError),
    #[error("identity.istio_ca: {0}")]
    Authority(#[from] CaAddressError),
    #[error("identity.istio_ca: `token` is missing")]
    NoToken,
    #[error("settings.cluster: characters that no header may have")]
    Cluster,
}
