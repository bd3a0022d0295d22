//! A client and a server, and what happens to them and between them, spelled by bytes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use mesh_xds_types::core::Node;
use mesh_xds_types::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

use crate::delta::{Client, ClientConfig, ClientId, Outcome, Published, Push, Refusal, Server, ServerConfig};

/// A type that the client wants all of, and one that it wants names of.
const ALL: &str = "all";
const SOME: &str = "some";

/// Content that the client cannot use.
const BAD: u8 = 0;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Both sides, the streams between them, and what is true.
pub(super) struct Exchange {
    now: Instant,
    server: Server,
    client: Client<&'static str>,
    /// The server's name for the stream, while there is one.
    stream: Option<ClientId>,
    requests: VecDeque<DeltaDiscoveryRequest>,
    responses: VecDeque<DeltaDiscoveryResponse>,
    /// By type and name.
    truth: BTreeMap<(&'static str, &'static str), u8>,
    /// What the client's program has, by type and name.
    state: BTreeMap<(String, String), u8>,
    demanded: BTreeSet<&'static str>,
}

impl Exchange {
    pub(super) fn new(now: Instant) -> Self {
        let config = ClientConfig::new(Node::default()).all(ALL).on_demand(SOME);
        Self {
            now,
            server: small_server(),
            client: Client::new(config),
            stream: None,
            requests: VecDeque::new(),
            responses: VecDeque::new(),
            truth: BTreeMap::new(),
            state: BTreeMap::new(),
            demanded: BTreeSet::new(),
        }
    }

    /// One thing happens: the lower half of the byte says what, the upper one to whom.
    pub(super) fn step(&mut self, byte: u8) {
        let (what, whom) = (byte % 16, byte / 16);
        let (name, content) = (
            NAMES.get(usize::from(whom) % NAMES.len()).copied().unwrap_or("a"),
            whom / 5,
        );
        match what {
            0 => self.publish(ALL, name, content),
            1 => self.publish(SOME, name, content),
            2 => self.remove(ALL, name),
            3 => self.remove(SOME, name),
            4 => self.demand(name),
            5 if whom > 7 => self.release(name),
            5..=7 => self.deliver_request(),
            8..=10 => self.deliver_response(),
            11 => self.repeat_response(usize::from(whom)),
            12 => self.overtake(),
            13 if whom > 7 => drop(self.requests.pop_front()),
            13 => drop(self.responses.pop_front()),
            14 if whom > 7 => self.restart_server(),
            14 => self.cut(),
            _ => self.now += Duration::from_millis(1300) * u32::from(whom),
        }
        self.drive();
    }

    /// Everything arrives, those who lost something find out, and then the client has what is true,
    /// as far as it wants and can use it.
    pub(super) fn finish(mut self) {
        for _ in 0..5 {
            for _ in 0..200 {
                self.deliver_request();
                self.drive();
                self.deliver_response();
                self.drive();
            }
            self.now += Duration::from_secs(40);
            self.drive();
        }
        for (&(of, name), &content) in &self.truth {
            let is_wanted = of == ALL || self.demanded.contains(name);
            if is_wanted && content != BAD {
                let has = self.state.get(&(of.to_owned(), name.to_owned()));
                assert_eq!(has, Some(&content), "{of} {name}");
            }
        }
        for ((of, name), content) in &self.state {
            if of == ALL || self.demanded.contains(name.as_str()) {
                let of = if of == ALL { ALL } else { SOME };
                let is = self.truth.get(&(of, name.as_str())).copied();
                assert!(
                    is == Some(*content) || is == Some(BAD),
                    "{of} {name}: {content}, but is {is:?}"
                );
            }
        }
        assert!(self.client.is_synced());
    }

    fn publish(&mut self, of: &'static str, name: &'static str, content: u8) {
        self.truth.insert((of, name), content);
        self.server.update(of, [published(name, content)], []);
    }

    fn remove(&mut self, of: &'static str, name: &'static str) {
        self.truth.remove(&(of, name));
        self.server.update(of, [], [name]);
    }

