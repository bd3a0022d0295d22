use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use mesh_policy::traffic::breaker::{Breaker, Permit, Resource};
use tokio::time::{sleep, timeout};

use super::clock::Clock;
use super::dial::{Dial, DialError};
use super::due::{self, Due};
use super::error::{Fault, Late};
use super::shelf::{Lease, Make, Making, One, Shelf};
use super::site::Site;
use super::tasks::Tasks;
use super::terms::Terms;
use super::wire::{Berth, Count, Wire};

/// The most lines and bytes that the head of an answer may have, as in Envoy.
const MOST_HEADERS: usize = 100;
const HEAD_BYTES: usize = 60 * 1024;
/// How often idle connections are looked at.
const TIDY: Duration = Duration::from_secs(10);

/// A worker's connections to endpoints.
pub(super) struct Connections<D> {
    dial: D,
    clock: Clock,
    /// By the numbers of sites.
    shelves: Arc<Shelves>,
    pub(super) tasks: Tasks,
    is_kept: AtomicBool,
}

type Shelves = Mutex<HashMap<u64, Arc<Shelf>>>;

impl<D: Dial> Connections<D> {
    pub(super) fn new(dial: D, clock: Clock) -> Self {
        Self {
            dial,
            clock,
            shelves: Arc::default(),
            tasks: Tasks::default(),
            is_kept: AtomicBool::new(false),
        }
    }

    /// A stream to an endpoint.
    pub(super) async fn reach(&self, site: &Site, connect_timeout: Duration) -> Result<D::Io, DialError> {
        // Dialling is rare and has much to remember, for which each request would keep room.
        let dialled = timeout(connect_timeout, Box::pin(self.dial.dial(site))).await;
        dialled.unwrap_or(Err(DialError::Timeout))
    }

    /// A connection to an endpoint that is ready for a request. Nothing of a request is written
    /// before: whatever fails here leaves it unsent. Who waits until `due` is told for whom: the
    /// endpoint, or others who have the connections that there may be.
    ///
    /// # Cancel safety
    ///
    /// Dropped, places are given back; whoever waited for the same connection makes it.
    pub(super) async fn acquire(
        &self,
        site: &Site,
        is_http2: bool,
        terms: &Terms,
        breaker: &Breaker,
        due: Option<Due>,
    ) -> Result<Lease, Fault> {
        let shelf = self.shelf(site);
        let ready = |now| match is_http2 {
            true => shelf.share(terms, now),
            false => shelf.take(terms, now),
        };
        if let Some(lease) = ready(self.clock.now()) {
            return Ok(lease);
        }
        let _pending = breaker.acquire(Resource::Pending).map_err(Fault::Overflow)?;
        loop {
            if is_http2 {
                self.make_shared(&shelf, site, terms, breaker, due).await?;
            } else if let Some(berth) = berth(&shelf, breaker) {
                let making = self.make_one(&shelf, site, terms, berth);
                let made = due::wait(due, Due::unconnected, making).await?;
                return made.map_err(|error| Fault::Connect(Arc::new(error)));
            } else {
                shelf.watch(&self.tasks, self.clock);
                freed(&shelf, due).await?;
            }
            if let Some(lease) = ready(self.clock.now()) {
                return Ok(lease);
            }
        }
    }

    async fn make_one(&self, shelf: &Arc<Shelf>, site: &Site, terms: &Terms, berth: Berth) -> Result<Lease, DialError> {
        let (wire, count) = self.wire(site, terms, berth).await?;
        let mut builder = http1::Builder::new();
        builder.max_headers(MOST_HEADERS).max_header_size(HEAD_BYTES);
        let (sender, connection) = builder.handshake(wire).await.map_err(DialError::Http)?;
        self.tasks.start(async move {
            if let Err(reason) = connection.with_upgrades().await {
                tracing::debug!(%reason, "connection to an endpoint lost");
            }
        });
        Ok(Lease::One(One::new(sender, count, self.clock.now()), Arc::clone(shelf)))
    }

