//! Random networks and users, in virtual time: whatever happens, nobody is lied to.
//!
//! Each seed is a link with its own faults and a set of tunnels with their own plans. The number of
//! seeds is 200, or `HBONE_SIMULATION_SEEDS`; one seed alone is run with `HBONE_SIMULATION_SEED`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hbone::{ErrorCode, IncomingTunnel, ReadHalf, TunnelRequest, TunnelResponse, TunnelStream, WriteHalf};
use mesh_testkit::payload::Payload;
use mesh_testkit::pipe::{self, Cut, Direction, PipeControl};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::events::Events;
use crate::pair::{Pair, background, piped};

/// A simulated run may take this long before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(900);

#[test]
fn nobody_is_lied_to_on_any_network() {
    let variable = |name| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let seeds = match variable("HBONE_SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("HBONE_SIMULATION_SEEDS").unwrap_or(200),
    };
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(simulate(seed))));
        if let Err(panic) = run {
            eprintln!("HBONE_SIMULATION_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// The choices of a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    /// At most one of these, each as likely.
    fn size(&mut self, limits: &[u64]) -> usize {
        let limit = limits[self.roll(limits.len() as u64) as usize];
        self.roll(limit + 1) as usize
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }

    fn millis(&mut self, below: u64) -> Duration {
        Duration::from_millis(self.roll(below))
    }
}

/// What happens to the link.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    Cut(Cut),
    BlackHole(Direction),
    /// For this long; shorter than anybody's patience.
    Stall(Direction, Duration),
    ServerDrains,
    ClientDrains,
}

/// What one side of a tunnel does.
#[derive(Clone, Debug)]
struct Plan {
    bytes: usize,
    chunk: usize,
    pause: Duration,
    /// How the writing ends; after all bytes, or after this many.
    end: End,
    /// Bytes of a read.
    read: usize,
    read_pause: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Finish,
    /// Shut down without waiting, and drop the half.
    FinishAndDrop,
    Reset(ErrorCode),
    Drop,
}

impl Plan {
    fn roll(dice: &mut Dice) -> Self {
        Self {
            bytes: dice.size(&[0, 1, 100, 20_000, 300_000]),
            chunk: 1 + dice.size(&[10, 3_000, 70_000]),
            pause: if dice.one_in(3) {
                dice.millis(20)
            } else {
                Duration::ZERO
            },
            end: match dice.roll(8) {
                0 => End::Reset(ErrorCode::CONNECT_ERROR),
                1 => End::Drop,
                2 | 3 => End::FinishAndDrop,
                _ => End::Finish,
            },
            read: 1 + dice.size(&[10, 2_000, 100_000]),
            read_pause: if dice.one_in(3) {
                dice.millis(20)
            } else {
                Duration::ZERO
            },
        }
    }

    fn is_orderly(&self) -> bool {
        matches!(self.end, End::Finish | End::FinishAndDrop)
    }

    /// Tiny chunks with a pause each would take hours.
    fn at_pace(mut self, other: &Self) -> Self {
        self.chunk = self.chunk.max(self.bytes / 200);
        self.read = self.read.max(other.bytes / 200);
        self
    }
}

/// What one side saw of the other's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Saw {
    Clean(usize),
    Abort(usize),
}

/// What became of a tunnel.
#[derive(Clone, Debug, Default)]
struct Story {
    opened: Option<Result<(), hbone::OpenError>>,
    client: Option<Saw>,
    server: Option<Saw>,
}

struct Scene {
    plans: Vec<[Plan; 2]>,
    stories: Mutex<Vec<Story>>,
}

const UP: u64 = 0;
const DOWN: u64 = 1;

fn payload(tunnel: usize, way: u64) -> Payload {
    Payload::new(tunnel as u64 * 2 + way)
}

