//! What came of questions, counted as Envoy counts it: an answer that is of no use is an error, whatever
//! becomes of the request.

use std::fmt;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Counters of all services.
pub(super) struct Counts {
    registry: Registry,
    authorization: Families,
    limits: Families,
}

/// Counters of one kind of service, told apart by what the configuration calls each.
struct Families {
    label: &'static str,
    ok: Named,
    refused: Named,
    error: Named,
    failure_mode_allowed: Named,
}

type Named = Family<[(&'static str, String); 1], Counter>;

/// Counters of one service.
#[derive(Clone)]
pub(super) struct Tally {
    /// Requests that may pass.
    pub(super) ok: Counter,
    /// Those that may not.
    pub(super) refused: Counter,
    /// Those that nothing was said about.
    pub(super) error: Counter,
    /// Those of the latter that passed.
    pub(super) failure_mode_allowed: Counter,
}

impl Counts {
    pub(super) fn new() -> Self {
        let mut registry = Registry::default();
        Self {
            authorization: Families::new(registry.sub_registry_with_prefix("ext_authz"), "provider", "denied"),
            limits: Families::new(registry.sub_registry_with_prefix("ratelimit"), "domain", "over_limit"),
            registry,
        }
    }

    /// Those of a provider of CUSTOM policies.
    pub(super) fn of_provider(&self, name: &str) -> Tally {
        self.authorization.of(name)
    }

    /// Those of the service that counts requests.
    pub(super) fn of_domain(&self, domain: &str) -> Tally {
        self.limits.of(domain)
    }

    /// All of them, in the text format of OpenMetrics, without its end.
    pub(super) fn encode(&self, text: &mut String) -> Result<(), fmt::Error> {
        text::encode_registry(text, &self.registry)
    }
}

impl Families {
    fn new(registry: &mut Registry, label: &'static str, refused: &'static str) -> Self {
        let mut family = |name, help| {
            let family = Named::default();
            registry.register(name, help, family.clone());
            family
        };
        Self {
            label,
            ok: family("ok", "Requests that the service lets pass"),
            refused: family(refused, "Requests that the service does not let pass"),
            error: family("error", "Requests about which the service says nothing of use"),
            failure_mode_allowed: family(
                "failure_mode_allowed",
                "Requests that pass because the service says nothing of use",
            ),
        }
    }

    fn of(&self, name: &str) -> Tally {
        let counter = |family: &Named| family.get_or_create_owned(&[(self.label, name.to_owned())]);
        Tally {
            ok: counter(&self.ok),
            refused: counter(&self.refused),
            error: counter(&self.error),
            failure_mode_allowed: counter(&self.failure_mode_allowed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_envoys_names() {
        let counts = Counts::new();
        let (opa, limits) = (counts.of_provider("opa"), counts.of_domain("mesh"));
        opa.ok.inc();
        opa.refused.inc();
        opa.error.inc_by(2);
        opa.failure_mode_allowed.inc();
        limits.refused.inc();
        // Workers share them.
        counts.of_provider("opa").ok.inc();
        let mut text = String::new();
        counts.encode(&mut text).unwrap();
        let mut found: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        found.sort_unstable();
        assert_eq!(
            found,
            [
                "ext_authz_denied_total{provider=\"opa\"} 1",
                "ext_authz_error_total{provider=\"opa\"} 2",
                "ext_authz_failure_mode_allowed_total{provider=\"opa\"} 1",
                "ext_authz_ok_total{provider=\"opa\"} 2",
                "ratelimit_error_total{domain=\"mesh\"} 0",
                "ratelimit_failure_mode_allowed_total{domain=\"mesh\"} 0",
                "ratelimit_ok_total{domain=\"mesh\"} 0",
                "ratelimit_over_limit_total{domain=\"mesh\"} 1",
            ]
        );
    }
}
