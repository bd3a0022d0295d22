//! Streams between nodes and the control plane. Each delivers in order and takes its time; its two
//! ends learn at different moments that it broke.

use std::collections::VecDeque;

use mesh_xds::delta::ClientId;
use mesh_xds_types::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

/// What arrives, and when.
type Line<T> = VecDeque<(u64, Sent<T>)>;

#[derive(Clone)]
pub enum Sent<T> {
    Message(T),
    End,
}

pub struct Stream {
    pub node: usize,
    /// What the server calls it, as long as it has it.
    pub server: Option<ClientId>,
    /// Whether the client still has it.
    pub is_open: bool,
    pub requests: Line<DeltaDiscoveryRequest>,
    pub responses: Line<DeltaDiscoveryResponse>,
}

impl Stream {
    pub fn new(node: usize, server: ClientId) -> Self {
        Self {
            node,
            server: Some(server),
            is_open: true,
            requests: VecDeque::new(),
            responses: VecDeque::new(),
        }
    }

    /// The next thing that arrives, while nothing is in the way before `clear_at`. A client at work
    /// takes nothing.
    pub fn next_event(&self, clear_at: u64, is_at_work: bool) -> Option<u64> {
        let requests = self.requests.front().filter(|_| self.server.is_some());
        let responses = self.responses.front().filter(|_| self.is_open && !is_at_work);
        let at = [requests.map(|(at, _)| *at), responses.map(|(at, _)| *at)];
        at.into_iter().flatten().min().map(|at| at.max(clear_at))
    }

    pub fn is_gone(&self) -> bool {
        self.server.is_none() && !self.is_open
    }
}

/// Sends something that takes a while, behind what was sent before.
pub fn send<T>(line: &mut Line<T>, message: Sent<T>, at: u64) {
    let last = line.back().map_or(0, |(at, _)| *at);
    line.push_back((at.max(last), message));
}

/// What has arrived by now.
pub fn arrived<T>(line: &mut Line<T>, now: u64) -> Option<Sent<T>> {
    line.front().filter(|(at, _)| *at <= now)?;
    line.pop_front().map(|(_, message)| message)
}