async fn write(mut half: WriteHalf, plan: Plan, mut payload: Payload) {
    let mut left = plan.bytes;
    while left > 0 {
        let n = left.min(plan.chunk);
        if half.write_chunk(payload.take(n)).await.is_err() {
            return;
        }
        left -= n;
        if !plan.pause.is_zero() {
            sleep(plan.pause).await;
        }
    }
    match plan.end {
        End::Finish => drop(half.finish().await),
        End::FinishAndDrop => drop(timeout(Duration::ZERO, half.finish()).await),
        End::Reset(code) => half.reset(code),
        End::Drop => {}
    }
}

async fn read(mut half: ReadHalf, plan: &Plan, mut payload: Payload) -> Saw {
    use tokio::io::AsyncReadExt;
    let mut buf = vec![0; plan.read];
    loop {
        match half.read(&mut buf).await {
            Ok(0) => return Saw::Clean(payload.offset() as usize),
            Ok(n) => payload.verify(&buf[..n]),
            Err(_) => return Saw::Abort(payload.offset() as usize),
        }
        if !plan.read_pause.is_zero() {
            sleep(plan.read_pause).await;
        }
    }
}

async fn use_tunnel(stream: TunnelStream, plan: Plan, tunnel: usize, (out, back): (u64, u64)) -> Saw {
    let (reader, writer) = stream.into_split();
    let writing = background(write(writer, plan.clone(), payload(tunnel, out)));
    let saw = read(reader, &plan, payload(tunnel, back)).await;
    writing.await.unwrap();
    saw
}

fn handler(scene: &Arc<Scene>) -> impl hbone::Handler + use<> {
    let scene = Arc::clone(scene);
    move |tunnel: IncomingTunnel| {
        let scene = Arc::clone(&scene);
        async move {
            let index = usize::from(tunnel.request().authority().port()) - 1;
            let stream = tunnel.accept(TunnelResponse::new());
            let plan = scene.plans[index][1].clone();
            // The tunnel's use is its own task: what it sees does not depend on its handler.
            let using = background(use_tunnel(stream, plan, index, (DOWN, UP)));
            let saw = using.await.unwrap();
            scene.stories.lock().unwrap()[index].server = Some(saw);
        }
    }
}

fn link(dice: &mut Dice, seed: u64) -> pipe::Builder {
    let mut pipe = pipe::Builder::new();
    let capacity = 1 + dice.size(&[100, 5_000, 100_000]);
    pipe = match dice.one_in(2) {
        // Bytes that travel for long in a pipe that holds few would take all day.
        true => pipe.capacity(capacity.max(4_000)).latency(dice.millis(40)),
        false => pipe.capacity(capacity),
    };
    if dice.one_in(2) {
        pipe = pipe.seeded_chunks(seed, 1 + dice.roll(20_000) as usize);
    }
    if dice.one_in(3) {
        pipe = pipe.rate(100_000 + dice.roll(10_000_000));
    }
    pipe
}

fn fault(dice: &mut Dice) -> Fault {
    let direction = Direction::BOTH[dice.roll(2) as usize];
    match dice.roll(12) {
        0 => Fault::Cut(Cut::Reset),
        1 => Fault::Cut(Cut::Eof),
        2 => Fault::BlackHole(direction),
        3 | 4 => Fault::Stall(direction, dice.millis(8_000)),
        5 => Fault::ServerDrains,
        6 => Fault::ClientDrains,
        _ => Fault::None,
    }
}

