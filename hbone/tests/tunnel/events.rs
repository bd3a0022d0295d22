//! What an observer saw, and how many handlers run.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hbone::{Config, Event, Observer};

/// Every event of a connection.
#[derive(Default)]
pub struct Events(Mutex<Vec<Event>>);

impl Events {
    /// New events, and `config` with them as its observer.
    pub fn of(config: &Config) -> (Arc<Self>, Config) {
        let events = Arc::<Self>::default();
        let mut config = config.clone();
        config.set_observer(events.clone());
        (events, config)
    }

    pub fn count(&self, matches: impl Fn(&Event) -> bool) -> usize {
        self.0.lock().unwrap().iter().filter(|event| matches(event)).count()
    }

    pub fn opened(&self) -> usize {
        self.count(|event| matches!(event, Event::TunnelOpened { .. }))
    }

    pub fn closed(&self) -> usize {
        self.count(|event| matches!(event, Event::TunnelClosed { .. }))
    }
}

impl Observer for Events {
    fn event(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

/// Counts handlers.
#[derive(Clone, Default)]
pub struct Tally(Arc<Counts>);

#[derive(Default)]
struct Counts {
    started: AtomicUsize,
    alive: AtomicUsize,
    most: AtomicUsize,
}

impl Tally {
    /// A handler begins; it ends when the answer is dropped.
    pub fn begin(&self) -> impl Drop + Send + use<> {
        struct End(Arc<Counts>);
        impl Drop for End {
            fn drop(&mut self) {
                self.0.alive.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.0.started.fetch_add(1, Ordering::SeqCst);
        let alive = self.0.alive.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most.fetch_max(alive, Ordering::SeqCst);
        End(Arc::clone(&self.0))
    }

    pub fn started(&self) -> usize {
        self.0.started.load(Ordering::SeqCst)
    }

    pub fn alive(&self) -> usize {
        self.0.alive.load(Ordering::SeqCst)
    }

    /// The most that were alive at a time.
    pub fn most(&self) -> usize {
        self.0.most.load(Ordering::SeqCst)
    }
}
