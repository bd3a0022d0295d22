//! Whom services select.

use std::collections::HashMap;

use mesh_policy::authz::Labels;
use mesh_policy::authz::attach::selects;
use mesh_xds_types::workload::{Port, PortList};

use super::super::objects::{Objects, ServicePort, TargetPort};
use super::hostname;

/// Services and ServiceEntries that select workloads.
///
/// Each is found by the one of its labels that the fewest others ask for, so that a workload is not
/// compared with everything in its namespace.
#[derive(Default)]
pub(super) struct Backends<'o> {
    all: Vec<Backend<'o>>,
    /// By namespace, name and value.
    by_label: HashMap<(&'o str, &'o str, &'o str), Vec<usize>>,
    /// Those that ask for no label, by namespace.
    of_everybody: HashMap<&'o str, Vec<usize>>,
}

struct Backend<'o> {
    namespace: &'o str,
    names: Vec<String>,
    selector: &'o Labels,
    ports: &'o [ServicePort],
    /// Whether a port is the same on a workload that has none of its name.
    is_lenient: bool,
}

impl<'o> Backends<'o> {
    pub(super) fn new(objects: &'o Objects) -> Self {
        let services = objects.services.values();
        let selecting = services.filter(|service| !service.is_external_name && !service.selector.is_empty());
        let services = selecting.map(|service| {
            let key = &service.metadata.key;
            Backend {
                namespace: &key.namespace,
                names: vec![format!("{}/{}", key.namespace, hostname(key))],
                selector: &service.selector,
                ports: &service.ports,
                is_lenient: false,
            }
        });
        let entries = objects.service_entries.values().filter_map(|entry| {
            let namespace = &entry.metadata.key.namespace;
            Some(Backend {
                namespace,
                names: entry.hosts.iter().map(|host| format!("{namespace}/{host}")).collect(),
                selector: entry.selector.as_ref()?,
                ports: &entry.ports,
                is_lenient: true,
            })
        });
        Self::index(services.chain(entries).collect())
    }

    fn index(all: Vec<Backend<'o>>) -> Self {
        let mut asked: HashMap<_, usize> = HashMap::new();
        for label in all.iter().flat_map(Backend::labels) {
            *asked.entry(label).or_default() += 1;
        }
        let mut backends = Self::default();
        for (at, backend) in all.iter().enumerate() {
            let rarest = backend.labels().min_by_key(|label| asked.get(label));
            let places = match rarest {
                Some(label) => backends.by_label.entry(label).or_default(),
                None => backends.of_everybody.entry(backend.namespace).or_default(),
            };
            places.push(at);
        }
        backends.all = all;
        backends
    }

    /// The services of a workload with these labels, with its ports. `port` knows its own numbers
    /// for names; `is_entry` says whether it is one that Kubernetes does not know.
    pub(super) fn of(
        &self,
        namespace: &str,
        labels: &Labels,
        is_entry: bool,
        port: impl Fn(&str) -> Option<u16>,
    ) -> impl Iterator<Item = (String, PortList)> {
        let mut found = Vec::new();
        for backend in self.candidates(namespace, labels) {
            if selects(backend.selector, labels) {
                let ports = ports(backend.ports, backend.is_lenient || is_entry, &port);
                found.extend(backend.names.iter().map(|name| (name.clone(), ports.clone())));
            }
        }
        found.into_iter()
    }

    /// Those that may select a workload with these labels, in their order.
    fn candidates(&self, namespace: &str, labels: &Labels) -> impl Iterator<Item = &Backend<'o>> {
        let of_labels = labels
            .iter()
            .filter_map(|(name, value)| self.by_label.get(&(namespace, name, value)));
        let mut places: Vec<usize> = of_labels
            .chain(self.of_everybody.get(namespace))
            .flatten()
            .copied()
            .collect();
        places.sort_unstable();
        places.into_iter().filter_map(|at| self.all.get(at))
    }
}

impl<'o> Backend<'o> {
    fn labels(&self) -> impl Iterator<Item = (&'o str, &'o str, &'o str)> + use<'o> {
        let namespace = self.namespace;
        let labels = self.selector.iter();
        labels.map(move |(name, value)| (namespace, name.as_str(), value.as_str()))
    }
}

/// The ports of a service, as a workload has them. One that it has not is left out, unless it is
/// taken to have the same number.
pub(super) fn ports(ports: &[ServicePort], is_lenient: bool, own: impl Fn(&str) -> Option<u16>) -> PortList {
    let mapped = ports.iter().filter_map(|port| {
        let target = match &port.target {
            TargetPort::Number(number) => Some(*number),
            TargetPort::Name(name) => own(name).or(is_lenient.then_some(port.number)),
        };
        Some(Port {
            service_port: port.number.into(),
            target_port: target?.into(),
            app_protocol: 0,
        })
    });
    PortList {
        ports: mapped.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, String)]) -> Labels {
        let pairs = pairs.iter();
        pairs.map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    fn backend<'o>(namespace: &'o str, at: usize, selector: &'o Labels) -> Backend<'o> {
        Backend {
            namespace,
            names: vec![format!("{namespace}/{at}")],
            selector,
            ports: &[],
            is_lenient: false,
        }
    }

    #[test]
    fn a_workload_has_the_services_that_select_it() {
        // All combinations of three labels with two values each, or not asked for.
        let value = |at: usize, digit: usize| {
            (at / 3_usize.pow(digit as u32) % 3)
                .checked_sub(1)
                .map(|value| value.to_string())
        };
        let all: Vec<Labels> = (0..27)
            .map(|at| {
                let pairs = ["app", "tier", "version"].into_iter().enumerate();
                let asked = pairs.filter_map(|(digit, name)| Some((name, value(at, digit)?)));
                labels(&asked.collect::<Vec<_>>())
            })
            .collect();
        let of = |namespace| {
            all.iter()
                .enumerate()
                .map(move |(at, selector)| backend(namespace, at, selector))
        };
        let backends = Backends::index(of("shop").chain(of("old")).collect());
        for labels in &all {
            let found = backends.of("shop", labels, false, |_| None).map(|(name, _)| name);
            let selecting = all.iter().enumerate().filter(|(_, selector)| selects(selector, labels));
            let expected = selecting.map(|(at, _)| format!("shop/{at}"));
            assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{labels:?}");
            assert_eq!(backends.of("new", labels, false, |_| None).count(), 0);
        }
    }

    #[test]
    fn a_workload_is_compared_with_few_of_many_services() {
        let selectors: Vec<Labels> = (0..1000)
            .map(|at| labels(&[("app", format!("app-{at}")), ("version", "v1".to_owned())]))
            .collect();
        let all = selectors
            .iter()
            .enumerate()
            .map(|(at, selector)| backend("shop", at, selector));
        let backends = Backends::index(all.collect());
        let compared: usize = (0..10_000)
            .map(|at| backends.candidates("shop", &selectors[at % 1000]).count())
            .sum();
        assert_eq!(compared, 10_000);
    }
}
