use std::{collections::HashMap, hash::BuildHasherDefault};

use crate::{
    fingerprint::Mixing,
    traffic::host::{Form, HostPattern, MAX_HOST_BYTES},
};

type Table = HashMap<Box<[u8]>, usize, BuildHasherDefault<Mixing>>;

/// Finds which hosts a host is among, the most specific first.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts {
    exact: Table,
    /// By what follows the star.
    below: Table,
    /// The length of the longest of those.
    longest: usize,
    any: Option<usize>,
}

impl Hosts {
    pub(super) fn insert(&mut self, host: &HostPattern, place: usize) {
        match host.form() {
            Form::Any => self.any = Some(place),
            Form::Below(suffix) => {
                self.longest = self.longest.max(suffix.len());
                self.below.insert(suffix.as_bytes().into(), place);
            }
            Form::Exact(name) => {
                self.exact.insert(name.as_bytes().into(), place);
            }
        }
    }

    /// Visits what was inserted for the host until the visitor has enough. A request without a host
    /// belongs only where all do.
    pub(super) fn visit(&self, host: Option<&[u8]>, mut is_enough: impl FnMut(usize) -> bool) {
        let mut buffer = [0; MAX_HOST_BYTES];
        let name = host.and_then(|host| {
            let name = buffer.get_mut(..host.len())?;
            name.copy_from_slice(host);
            name.make_ascii_lowercase();
            Some(&*name)
        });
        if let Some(name) = name {
            if self.exact.get(name).is_some_and(|place| is_enough(*place)) {
                return;
            }
            if !self.below.is_empty() {
                // What stands before the first dot has at least one byte.
                let start = name.len().saturating_sub(self.longest).max(1);
                let dots = name.iter().enumerate().skip(start).filter(|(_, byte)| **byte == b'.');
                for suffix in dots.filter_map(|(at, _)| name.get(at..)) {
                    if self.below.get(suffix).is_some_and(|place| is_enough(*place)) {
                        return;
                    }
                }
            }
        }
        if let Some(place) = self.any {
            is_enough(place);
        }
    }
}
