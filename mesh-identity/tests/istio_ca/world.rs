//! An authority, a token for it, and a source with its driver at work.

use std::{sync::Arc, time::Duration};

use mesh_identity::{
    SpiffeId, Svid, TrustDomain, provider,
    source::{
        Follower,
        istio_ca::{CaAddress, CaConfig, CaError, IstioCa, LeaseError},
    },
};
use mesh_testkit::{clock::Calendar, istio_ca::FakeIstioCa};
use tokio::task::JoinSet;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn trust_domain() -> TrustDomain {
    "cluster.local".parse().unwrap()
}

pub(crate) fn workload(index: usize) -> SpiffeId {
    format!("spiffe://cluster.local/ns/shop/sa/w{index}").parse().unwrap()
}

/// An authority, a token for it, and a source with its driver at work.
pub(crate) struct World {
    pub(crate) authority: FakeIstioCa,
    pub(crate) calendar: Calendar,
    pub(crate) token: tempfile::NamedTempFile,
    pub(crate) driver: JoinSet<()>,
}

impl World {
    pub(crate) fn new() -> Self {
        let calendar = Calendar::new();
        let authority = FakeIstioCa::new(trust_domain(), calendar.clone());
        authority.admit("own-token", workload(0));
        authority.admit_node("node-token", (0..40).map(workload));
        Self {
            authority,
            calendar,
            token: tempfile::NamedTempFile::new().unwrap(),
            driver: JoinSet::new(),
        }
    }

    pub(crate) fn write_token(&self, token: &str) {
        std::fs::write(self.token.path(), token).unwrap();
    }

    pub(crate) fn address() -> CaAddress {
        CaAddress::dangerous_plaintext("istiod.istio-system.svc", 15010).unwrap()
    }

    pub(crate) fn workload(&self) -> CaConfig {
        self.write_token("own-token\n");
        self.complete(CaConfig::workload(Self::address(), self.token.path(), workload(0)))
    }

    pub(crate) fn node_agent(&self) -> CaConfig {
        self.write_token("node-token");
        self.complete(CaConfig::node_agent(Self::address(), self.token.path(), trust_domain()))
    }

    pub(crate) fn complete(&self, config: CaConfig) -> CaConfig {
        config
            .dialer(self.authority.dialer())
            .clock(Arc::new(self.calendar.clone()))
    }

    pub(crate) fn start(&mut self, config: CaConfig) -> IstioCa {
        let (ca, driver) = IstioCa::new(config, provider::aws_lc_rs());
        self.driver.spawn(driver.run());
        ca
    }
}

/// The reason for which the driver has nothing newer.
pub(crate) fn problem(follower: &Follower) -> Option<String> {
    let problem = follower.problem()?;
    Some(problem.to_string())
}

pub(crate) async fn next_problem(follower: &mut Follower) -> String {
    loop {
        if let Some(problem) = problem(follower) {
            return problem;
        }
        follower.changed().await.unwrap();
    }
}

pub(crate) fn failure(error: LeaseError) -> Arc<CaError> {
    match error {
        LeaseError::Failed(error) => error,
        other => panic!("{other}"),
    }
}

pub(crate) fn same(one: &Arc<Svid>, other: Option<&Arc<Svid>>) -> bool {
    other.is_some_and(|other| Arc::ptr_eq(one, other))
}
