use std::collections::HashMap;

use super::host::{Form, HostPattern};

/// Things of a namespace, found by the hosts that they name.
#[derive(Clone, Debug)]
pub(super) struct ByHost<T> {
    things: Vec<T>,
    /// The places of those that name a host by itself, by the name as it is written.
    single: HashMap<Box<str>, Vec<usize>>,
    /// Those that name several by one pattern.
    general: Vec<usize>,
}

impl<T> ByHost<T> {
    /// Adds a thing, which then has a place.
    pub(super) fn push<'h>(&mut self, thing: T, hosts: impl IntoIterator<Item = &'h HostPattern>) -> usize {
        let at = self.things.len();
        for host in hosts {
            let places = match host.form() {
                Form::Exact(name) => self.single.entry(name.clone()).or_default(),
                Form::Any | Form::Below(_) => &mut self.general,
            };
            if places.last() != Some(&at) {
                places.push(at);
            }
        }
        self.things.push(thing);
        at
    }

    /// The thing at a place.
    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.things.get_mut(at)
    }

    /// All that may name a host, which is given in full: so, by its short name, or among others. Each
    /// is there once, in the order in which they were added.
    pub(super) fn about(&self, host: &str) -> impl DoubleEndedIterator<Item = &T> {
        let short = host.split('.').next().unwrap_or_default();
        let single = [host, short].map(|name| self.single.get(&*name.to_ascii_lowercase()));
        let single = single.into_iter().flatten().flatten();
        let mut places: Vec<usize> = single.chain(&self.general).copied().collect();
        places.sort_unstable();
        places.dedup();
        places.into_iter().filter_map(|at| self.things.get(at))
    }
}

impl<T> Default for ByHost<T> {
    fn default() -> Self {
        Self {
            things: Vec::new(),
            single: HashMap::new(),
            general: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_names_a_host_is_passed_over() {
        let hosts = ["a", "A.n.svc.x", "*.n.svc.x", "*", "b", "a.m.svc.x"];
        let mut things = ByHost::default();
        for host in hosts {
            things.push(host, [&host.parse().unwrap()]);
        }
        let both: Vec<HostPattern> = vec!["a".parse().unwrap(), "a.n.svc.x".parse().unwrap()];
        things.push("both", &both);
        let about = |host| things.about(host).copied().collect::<Vec<_>>().join(" ");
        assert_eq!(about("a.n.svc.x"), "a A.n.svc.x *.n.svc.x * both");
        assert_eq!(about("c.n.svc.x"), "*.n.svc.x *");
    }
}
