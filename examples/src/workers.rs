//! Worker threads with a runtime each, the threads that keep what they need up to date, and the
//! signals that end them.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::thread;

use hbone::Timers;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Threads that read files and look names up for what one keeper drives, however many identities are
/// among it. A file or name that cannot be had leaves the others theirs.
const READERS: usize = 4;

/// SIGTERM and SIGINT, caught from now on.
pub(crate) struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn catch() -> io::Result<Self> {
        let runtime = runtime()?;
        let (terminate, interrupt) = {
            let _context = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        Ok(Self {
            runtime,
            terminate,
            interrupt,
        })
    }

    /// Timers that are kept by the thread of [`run`](Self::run), so that workers whose connections
    /// wait with them wait for nothing but their sockets.
    pub(crate) fn timers(&self) -> Timers {
        Timers::of(self.runtime.handle().clone())
    }

    /// Runs each of `workers` on a thread of its own until all have ended, and answers with the
    /// first failure. The first signal asks them to stop, the second drops what they still do. The
    /// end of a keeper asks them to stop as well, and is a failure: what it kept would stay as it
    /// is, and let in whoever it lets in now.
    pub(crate) fn run<W, F, E>(self, workers: Vec<W>, keepers: Keepers) -> Result<(), E>
    where
        W: FnOnce(Stop) -> F + Send,
        F: Future<Output = Result<(), E>>,
        E: From<io::Error> + From<Interrupted> + Send,
    {
        let workers = workers.into_iter().map(|worker| (thread::Builder::new(), worker));
        self.run_on(workers, keepers)
    }

    /// As [`run`](Self::run), on threads that are made so. If one cannot be, those that were are
    /// asked to stop.
    fn run_on<W, F, E>(self, workers: impl Iterator<Item = (thread::Builder, W)>, mut keepers: Keepers) -> Result<(), E>
    where
        W: FnOnce(Stop) -> F + Send,
        F: Future<Output = Result<(), E>>,
        E: From<io::Error> + From<Interrupted> + Send,
    {
        let Self {
            runtime,
            mut terminate,
            mut interrupt,
        } = self;
        let (order, phase) = watch::channel(Phase::Running);
        let (ended, mut all_ended) = mpsc::channel::<()>(1);
        thread::scope(|scope| {
            let (mut threads, mut unmade) = (Vec::new(), None);
            for (thread, worker) in workers {
                let (stop, drain, ended) = (Stop(phase.clone()), order.clone(), ended.clone());
                let made = thread.spawn_scoped(scope, move || {
                    let _ended = ended;
                    let result = run_worker(worker, stop);
                    if result.is_err() {
                        drain.send_if_modified(|phase| raise(phase, Phase::Draining));
                    }
                    result
                });
                match made {
                    Ok(thread) => threads.push(thread),
                    Err(error) => {
                        order.send_if_modified(|phase| raise(phase, Phase::Draining));
                        unmade = Some(error);
                        break;
                    }
                }
            }
            drop(ended);
            let lost = runtime.block_on(async {
                let (mut next, mut lost) = (Phase::Draining, None);
                loop {
                    tokio::select! {
                        _ = all_ended.recv() => return lost,
                        Some(name) = keepers.ended.recv() => {
                            // One that ends may take others with it.
                            lost.get_or_insert(name);
                            order.send_if_modified(|phase| raise(phase, Phase::Draining));
                            continue;
                        }
                        _ = terminate.recv() => {}
                        _ = interrupt.recv() => {}
                    }
                    order.send_if_modified(|phase| raise(phase, next));
                    next = Phase::Abandoned;
                }
            });
            let ended = threads
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            let ended = lost.map_or(ended, |name| Err(Interrupted::Unkept(name).into()));
            unmade.map_or(ended, |error| Err(error.into()))
        })
    }
}

