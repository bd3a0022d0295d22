//! Network namespaces: two nodes with a link between them, and pods that have a link to their node.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A number for each net in this process.
static NETS: AtomicU32 = AtomicU32::new(0);

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The namespaces of two nodes and their pods; gone when dropped.
pub struct Net {
    name: String,
    spaces: Vec<String>,
}

/// A machine.
#[derive(Clone, Copy)]
pub struct Host {
    pub name: &'static str,
    /// Of the link to the other node.
    pub ip: [u8; 4],
    /// The first two bytes of its pods' addresses.
    pub block: [u8; 2],
}

pub const NEAR: Host = Host {
    name: "near",
    ip: [10, 9, 0, 1],
    block: [10, 1],
};

pub const FAR: Host = Host {
    name: "far",
    ip: [10, 9, 0, 2],
    block: [10, 2],
};

impl Host {
    pub fn pod(&self, number: u8) -> IpAddr {
        [self.block[0], self.block[1], 0, number].into()
    }
}

impl Net {
    /// Two nodes without pods.
    pub fn new() -> Self {
        let number = NETS.fetch_add(1, Ordering::Relaxed);
        let mut net = Self {
            name: format!("np{}x{number}", std::process::id()),
            spaces: Vec::new(),
        };
        for host in [NEAR, FAR] {
            net.space(host.name);
        }
        net.ip(
            NEAR.name,
            "link add wire type veth peer name wire netns",
            &[&net.full(FAR.name)],
        );
        for host in [NEAR, FAR] {
            net.ip(host.name, "link set lo up", &[]);
            net.ip(
                host.name,
                "addr add",
                &[&format!("{}/24", IpAddr::from(host.ip)), "dev", "wire"],
            );
            net.ip(host.name, "link set wire up", &[]);
            net.run(host.name, &["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
        }
        for (from, to) in [(NEAR, FAR), (FAR, NEAR)] {
            let [a, b] = to.block;
            let via = IpAddr::from(to.ip).to_string();
            net.ip(from.name, "route add", &[&format!("{a}.{b}.0.0/16"), "via", &via]);
            net.capture(from);
        }
        net
    }

    /// Adds a pod to a node, and says whether its connections are captured there.
    pub fn pod(&mut self, host: Host, pod: &str, ip: IpAddr, is_captured: bool) {
        self.space(pod);
        let ip = ip.to_string();
        self.ip(
            host.name,
            "link add",
            &[pod, "type", "veth", "peer", "name", "eth0", "netns", &self.full(pod)],
        );
        self.ip(pod, "link set lo up", &[]);
        self.ip(pod, "addr add", &[&format!("{ip}/32"), "dev", "eth0"]);
        self.ip(pod, "link set eth0 up", &[]);
        self.ip(host.name, "addr add 169.254.1.1/32 dev", &[pod]);
        self.ip(host.name, "link set", &[pod, "up"]);
        self.ip(host.name, "route add", &[&ip, "dev", pod]);
        self.ip(pod, "route add 169.254.1.1 dev eth0 scope link", &[]);
        self.ip(pod, "route add default via 169.254.1.1 dev eth0", &[]);
        if is_captured {
            self.nft(host, &format!("add element ip nat pods {{ {ip} }}"));
        }
    }

    /// Has a node redirect what captured pods send, and what is sent to them.
    fn capture(&self, host: Host) {
        for rule in [
            "add table ip nat",
            "add set ip nat pods { type ipv4_addr; }",
            "add chain ip nat prerouting { type nat hook prerouting priority -100; }",
            "add rule ip nat prerouting ip saddr @pods ip protocol tcp redirect to :15001",
            "add rule ip nat prerouting ip daddr @pods tcp dport 15008 redirect to :15008",
            "add rule ip nat prerouting ip daddr @pods ip protocol tcp redirect to :15006",
            // What comes back for an address of somebody else's that a proxy connected from.
            "add chain ip nat divert { type filter hook prerouting priority -150; }",
            "add rule ip nat divert ip protocol tcp socket transparent 1 meta mark set 1",
        ] {
            self.nft(host, rule);
        }
        self.ip(host.name, "rule add fwmark 1 lookup 100", &[]);
        self.ip(host.name, "route add local default dev lo table 100", &[]);
    }

    /// What runs a program in a namespace.
    pub fn program(&self, space: &str, program: &Command) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.full(space)]);
        command.arg(program.get_program()).args(program.get_args());
        command.env_remove("RUST_LOG");
        command
    }

    /// Calls `f` where a namespace is all there is.
    pub fn within<T: Send>(&self, space: &str, f: impl FnOnce() -> T + Send) -> T {
        let space = File::open(format!("/var/run/netns/{}", self.full(space))).unwrap();
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                f()
            });
            inside.join().unwrap()
        })
    }

    pub fn listen(&self, space: &str, addr: SocketAddr) -> tokio::net::TcpListener {
        let listener = self.within(space, || TcpListener::bind(addr).unwrap());
        listener.set_nonblocking(true).unwrap();
        tokio::net::TcpListener::from_std(listener).unwrap()
    }

    /// Connects; whoever takes the connection may give it up before that is done.
    pub fn connect(&self, space: &str, addr: SocketAddr) -> io::Result<tokio::net::TcpStream> {
        let tcp = self.within(space, || TcpStream::connect_timeout(&addr, CONNECT_TIMEOUT))?;
        tcp.set_nonblocking(true)?;
        tokio::net::TcpStream::from_std(tcp)
    }

    fn full(&self, space: &str) -> String {
        format!("{}-{space}", self.name)
    }

    fn space(&mut self, space: &str) {
        let full = self.full(space);
        done(Command::new("ip").args(["netns", "add", &full]));
        self.spaces.push(full);
    }

    fn ip(&self, space: &str, words: &str, more: &[&str]) {
        let full = self.full(space);
        let words = words.split(' ');
        done(Command::new("ip").args(["-n", &full]).args(words).args(more));
    }

    fn nft(&self, host: Host, rule: &str) {
        self.run(host.name, &["nft", rule]);
    }

    fn run(&self, space: &str, command: &[&str]) {
        done(
            Command::new("ip")
                .args(["netns", "exec", &self.full(space)])
                .args(command),
        );
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for space in &self.spaces {
            drop(Command::new("ip").args(["netns", "del", space]).output());
        }
    }
}

fn done(command: &mut Command) {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}