    fn demand(&mut self, name: &'static str) {
        self.demanded.insert(name);
        let demanded = self.client.demand(SOME, name, self.now + Duration::from_secs(5), name);
        assert!(demanded.is_ok(), "{demanded:?}");
    }

    fn release(&mut self, name: &'static str) {
        self.demanded.remove(name);
        if self.client.release(SOME, name) {
            self.state.remove(&(SOME.to_owned(), name.to_owned()));
        }
    }

    /// Lets one type's responses arrive before the other's. Within a type a stream keeps the order.
    fn overtake(&mut self) {
        if let Some(first) = self.responses.front().map(|response| response.type_url.clone()) {
            let responses = self.responses.make_contiguous();
            responses.sort_by_key(|response| response.type_url == first);
        }
    }

    fn repeat_response(&mut self, late: usize) {
        if let Some(response) = self.responses.front().cloned() {
            let place = self.responses.len().min(late + 1);
            self.responses.insert(place, response);
        }
    }

    fn restart_server(&mut self) {
        self.cut();
        self.server = small_server();
        for of in [ALL, SOME] {
            let of_type = self.truth.iter().filter(|((other, _), _)| *other == of);
            self.server
                .publish(of, of_type.map(|((_, name), content)| published(name, *content)));
        }
    }

    /// What the drivers on both sides do after each event.
    fn drive(&mut self) {
        let now = self.now;
        if self.client.is_stalled(now) || self.stream.is_some_and(|id| self.server.is_stalled(id, now)) {
            self.cut();
        }
        if self.client.connect_at(now).is_some_and(|at| at <= now) {
            self.stream = self.server.connect().ok();
            self.client.connected();
        }
        while let Some(request) = self.client.next_request(now) {
            self.requests.push_back(request);
        }
        while let Some(answer) = self.client.next_answer(now) {
            let is_known = self.state.contains_key(&(SOME.to_owned(), answer.waiter.to_owned()));
            match answer.outcome {
                Outcome::Present => assert!(is_known, "{} was announced", answer.waiter),
                Outcome::Absent => assert!(!is_known, "{} was said not to be", answer.waiter),
                _ => {}
            }
        }
        if let Some(id) = self.stream {
            while let Some(response) = self.server.next_response(id, now) {
                self.responses.push_back(response);
            }
        }
    }

    fn deliver_request(&mut self) {
        if let (Some(id), Some(request)) = (self.stream, self.requests.pop_front()) {
            let heard = self.server.receive(id, &request);
            assert!(heard.is_ok(), "{heard:?}");
        }
    }

    fn deliver_response(&mut self) {
        let response = self.responses.pop_front();
        if let Some(push) = response.and_then(|response| self.client.receive(response)) {
            let refusals = self.apply(&push);
            self.client.settle(push, &refusals);
        }
    }

    fn apply(&mut self, push: &Push) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        for resource in push.resources() {
            let body = resource.resource.as_ref().map_or(&[][..], |body| &body.value);
            match body.first() {
                Some(&content) if content != BAD => {
                    let key = (push.type_url().to_owned(), resource.name.clone());
                    self.state.insert(key, content);
                }
                _ => refusals.push(Refusal {
                    name: resource.name.clone(),
                    reason: "bad".to_owned(),
                }),
            }
        }
        for name in push.removed() {
            self.state.remove(&(push.type_url().to_owned(), name.clone()));
        }
        refusals
    }

    fn cut(&mut self) {
        if let Some(id) = self.stream.take() {
            self.server.disconnect(id);
            self.client.disconnected(self.now, 7);
            self.requests.clear();
            self.responses.clear();
        }
    }
}

fn small_server() -> Server {
    // Room for one resource, so that everything takes several responses.
    Server::new(ServerConfig::new().max_response_bytes(1))
}

fn published(name: &'static str, content: u8) -> Published {
    Published::new(name, content.to_string(), [content])
}