fn run_worker<W, F, E>(worker: W, stop: Stop) -> Result<(), E>
where
    W: FnOnce(Stop) -> F,
    F: Future<Output = Result<(), E>>,
    E: From<io::Error> + From<Interrupted>,
{
    let abandoned = stop.clone();
    runtime()?.block_on(async {
        tokio::select! {
            ended = worker(stop) => ended,
            () = abandoned.abandoned() => Err(Interrupted::Abandoned.into()),
        }
    })
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn raise(phase: &mut Phase, to: Phase) -> bool {
    let raised = *phase < to;
    if raised {
        *phase = to;
    }
    raised
}

/// Why workers did not end by themselves.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Interrupted {
    /// A second signal came before everything had ended.
    #[error("stopped before everything had ended")]
    Abandoned,
    /// A keeper ended before the workers.
    #[error("stopped, for nothing keeps up with the {0} any more")]
    Unkept(&'static str),
}

/// Threads that keep identities, trust and policies up to date for the workers.
pub(crate) struct Keepers {
    tell: mpsc::UnboundedSender<&'static str>,
    ended: mpsc::UnboundedReceiver<&'static str>,
}

impl Keepers {
    pub(crate) fn new() -> Self {
        let (tell, ended) = mpsc::unbounded_channel();
        Self { tell, ended }
    }

    /// Starts one, which has to go on for as long as the workers do.
    pub(crate) fn start(&self, name: &'static str, keep: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let tell = TellsEnd(name, self.tell.clone());
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _tell = tell;
            keep();
        })?;
        Ok(())
    }

    /// Starts one that polls all of these, which have to go on for as long as the workers do. When
    /// one of them ends, the others go on.
    pub(crate) fn drive(&self, name: &'static str, drivers: Vec<Driver>) -> io::Result<()> {
        let mut runtime = Builder::new_current_thread();
        let runtime = runtime.enable_all().max_blocking_threads(READERS).build()?;
        let mut driven = JoinSet::new();
        for Driver { keeps, work } in drivers {
            let tell = TellsEnd(keeps, self.tell.clone());
            let keep = async move {
                let _tell = tell;
                work.await;
            };
            driven.spawn_on(keep, runtime.handle());
        }
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || runtime.block_on(async { while driven.join_next().await.is_some() {} }))?;
        Ok(())
    }
}

/// What keeps something up to date while it is polled.
pub(crate) struct Driver {
    keeps: &'static str,
    work: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Driver {
    pub(crate) fn new(keeps: &'static str, work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self {
            keeps,
            work: Box::pin(work),
        }
    }
}

/// Tells of a thread's end, be it by a panic.
struct TellsEnd(&'static str, mpsc::UnboundedSender<&'static str>);

impl Drop for TellsEnd {
    fn drop(&mut self) {
        // The program may have ended before it.
        self.1.send(self.0).ok();
    }
}

/// How a worker learns that it should stop.
#[derive(Clone)]
pub(crate) struct Stop(watch::Receiver<Phase>);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Phase {
    Running,
    Draining,
    Abandoned,
}

impl Stop {
    /// Waits for the order to begin nothing new and to end what there is.
    pub(crate) async fn draining(self) {
        self.reached(Phase::Draining).await;
    }

    /// One that is never given.
    #[cfg(test)]
    pub(crate) fn never() -> Self {
        Self(watch::channel(Phase::Running).1)
    }

    async fn abandoned(self) {
        self.reached(Phase::Abandoned).await;
    }