async fn simulate(seed: u64) {
    let mut dice = Dice(seed);
    let mut config = crate::engine::config();
    config
        .set_stream_window(16_384 + dice.roll(600_000) as u32)
        .set_send_buffer(4_096 + dice.roll(300_000) as usize)
        // Half of the tunnels have to wait at most, for more may not.
        .set_max_tunnels(6 + dice.roll(4) as u32)
        .set_response_timeout(Duration::from_secs(300));
    let pipe = link(&mut dice, seed);
    let fault = fault(&mut dice);
    let when = dice.millis(1_500);
    let tunnels = 1 + dice.roll(12) as usize;
    let mut plans = Vec::new();
    for _ in 0..tunnels {
        let (client, server) = (Plan::roll(&mut dice), Plan::roll(&mut dice));
        plans.push([client.clone().at_pace(&server), server.at_pace(&client)]);
    }
    let starts: Vec<_> = (0..tunnels).map(|_| dice.millis(1_000)).collect();
    let scene = Arc::new(Scene {
        stories: Mutex::new(vec![Story::default(); tunnels]),
        plans,
    });
    let (events, config) = Events::of(&config);
    let (pair, control) = piped(pipe, &config, handler(&scene)).await;
    let mut users = JoinSet::new();
    for (index, start) in starts.into_iter().enumerate() {
        let (client, scene) = (pair.client.clone(), Arc::clone(&scene));
        users.spawn(async move {
            sleep(start).await;
            let request = TunnelRequest::new(format!("10.0.0.1:{}", index + 1).parse().unwrap());
            let opened = client.open(request).await;
            scene.stories.lock().unwrap()[index].opened = Some(opened.as_ref().map(drop).map_err(Clone::clone));
            let Ok(stream) = opened else { return };
            let saw = use_tunnel(stream, scene.plans[index][0].clone(), index, (UP, DOWN)).await;
            scene.stories.lock().unwrap()[index].client = Some(saw);
        });
    }
    let done = timeout(PATIENCE, async {
        let (pair, ()) = tokio::join!(strike(pair, control, fault, when), async {
            while let Some(user) = users.join_next().await {
                user.unwrap();
            }
        });
        settle_all(pair).await;
    });
    done.await
        .unwrap_or_else(|_| panic!("stuck: {fault:?}, {:#?}", scene.stories.lock().unwrap()));
    assert_eq!(events.opened(), events.closed(), "{fault:?}");
    for (index, story) in scene.stories.lock().unwrap().iter().enumerate() {
        judge(story, &scene.plans[index], fault, index);
    }
}

async fn strike(mut pair: Pair, control: PipeControl, fault: Fault, when: Duration) -> Pair {
    sleep(when).await;
    match fault {
        Fault::None => {}
        Fault::Cut(how) => control.cut(how),
        Fault::BlackHole(direction) => control.blackhole(direction),
        Fault::Stall(direction, time) => {
            control.stall(direction);
            sleep(time).await;
            control.resume(direction);
        }
        Fault::ServerDrains => {
            let (replacement, _) = tokio::sync::oneshot::channel();
            std::mem::replace(&mut pair.drain, replacement).send(()).unwrap();
        }
        Fault::ClientDrains => pair.client.drain(),
    }
    pair
}

/// All users are done: nothing is left, and the connection ends.
async fn settle_all(pair: Pair) {
    pair.client.wait_for(|status| status.tunnels == 0).await;
    drop(pair.client);
    pair.client_end.await.unwrap().ok();
    pair.server_end.await.unwrap().ok();
}

/// What was seen must be what was done.
fn judge(story: &Story, [client, server]: &[Plan; 2], fault: Fault, index: usize) {
    let context = format!("tunnel {index}, {fault:?}: {story:?}\nclient {client:?}\nserver {server:?}");
    for (saw, sender) in [(story.client, server), (story.server, client)] {
        match saw {
            Some(Saw::Clean(bytes)) => {
                assert!(sender.is_orderly(), "an abort was shown as an end: {context}");
                assert_eq!(bytes, sender.bytes, "bytes are missing from a clean end: {context}");
            }
            Some(Saw::Abort(bytes)) => assert!(bytes <= sender.bytes, "{context}"),
            None => {}
        }
    }
    let calm = matches!(fault, Fault::None | Fault::Stall(..));
    if calm && client.is_orderly() && server.is_orderly() {
        assert_eq!(story.opened, Some(Ok(())), "{context}");
        let expected = (Some(Saw::Clean(server.bytes)), Some(Saw::Clean(client.bytes)));
        assert_eq!((story.client, story.server), expected, "{context}");
    }
}
