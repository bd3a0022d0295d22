//! A control plane, three nodes and what is between them, event by event.

use std::time::{Duration, Instant};

use mesh_testkit::clock::ManualClock;
use mesh_xds::delta::{Server, ServerConfig};

use crate::chance::Chance;
use crate::link::{Sent, Stream, arrived, send};
use crate::node::Node;
use crate::truth::{NODES, Truth, Versions};

/// Things happen for so long, and then there is so much time for everybody to hear of them.
const BUSY: u64 = 30_000;
const QUIET: u64 = 120_000;

/// Events at one moment: more of them are a loop.
const MAX_EVENTS_AT_ONCE: u32 = 2_000;

pub struct World {
    chance: Chance,
    origin: Instant,
    now: u64,
    truth: Truth,
    /// `None` while the control plane is down.
    server: Option<Server>,
    back_at: u64,
    keeps_versions: bool,
    versions: Versions,
    part: usize,
    nodes: Vec<Node>,
    streams: Vec<Stream>,
    /// Until when nothing passes between a node and the control plane.
    clear_at: [u64; NODES.len()],
    /// When an end of a stream learns that it broke: the moment, the node, and whether it is the
    /// node's end.
    breaks: Vec<(u64, usize, bool)>,
    next_change: u64,
    next_use: u64,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let clock = ManualClock::new();
        let keeps_versions = chance.one_in(2);
        let mut world = Self {
            part: *chance.pick(&[1, 300, 100_000]),
            versions: Versions::Content,
            keeps_versions,
            chance,
            origin: clock.now(),
            now: 0,
            truth: Truth::default(),
            server: None,
            back_at: 0,
            nodes: NODES
                .iter()
                .enumerate()
                .map(|(at, name)| Node::new(name, at == 2))
                .collect(),
            streams: Vec::new(),
            clear_at: [0; NODES.len()],
            breaks: Vec::new(),
            next_change: 0,
            next_use: 0,
        };
        for _ in 0..10 {
            world.truth.change(&mut world.chance);
        }
        world
    }

    /// Lets things happen, and then everybody hear of them.
    pub fn run(mut self) -> u64 {
        let mut at_once = 0;
        while self.now < BUSY + QUIET {
            self.turn();
            let next = self.next_event().min(BUSY + QUIET);
            assert!(next >= self.now);
            at_once = if next == self.now { at_once + 1 } else { 0 };
            assert!(at_once < MAX_EVENTS_AT_ONCE, "something spins at {next}");
            self.now = next;
        }
        for node in &self.nodes {
            node.check(&self.truth);
        }
        let clients = self.server.as_ref().map_or(0, |server| server.clients().count());
        assert_eq!(clients, NODES.len(), "no stream is left behind");
        self.nodes.iter().map(|node| node.opened).sum()
    }

    /// Everything that is due now, and then what everybody says to it.
    fn turn(&mut self) {
        if self.now < BUSY {
            if self.next_change <= self.now {
                self.next_change = self.now + self.chance.between(1, 4_000);
                self.disturb();
            }
            if self.next_use <= self.now {
                self.next_use = self.now + self.chance.between(1, 1_000);
                self.use_nodes();
            }
        }
        if self.server.is_none() && self.back_at <= self.now {
            self.start_server();
        }
        self.break_streams();
        self.deliver();
        for node in 0..self.nodes.len() {
            self.drive_node(node);
        }
        self.drive_server();
        self.streams.retain(|stream| !stream.is_gone());
    }

    fn next_event(&self) -> u64 {
        let mut next = vec![u64::MAX];
        if self.now < BUSY {
            next.extend([self.next_change, self.next_use]);
        }
        if self.server.is_none() {
            next.push(self.back_at);
        }
        next.extend(self.breaks.iter().map(|(at, ..)| *at));
        for stream in &self.streams {
            let is_at_work = self.nodes[stream.node].at_work.is_some();
            next.extend(stream.next_event(self.clear_at[stream.node], is_at_work));
            let deadline = |id| self.server.as_ref()?.deadline(id);
            next.extend(stream.server.and_then(deadline).map(|at| self.millis(at)));
        }
        for node in &self.nodes {
            next.extend(node.at_work.as_ref().map(|(at, _)| *at));
            next.extend(node.client.deadline().map(|at| self.millis(at)));
            next.extend(node.client.connect_at(self.instant()).map(|at| self.millis(at)));
            next.extend(node.desk.next_event().filter(|at| *at > self.now));
        }
        next.into_iter().min().unwrap_or(u64::MAX).max(self.now)
    }

    /// The mesh changes, or something goes wrong.
    fn disturb(&mut self) {
        match self.chance.below(16) {
            0 => self.stop_server(),
            1 | 2 => self.partition(),
            3 => self.repeat(),
            _ => {
                let change = self.truth.change(&mut self.chance);
                for step in 0..3 {
                    if let Some(server) = &mut self.server {
                        self.truth.tell(&change, self.versions, server, step);
                    }
                    if self.chance.one_in(2) {
                        self.drive_server();
                    }
                }
            }
        }
    }

    fn use_nodes(&mut self) {
        let now = self.instant();
        for node in &mut self.nodes {
            node.connect(&self.truth, self.now, &mut self.chance);
            if node.is_on_demand {
                node.demand(&self.truth, now, self.now, &mut self.chance);
            }
        }
    }

    fn start_server(&mut self) {
        if !self.keeps_versions {
            self.versions = Versions::Run(self.now);
        }
        let config = ServerConfig::new().max_response_bytes(2_000).part_bytes(self.part);
        let mut server = Server::new(config);
        self.truth.tell_all(self.versions, &mut server);
        self.server = Some(server);
    }

    fn stop_server(&mut self) {
        self.server = None;
        self.back_at = self.now + self.chance.between(1, 5_000);
        for stream in &mut self.streams {
            stream.server = None;
            let after = self.chance.between(1, 300);
            send(&mut stream.responses, Sent::End, self.now + after);
        }
    }

    /// Nothing passes for a while, and perhaps the streams break over it.
    fn partition(&mut self) {
        let node = usize::try_from(self.chance.below(3)).unwrap();
        let lasts = self.chance.between(1, 15_000);
        self.clear_at[node] = self.now + lasts;
        if self.chance.one_in(2) {
            for is_node in [false, true] {
                let at = self.now + self.chance.below(lasts + 10_000);
                self.breaks.push((at, node, is_node));
            }
        }
    }

    /// A response comes twice.
    fn repeat(&mut self) {
        for stream in &mut self.streams {
            if let Some((at, Sent::Message(response))) = stream.responses.front().cloned() {
                let place = stream.responses.len().min(1 + usize::from(self.chance.one_in(2)));
                let at = stream.responses.get(place - 1).map_or(at, |(at, _)| *at);
                stream.responses.insert(place, (at, Sent::Message(response)));
            }
        }
    }

    fn break_streams(&mut self) {
        let now = self.now;
        let due: Vec<_> = self.breaks.extract_if(.., |(at, ..)| *at <= now).collect();
        for (_, node, is_node) in due {
            for at in 0..self.streams.len() {
                if self.streams[at].node == node {
                    match is_node {
                        true => self.leave(at),
                        false => self.drop_client(at),
                    }
                }
            }
        }
    }

    fn deliver(&mut self) {
        for at in 0..self.streams.len() {
            let node = self.streams[at].node;
            if self.clear_at[node] > self.now {
                continue;
            }
            while let Some(id) = self.streams[at].server {
                match arrived(&mut self.streams[at].requests, self.now) {
                    Some(Sent::Message(request)) => {
                        let server = self.server.as_mut().unwrap();
                        drop(server.receive(id, &request).unwrap());
                    }
                    Some(Sent::End) => self.drop_client(at),
                    None => break,
                }
            }
            while self.streams[at].is_open && self.nodes[node].at_work.is_none() {
                match arrived(&mut self.streams[at].responses, self.now) {
                    Some(Sent::Message(response)) => {
                        let push = self.nodes[node].client.receive(response);
                        let takes = if self.chance.one_in(8) {
                            self.chance.below(2_000)
                        } else {
                            0
                        };
                        self.nodes[node].at_work = push.map(|push| (self.now + takes, push));
                        self.finish_work(node);
                    }
                    Some(Sent::End) => self.leave(at),
                    None => break,
                }
            }
        }
    }

    fn finish_work(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        if let Some((_, push)) = node.at_work.take_if(|(at, _)| *at <= self.now) {
            node.apply(push, &self.truth, self.now, &mut self.chance);
        }
    }

    /// What the driver of a client does after each event.
    fn drive_node(&mut self, at: usize) {
        self.finish_work(at);
        let now = self.instant();
        self.nodes[at].hear(now);
        if self.nodes[at].client.is_stalled(now) {
            let open = self
                .streams
                .iter()
                .position(|stream| stream.node == at && stream.is_open);
            self.leave(open.unwrap());
        }
        let client = &mut self.nodes[at].client;
        if client.connect_at(now).is_some_and(|moment| moment <= now) {
            let is_clear = self.clear_at[at] <= self.now;
            match self.server.as_mut().filter(|_| is_clear) {
                Some(server) => {
                    self.streams.push(Stream::new(at, server.connect().unwrap()));
                    client.connected();
                }
                None => {
                    let jitter = jitter(&mut self.chance);
                    self.nodes[at].disconnected(now, jitter);
                }
            }
        }
        if let Some(stream) = self
            .streams
            .iter_mut()
            .find(|stream| stream.node == at && stream.is_open)
        {
            while let Some(request) = self.nodes[at].client.next_request(now) {
                let takes = latency(&mut self.chance);
                send(&mut stream.requests, Sent::Message(request), self.now + takes);
            }
        }
    }

    /// What the driver of a server does after each event.
    fn drive_server(&mut self) {
        let now = self.instant();
        for at in 0..self.streams.len() {
            let (Some(server), Some(id)) = (&mut self.server, self.streams[at].server) else {
                continue;
            };
            while let Some(response) = server.next_response(id, now) {
                let takes = latency(&mut self.chance);
                send(
                    &mut self.streams[at].responses,
                    Sent::Message(response),
                    self.now + takes,
                );
            }
            if server.is_stalled(id, now) || !server.is_connected(id) {
                self.drop_client(at);
            }
        }
    }

    /// A client leaves a stream; the server hears of it later.
    fn leave(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        if std::mem::take(&mut stream.is_open) {
            let takes = latency(&mut self.chance);
            send(&mut stream.requests, Sent::End, self.now + takes);
            let now = self.origin + Duration::from_millis(self.now);
            let jitter = jitter(&mut self.chance);
            self.nodes[stream.node].disconnected(now, jitter);
        }
    }

    /// The server gives a stream up; the client hears of it later.
    fn drop_client(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        if let Some(id) = stream.server.take() {
            let takes = latency(&mut self.chance);
            send(&mut stream.responses, Sent::End, self.now + takes);
            self.server.as_mut().unwrap().disconnect(id);
        }
    }

    fn instant(&self) -> Instant {
        self.origin + Duration::from_millis(self.now)
    }

    /// The first whole millisecond at or after a moment.
    fn millis(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.origin);
        u64::try_from(since.as_nanos().div_ceil(1_000_000)).unwrap()
    }
}

fn latency(chance: &mut Chance) -> u64 {
    if chance.one_in(20) {
        chance.between(200, 3_000)
    } else {
        chance.between(1, 40)
    }
}

fn jitter(chance: &mut Chance) -> u32 {
    u32::try_from(chance.number() >> 32).unwrap()
}
