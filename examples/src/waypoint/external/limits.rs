//! Limits that proxies share: Envoy's rate limit service over gRPC.

mod answer;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use mesh_policy::Facts;
use mesh_policy::traffic::rate::{Action, Clusters, Descriptors, Entry};
use mesh_xds_types::rate_limit::RateLimitRequest;
use mesh_xds_types::rate_limit::rate_limit_service_client::RateLimitServiceClient;
use mesh_xds_types::rate_limit_descriptor::{RateLimitDescriptor, rate_limit_descriptor};

use self::answer::{Answer, answer};
use super::caller::{Called, Caller, MAX_ANSWER};
use super::config;
use super::counts::{Counts, Tally};
use super::edits::Edits;
use super::refused::{Reason, Refused};
use crate::proxy::control_plane::DialSetupError;
use crate::waypoint::reply::Reply;

/// A service that counts requests, as all workers share it.
#[derive(Clone)]
pub(super) struct Limits {
    counting: Arc<Counting>,
    called: Called,
    tally: Tally,
}

struct Counting {
    config: config::Limits,
    rules: Vec<Rule>,
}

/// Descriptors, and the services whose requests have them; all if none is named.
struct Rule {
    services: Vec<Box<str>>,
    descriptors: Descriptors,
}

/// A worker's way to the service.
pub(super) struct Asked {
    counting: Arc<Counting>,
    caller: Caller,
    tally: Tally,
}

/// What becomes of a request that may pass, and of its response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::waypoint) struct Within {
    pub(in crate::waypoint) request: Edits,
    pub(in crate::waypoint) response: Edits,
}

impl Limits {
    pub(super) fn new(config: config::Limits, counts: &Counts) -> Result<Self, DialSetupError> {
        let called = Called::new("limits", config.server.clone(), config.timeout, config.max_in_flight)?;
        let rules = config.rules.iter().map(|rule| Rule {
            services: rule.services.clone(),
            descriptors: Descriptors::new().with(rule.actions.iter().map(Action::from)),
        });
        Ok(Self {
            tally: counts.of_domain(&config.domain),
            counting: Arc::new(Counting {
                rules: rules.collect(),
                config,
            }),
            called,
        })
    }

    pub(super) fn asked(&self) -> Asked {
        Asked {
            counting: Arc::clone(&self.counting),
            caller: self.called.caller(),
            tally: self.tally.clone(),
        }
    }
}

impl Asked {
    /// Whether anything may be asked about requests to `service`, whatever policies say.
    pub(super) fn is_about(&self, service: &str) -> bool {
        self.counting.rules_of(service).next().is_some()
    }

    /// What is asked about a request to `service`.
    pub(super) fn descriptors(
        &self,
        service: &str,
        more: &[&Descriptors],
        facts: Facts<'_>,
        clusters: Clusters<'_>,
    ) -> Vec<RateLimitDescriptor> {
        self.counting.descriptors(service, more, facts, clusters)
    }

    /// Asks whether a request is one too many. Nobody is asked about a request that no
    /// descriptor is made of.
    pub(super) async fn ask(&self, descriptors: Vec<RateLimitDescriptor>) -> Result<Within, Refused> {
        let Counting { config, .. } = &*self.counting;
        if descriptors.is_empty() {
            return Ok(Within::default());
        }
        let question = RateLimitRequest {
            domain: config.domain.clone(),
            descriptors,
            hits_addend: 0,
        };
        let asking = async |channel, question| {
            let mut client = RateLimitServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER);
            client.should_rate_limit(question).await
        };
        let answered = self.caller.call(question, asking, |response| {
            answer(response, config.x_ratelimit_headers)
        });
        match answered.await {
            Ok(Answer::Within { request, response }) => {
                self.tally.ok.inc();
                return Ok(Within { request, response });
            }
            Ok(Answer::Over(reply)) => {
                self.tally.refused.inc();
                let reason = Reason::Limited;
                return Err(Refused { reply, reason });
            }
            // The caller has told of it.
            Err(_) => self.tally.error.inc(),
        };
        if config.failure_mode_deny {
            return Err(Refused {
                reply: Reply::bare(config.status_on_error),
                reason: Reason::LimitFailed,
            });
        }
        self.tally.failure_mode_allowed.inc();
        Ok(Within::default())
    }
}

impl Counting {
    fn descriptors(
        &self,
        service: &str,
        more: &[&Descriptors],
        facts: Facts<'_>,
        clusters: Clusters<'_>,
    ) -> Vec<RateLimitDescriptor> {
        let rules = self.rules_of(service);
        let asked = rules.map(|rule| &rule.descriptors).chain(more.iter().copied());
        let made = asked.flat_map(|descriptors| descriptors.of(facts, clusters));
        made.map(|entries| descriptor(&entries)).collect()
    }

    fn rules_of(&self, service: &str) -> impl Iterator<Item = &Rule> {
        let is_named = |rule: &&Rule| rule.services.is_empty() || rule.services.iter().any(|name| **name == *service);
        self.rules.iter().filter(is_named)
    }
}

fn descriptor(entries: &[Entry<'_>]) -> RateLimitDescriptor {
    let entries = entries.iter().map(|entry| rate_limit_descriptor::Entry {
        key: entry.key.to_owned(),
        value: entry.value.clone().into(),
    });
    RateLimitDescriptor {
        entries: entries.collect(),
        ..RateLimitDescriptor::default()
    }
}
