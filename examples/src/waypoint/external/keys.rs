//! The keys of issuers whose tokens are believed: fetched beforehand, and again from time to time.

mod address;
mod driver;
mod fetch;
mod schedule;
#[cfg(test)]
mod tests;
mod url;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use mesh_policy::jwt::{KeySet, KeySource, WantedKeys};
use tokio::sync::watch;
use tokio::time::timeout;

use self::fetch::Fetcher;
use super::config;

/// The most places that keys are fetched from. Policies may name more; those issuers' tokens are
/// refused.
const MAX_PLACES: usize = 256;

/// How long a request waits for keys that were never fetched yet, as Envoy has it by default.
const PATIENCE: Duration = Duration::from_secs(5);

/// The keys of issuers, as of the last time that they could be fetched. A token whose keys never
/// could be, or not for a day, is refused.
#[derive(Clone)]
pub(in crate::waypoint) struct Keys(Arc<Shared>);

struct Shared {
    held: RwLock<Held>,
    /// Says that places have changed, or what is held of them.
    changed: watch::Sender<()>,
    fetcher: Fetcher,
}

/// Places by issuer.
type Held = HashMap<Box<str>, Vec<Place>>;

/// Where an issuer's keys are, and which they are.
#[derive(Clone)]
struct Place {
    uri: Option<Box<str>>,
    timeout: Duration,
    keys: Option<Arc<KeySet>>,
    is_tried: bool,
}

/// A place that is to be called.
struct Wanted {
    name: PlaceName,
    /// How long calling it may take.
    timeout: Duration,
    /// Whether it was called since it is wanted.
    is_tried: bool,
}

/// What a place is known by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PlaceName {
    issuer: Box<str>,
    /// `None`: where the issuer's discovery document says.
    uri: Option<Box<str>>,
}

impl Keys {
    /// None yet, and what fetches them for as long as it is polled.
    pub(super) fn new(config: &config::Keys) -> (Self, impl Future<Output = Infallible> + Send + use<>) {
        let shared = Arc::new(Shared {
            held: RwLock::default(),
            changed: watch::Sender::new(()),
            fetcher: Fetcher::new(config),
        });
        let driving = driver::drive(Arc::clone(&shared));
        (Self(shared), driving)
    }

    /// Fetches these keys from now on, and no others. Those that are held stay.
    pub(in crate::waypoint) fn follow<'w>(&self, wanted: impl IntoIterator<Item = WantedKeys<'w>>) {
        self.0.change(|held| {
            let mut before = std::mem::take(held);
            let mut count = 0;
            for keys in wanted {
                let places = held.entry(keys.issuer.into()).or_default();
                if let Some(place) = places.iter_mut().find(|place| place.uri.as_deref() == keys.uri) {
                    place.timeout = place.timeout.max(keys.timeout);
                    continue;
                }
                count += 1;
                if count > MAX_PLACES {
                    continue;
                }
                let known = before.get_mut(keys.issuer).and_then(|places| {
                    let at = places.iter().position(|place| place.uri.as_deref() == keys.uri)?;
                    Some(places.swap_remove(at))
                });
                let fresh = Place {
                    uri: keys.uri.map(Box::from),
                    timeout: keys.timeout,
                    keys: None,
                    is_tried: false,
                };
                places.push(Place {
                    timeout: keys.timeout,
                    ..known.unwrap_or(fresh)
                });
            }
            if count > MAX_PLACES {
                tracing::warn!(
                    count,
                    most = MAX_PLACES,
                    "keys not fetched: policies name too many places"
                );
            }
        });
    }

    /// Waits until these have been fetched, or could not be, for the first time; though not for long.
    /// Whoever asks for them right after a start or a change of policies would else be refused.
    pub(in crate::waypoint) async fn tried_for<'w, W: Iterator<Item = WantedKeys<'w>>>(&self, wanted: impl Fn() -> W) {
        let mut changed = self.0.changed.subscribe();
        let tried = async {
            while wanted().any(|keys| self.0.is_untried(&keys)) {
                // The sender is in `self`.
                changed.changed().await.ok();
            }
        };
        timeout(PATIENCE, tried).await.ok();
    }
}

impl KeySource for Keys {
    fn keys(&self, wanted: &WantedKeys<'_>) -> Option<Arc<KeySet>> {
        self.0.place(wanted, |place| place.keys.clone())?
    }
}

impl Shared {
    fn is_untried(&self, wanted: &WantedKeys<'_>) -> bool {
        self.place(wanted, |place| !place.is_tried) == Some(true)
    }

    /// What there is to say of a place, if it is one.
    fn place<T>(&self, wanted: &WantedKeys<'_>, say: impl FnOnce(&Place) -> T) -> Option<T> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let places = held.get(wanted.issuer)?;
        places.iter().find(|place| place.uri.as_deref() == wanted.uri).map(say)
    }

    /// Changes what is held, and says so.
    fn change(&self, change: impl FnOnce(&mut Held)) {
        change(&mut self.held.write().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_replace(());
    }

    /// All places.
    fn places(&self) -> Vec<Wanted> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let places = held.iter().flat_map(|(issuer, places)| {
            places.iter().map(|place| Wanted {
                name: PlaceName {
                    issuer: issuer.clone(),
                    uri: place.uri.clone(),
                },
                timeout: place.timeout,
                is_tried: place.is_tried,
            })
        });
        places.collect()
    }

    /// A place was called, and if it is still wanted, this becomes of its keys.
    fn tried(&self, name: &PlaceName, change: impl FnOnce(&mut Option<Arc<KeySet>>)) {
        self.change(|held| {
            let places = held.get_mut(&name.issuer);
            let place = places.and_then(|places| places.iter_mut().find(|place| place.uri == name.uri));
            if let Some(place) = place {
                place.is_tried = true;
                change(&mut place.keys);
            }
        });
    }
}
