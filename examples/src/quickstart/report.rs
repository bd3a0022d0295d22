//! What happened, for people and for programs.

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;

use serde::Serialize;
use tokio::time::Instant;

use super::cluster::{NODE_1, NODE_2, address};
use super::evidence::Evidence;
use super::stage::Stage;
use super::undeclared::Undeclared;
use crate::topology::{Graph, Mermaid, Observatory, Table};

/// Columns of text, at most.
const WIDTH: usize = 96;

/// Everything that happened.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Whether all of it was as declared.
    ok: bool,
    pub(super) addresses: Vec<Address>,
    acts: Vec<Act>,
    topology: Graph,
    mermaid: String,
}

impl Report {
    pub(super) fn is_ok(&self) -> bool {
        self.ok
    }
}

/// An address, and what is there.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Address {
    pub(super) name: String,
    pub(super) addr: SocketAddr,
}

/// Something that was done to the mesh.
#[derive(Debug, Serialize)]
pub(super) struct Act {
    title: &'static str,
    /// What is to be seen.
    about: &'static str,
    ok: bool,
    /// What was done and seen, in order.
    events: Vec<Event>,
    /// What was not as declared.
    error: Option<String>,
    milliseconds: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    Fact(String),
    Connection(Box<Evidence>),
}

/// What an act tells while it goes on.
#[derive(Default)]
pub(super) struct Scene {
    events: Vec<Event>,
}

impl Scene {
    pub(super) fn fact(&mut self, fact: impl Into<String>) {
        self.events.push(Event::Fact(fact.into()));
    }

    pub(super) fn connection(&mut self, evidence: Evidence) {
        self.events.push(Event::Connection(Box::new(evidence)));
    }
}

/// Tells acts as they end, and all of them at the end.
pub(super) struct Teller {
    is_shown: bool,
    acts: Vec<Act>,
}

impl Teller {
    pub(super) fn new(is_shown: bool) -> Self {
        Self {
            is_shown,
            acts: Vec::new(),
        }
    }

    /// Says what runs.
    pub(super) fn begin(&self, stage: &Stage) -> io::Result<()> {
        let cluster = &stage.cluster;
        self.show(&format_args!(
            "An ambient mesh on loopback: real sockets, real mutual TLS, real xDS, four processes.\n\n  \
             objects        {}\n  \
             control-plane  pid {:<8} compiles them, signs certificates, tells nodes by xDS\n  \
             node-proxy     pid {:<8} {}: web, cart and spy\n  \
             node-proxy     pid {:<8} {}: till, stock, reviews and ratings\n  \
             waypoint       pid {:<8} stands before reviews and ratings\n\n\
             All but `legacy` are of the namespace `shop`; `legacy` has no proxy and stays outside.\n",
            cluster.objects().display(),
            cluster.control_plane.pid(),
            cluster.node_1.pid(),
            NODE_1.0,
            cluster.node_2.pid(),
            NODE_2.0,
            cluster.waypoint.pid(),
        ))
    }

    /// Has an act played, and tells what came of it.
    pub(super) async fn act(
        &mut self,
        (title, about): (&'static str, &'static str),
        play: impl AsyncFnOnce(&mut Scene) -> Result<(), Undeclared>,
    ) -> Result<(), Undeclared> {
        let (mut scene, began) = (Scene::default(), Instant::now());
        let error = play(&mut scene).await.err().map(|error| error.to_string());
        let act = Act {
            title,
            about,
            ok: error.is_none(),
            events: scene.events,
            error,
            milliseconds: began.elapsed().as_secs_f64() * 1e3,
        };
        self.show(&format_args!("{}. {act}", self.acts.len() + 1))?;
        self.acts.push(act);
        Ok(())
    }