    /// Makes a connection of HTTP/2, or waits for what may have one be there.
    async fn make_shared(
        &self,
        shelf: &Arc<Shelf>,
        site: &Site,
        terms: &Terms,
        breaker: &Breaker,
        due: Option<Due>,
    ) -> Result<(), Fault> {
        let made = match shelf.make() {
            Make::Wait(mut told) => {
                // Whoever makes it says nothing where it is made, or given up.
                drop(due::wait(due, Due::unconnected, told.changed()).await?);
                told.borrow().clone().map_or(Ok(()), Err)
            }
            Make::Do(making) => {
                let Some(berth) = berth(shelf, breaker) else {
                    drop(making);
                    return freed(shelf, due).await;
                };
                due::wait(due, Due::unconnected, self.share(making, site, terms, berth)).await?
            }
        };
        made.map_err(Fault::Connect)
    }

    async fn share(&self, making: Making, site: &Site, terms: &Terms, berth: Berth) -> Result<(), Arc<DialError>> {
        let made = async {
            let (wire, count) = self.wire(site, terms, berth).await?;
            let mut builder = http2::Builder::new(self.tasks.starter());
            builder.timer(TokioTimer::new()).max_header_list_size(HEAD_BYTES as u32);
            let (sender, connection) = builder.handshake(wire).await.map_err(DialError::Http)?;
            self.tasks.start(async move {
                if let Err(reason) = connection.await {
                    tracing::debug!(%reason, "connection to an endpoint lost");
                }
            });
            Ok::<_, DialError>((sender, count))
        };
        match made.await {
            Ok((sender, count)) => {
                making.made(sender, count, self.clock.now());
                Ok(())
            }
            Err(error) => {
                let error = Arc::new(error);
                making.failed(&error);
                Err(error)
            }
        }
    }

    async fn wire(
        &self,
        site: &Site,
        terms: &Terms,
        berth: Berth,
    ) -> Result<(TokioIo<Wire<D::Io>>, Arc<Count>), DialError> {
        let io = self.reach(site, terms.connect_timeout).await?;
        let (wire, count) = Wire::new(io, berth);
        Ok((TokioIo::new(wire), count))
    }

    /// Ends connections as soon as they carry nothing.
    pub(super) fn close(&self) {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        shelves.drain().for_each(|(_, shelf)| shelf.close());
    }

    fn shelf(&self, site: &Site) -> Arc<Shelf> {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_kept.swap(true, Ordering::Relaxed) {
            self.keep();
        }
        let shelf = shelves
            .entry(site.id.number())
            .or_insert_with(|| Arc::new(Shelf::new(&site.id)));
        Arc::clone(shelf)
    }

    /// Drops connections that have been idle for too long, for as long as there are any.
    fn keep(&self) {
        let (shelves, clock) = (Arc::downgrade(&self.shelves), self.clock);
        self.tasks.start(async move {
            loop {
                sleep(TIDY).await;
                let Some(shelves) = shelves.upgrade() else {
                    return;
                };
                let mut shelves = shelves.lock().unwrap_or_else(PoisonError::into_inner);
                shelves.retain(|_, shelf| shelf.tidy(clock.now()));
            }
        });
    }
}

/// Waits until there may be a place, or a connection that nobody uses.
async fn freed(shelf: &Shelf, due: Option<Due>) -> Result<(), Fault> {
    due::wait(due, |due| due.fault(Late::Others), shelf.quay.freed()).await
}

/// A place for another connection. Where a breaker has none left there is still one for an endpoint
/// without any, as in Envoy: its requests would wait for nothing.
fn berth(shelf: &Shelf, breaker: &Breaker) -> Option<Berth> {
    let permit: Option<Permit> = breaker.acquire(Resource::Connections).ok();
    (permit.is_some() || shelf.quay.is_empty()).then(|| Berth::new(&shelf.quay, permit))
}
