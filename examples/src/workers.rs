//! Worker threads with a runtime each, and the signals that end them.

use std::future::Future;
use std::io;
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

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

    /// Runs each of `workers` on a thread of its own until all have ended, and answers with the
    /// first failure. The first signal asks them to stop, the second drops what they still do.
    pub(crate) fn run<W, F, E>(self, workers: Vec<W>) -> Result<(), E>
    where
        W: FnOnce(Stop) -> F + Send,
        F: Future<Output = Result<(), E>>,
        E: From<io::Error> + From<Abandoned> + Send,
    {
        let Self {
            runtime,
            mut terminate,
            mut interrupt,
        } = self;
        let (order, phase) = watch::channel(Phase::Running);
        let (ended, mut all_ended) = mpsc::channel::<()>(1);
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for worker in workers {
                let (stop, order, ended) = (Stop(phase.clone()), order.clone(), ended.clone());
                threads.push(thread::Builder::new().spawn_scoped(scope, move || {
                    let _ended = ended;
                    let result = run_worker(worker, stop);
                    if result.is_err() {
                        order.send_if_modified(|phase| raise(phase, Phase::Draining));
                    }
                    result
                })?);
            }
            drop(ended);
            runtime.block_on(async {
                let mut next = Phase::Draining;
                loop {
                    tokio::select! {
                        _ = all_ended.recv() => return,
                        _ = terminate.recv() => {}
                        _ = interrupt.recv() => {}
                    }
                    order.send_if_modified(|phase| raise(phase, next));
                    next = Phase::Abandoned;
                }
            });
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }
}

fn run_worker<W, F, E>(worker: W, stop: Stop) -> Result<(), E>
where
    W: FnOnce(Stop) -> F,
    F: Future<Output = Result<(), E>>,
    E: From<io::Error> + From<Abandoned>,
{
    let abandoned = stop.clone();
    runtime()?.block_on(async {
        tokio::select! {
            ended = worker(stop) => ended,
            () = abandoned.abandoned() => Err(Abandoned.into()),
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

/// A second signal came before everything had ended.
#[derive(Debug, thiserror::Error)]
#[error("stopped before everything had ended")]
pub(crate) struct Abandoned;

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
