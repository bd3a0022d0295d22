//! Room for requests: how many there may be at a time, and how many of one client.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use mesh_identity::SpiffeId;

/// So many requests at a time. A client gets a place only while more are free than it has: alone it
/// can have half of them, and each leaves half of what it found free to those that come later.
pub(super) struct Room {
    places: usize,
    taken: AtomicUsize,
    shares: Mutex<HashMap<SpiffeId, Weak<Share>>>,
}

/// What one client has of the room, on all of its connections.
pub(super) struct Share {
    room: Arc<Room>,
    client: SpiffeId,
    taken: AtomicUsize,
}

/// A place, until it is dropped.
pub(super) struct Place(Arc<Share>);

impl Room {
    pub(super) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self {
            places,
            taken: AtomicUsize::new(0),
            shares: Mutex::default(),
        })
    }

    /// The share of a client, which lasts as long as one of its connections.
    pub(super) fn share(self: &Arc<Self>, client: &SpiffeId) -> Arc<Share> {
        let mut shares = self.lock();
        if let Some(share) = shares.get(client).and_then(Weak::upgrade) {
            return share;
        }
        let share = Arc::new(Share {
            room: Arc::clone(self),
            client: client.clone(),
            taken: AtomicUsize::new(0),
        });
        shares.insert(client.clone(), Arc::downgrade(&share));
        share
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SpiffeId, Weak<Share>>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Takes a place for a request.
    ///
    /// # Errors
    ///
    /// There is none, or none for this client.
    pub(super) fn take(self: &Arc<Self>) -> Result<Place, Full> {
        let own = self.taken.fetch_add(1, Ordering::Relaxed);
        let may = |taken: usize| (own < self.room.places.saturating_sub(taken)).then_some(taken + 1);
        let taken = &self.room.taken;
        match taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, may) {
            Ok(_) => Ok(Place(Arc::clone(self))),
            Err(taken) => {
                self.taken.fetch_sub(1, Ordering::Relaxed);
                Err(if taken < self.room.places {
                    Full::Share
                } else {
                    Full::Room
                })
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // The client may have come again meanwhile.
        if let Entry::Occupied(share) = self.room.lock().entry(self.client.clone())
            && share.get().strong_count() == 0
        {
            share.remove();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Self(share) = self;
        share.taken.fetch_sub(1, Ordering::Relaxed);
        share.room.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a request has no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    #[error("too many requests are under way")]
    Room,
    #[error("too many requests of this client are under way")]
    Share,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(account: &str) -> SpiffeId {
        format!("spiffe://cluster.local/ns/shop/sa/{account}").parse().unwrap()
    }

    fn all(share: &Arc<Share>) -> (Vec<Place>, Full) {
        let mut places = Vec::new();
        loop {
            match share.take() {
                Ok(place) => places.push(place),
                Err(full) => return (places, full),
            }
        }
    }

    #[test]
    fn no_client_takes_all_the_room() {
        let room = Room::new(100);
        let greedy = room.share(&id("spy"));
        let (places, full) = all(&greedy);
        assert_eq!((places.len(), full), (50, Full::Share));
        // Another connection does not help.
        assert!(room.share(&id("spy")).take().is_err());
        let (others, full) = all(&room.share(&id("cart")));
        assert_eq!((others.len(), full), (25, Full::Share));
        drop(places);
        let (more, _) = all(&room.share(&id("till")));
        assert_eq!(more.len(), 38);
    }

    #[test]
    fn the_last_place_can_be_taken() {
        let room = Room::new(1);
        let place = room.share(&id("cart")).take();
        assert!(place.is_ok());
        assert_eq!(room.share(&id("till")).take().err(), Some(Full::Room));
        drop(place);
        assert!(room.share(&id("till")).take().is_ok());
    }

    #[test]
    fn clients_that_are_gone_are_forgotten() {
        let room = Room::new(10);
        let share = room.share(&id("cart"));
        let place = share.take();
        drop(share);
        assert_eq!(room.lock().len(), 1);
        drop(place);
        assert_eq!((room.lock().len(), room.taken.load(Ordering::Relaxed)), (0, 0));
    }
}