    /// Says who spoke to whom, and whether all was well.
    pub(super) async fn end(self, stage: &Stage) -> Result<Report, Undeclared> {
        let topology = Observatory::new(stage.cluster.sources()?).look().await;
        let ok = self.acts.iter().all(|act| act.ok) && topology.problems.is_empty();
        let mermaid = Mermaid(&topology).to_string();
        self.show(&format_args!(
            "Who spoke to whom, as the node proxies' metrics tell it:\n\n{}\nThe same for a Mermaid viewer:\n\n{}\n{}",
            Indented(&Table(&topology).to_string()),
            Indented(&mermaid),
            match ok {
                true => "Everything went as declared.",
                false => "Not everything went as declared.",
            }
        ))?;
        Ok(Report {
            ok,
            addresses: addresses(stage)?,
            acts: self.acts,
            topology,
            mermaid,
        })
    }

    fn show(&self, text: &impl fmt::Display) -> io::Result<()> {
        match self.is_shown {
            true => {
                let mut stdout = io::stdout().lock();
                writeln!(stdout, "{text}")?;
                stdout.flush()
            }
            false => Ok(()),
        }
    }
}

fn addresses(stage: &Stage) -> Result<Vec<Address>, Undeclared> {
    let cluster = &stage.cluster;
    let listed = [
        ("control-plane xds", &cluster.control_plane, "addr"),
        ("control-plane admin", &cluster.control_plane, "admin"),
        ("node-1 socks5", &cluster.node_1, "socks5"),
        ("node-1 admin", &cluster.node_1, "admin"),
        ("node-2 plaintext", &cluster.node_2, "plaintext"),
        ("node-2 admin", &cluster.node_2, "admin"),
        ("waypoint admin", &cluster.waypoint, "admin"),
    ];
    let listed = listed.into_iter().map(|(name, program, field)| {
        let addr = address(program, field)?;
        let name = name.to_owned();
        Ok(Address { name, addr })
    });
    listed.collect()
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, spent) = (if self.ok { "ok" } else { "WRONG" }, self.milliseconds / 1e3);
        writeln!(f, "{:<74} {state:>5}  {spent:>5.1} s", self.title)?;
        writeln!(f, "{}", Wrapped(3, self.about))?;
        for event in &self.events {
            match event {
                Event::Fact(fact) => writeln!(f, "   - {}", Wrapped(5, fact).to_string().trim_start())?,
                Event::Connection(evidence) => write!(f, "{evidence}")?,
            }
        }
        if let Some(error) = &self.error {
            writeln!(f, "   WRONG: {error}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pair = format!("{} -> {}", self.from, self.to);
        let (decision, manner) = (self.decision.text(), self.manner.text());
        writeln!(
            f,
            "   {pair:<18} {decision:<12} {manner:<10} {:>6.1} ms",
            self.milliseconds
        )?;
        let mut line = |name: &str, text: &str| {
            let text = Wrapped(16, text).to_string();
            writeln!(f, "     {name:<10} {}", text.trim_start())
        };
        line("path", &self.path.join(" -> "))?;
        if let Some((source, destination)) = &self.identities {
            line("client", source)?;
            line("server", destination)?;
        }
        line("why", &self.why)?;
        if let Some(told) = self.told {
            line("told", told)?;
        }
        Ok(())
    }
}

/// Text in lines that begin with so many spaces.
struct Wrapped<'t>(usize, &'t str);

impl fmt::Display for Wrapped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(indent, text) = *self;
        let mut column = 0;
        for word in text.split(' ') {
            let len = word.chars().count();
            if column == 0 {
                write!(f, "{:indent$}{word}", "")?;
                column = indent + len;
            } else if column + 1 + len > WIDTH {
                write!(f, "\n{:indent$}{word}", "")?;
                column = indent + len;
            } else {
                write!(f, " {word}")?;
                column += 1 + len;
            }
        }
        Ok(())
    }
}

/// Lines, moved to the right.
struct Indented<'t>(&'t str);

impl fmt::Display for Indented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.lines().try_for_each(|line| writeln!(f, "   {line}"))
    }
}