    async fn reached(mut self, phase: Phase) {
        // Whoever gives the orders outlives the workers.
        if self.0.wait_for(|now| *now >= phase).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Failure {
        #[error(transparent)]
        System(#[from] io::Error),
        #[error(transparent)]
        Interrupted(#[from] Interrupted),
    }

    async fn works_until_told(stop: Stop) -> Result<(), Failure> {
        stop.draining().await;
        Ok(())
    }

    /// Starts a keeper that ends when what is answered is dropped.
    fn goes_on(keepers: &Keepers) -> mpsc::Sender<()> {
        let (go_on, gone_on) = mpsc::channel();
        keepers
            .start("roots", move || {
                gone_on.recv().unwrap_err();
            })
            .unwrap();
        go_on
    }

    #[test]
    fn the_end_of_a_keeper_stops_the_workers_and_is_a_failure() {
        let ends: [fn(); 2] = [|| {}, || panic!("of a keeper")];
        for keep in ends {
            let keepers = Keepers::new();
            let go_on = goes_on(&keepers);
            keepers.start("policies", keep).unwrap();
            let workers = vec![works_until_told, works_until_told];
            let failure = Signals::catch().unwrap().run(workers, keepers).unwrap_err();
            assert!(
                matches!(failure, Failure::Interrupted(Interrupted::Unkept("policies"))),
                "{failure}"
            );
            drop(go_on);
        }
    }

    #[test]
    fn the_end_of_one_driver_is_a_failure_and_leaves_the_others_alone() {
        let ends: [fn(); 2] = [|| {}, || panic!("of a driver")];
        for end in ends {
            let keepers = Keepers::new();
            let (ask, mut asked) = tokio::sync::mpsc::channel::<tokio::sync::oneshot::Sender<()>>(1);
            let answering = async move {
                while let Some(answer) = asked.recv().await {
                    answer.send(()).unwrap();
                }
            };
            let drivers = vec![
                Driver::new("trust", answering),
                Driver::new("mesh", async move { end() }),
            ];
            keepers.drive("control-plane", drivers).unwrap();
            let worker = async |stop: Stop| {
                stop.draining().await;
                let (answer, answered) = tokio::sync::oneshot::channel();
                ask.send(answer).await.unwrap();
                answered.await.unwrap();
                Ok::<_, Failure>(())
            };
            let failure = Signals::catch().unwrap().run(vec![worker], keepers).unwrap_err();
            assert!(
                matches!(failure, Failure::Interrupted(Interrupted::Unkept("mesh"))),
                "{failure}"
            );
        }
    }

    #[test]
    fn many_drivers_read_with_few_threads() {
        let keepers = Keepers::new();
        let (began, begun) = mpsc::channel();
        let mut holds = Vec::new();
        let drivers = (0..=READERS).map(|_| {
            let began = began.clone();
            let (hold, held) = mpsc::channel::<()>();
            holds.push(hold);
            let reading = move || {
                began.send(()).unwrap();
                held.recv().unwrap_err();
            };
            Driver::new("files", async { tokio::task::spawn_blocking(reading).await.unwrap() })
        });
        keepers.drive("control-plane", drivers.collect()).unwrap();
        for _ in 0..READERS {
            begun.recv().unwrap();
        }
        begun.recv_timeout(Duration::from_millis(100)).unwrap_err();
        drop(holds);
        begun.recv().unwrap();
    }

    /// Whoever was to end the workers by a signal could not, while they wait for it.
    #[test]
    fn a_thread_that_cannot_be_made_stops_those_that_were() {
        let keepers = Keepers::new();
        let go_on = goes_on(&keepers);
        let larger_than_memory = thread::Builder::new().stack_size(usize::MAX / 4);
        let threads = [thread::Builder::new(), larger_than_memory];
        let workers = threads.into_iter().map(|thread| (thread, works_until_told));
        let failure = Signals::catch().unwrap().run_on(workers, keepers).unwrap_err();
        assert!(matches!(failure, Failure::System(_)), "{failure}");
        drop(go_on);
    }

    #[test]
    fn keepers_that_outlive_the_workers_are_no_failure() {
        let keepers = Keepers::new();
        let go_on = goes_on(&keepers);
        let worker = async |_: Stop| Ok::<_, Failure>(());
        Signals::catch().unwrap().run(vec![worker], keepers).unwrap();
        drop(go_on);
    }
}
