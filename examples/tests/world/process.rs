//! Programs under test.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Files, eventually};

/// A running program. Killed when dropped; what it wrote to stderr is shown if the test fails.
pub struct Process {
    child: Child,
    stderr: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

/// The command `hbone-cat COMMAND` with the files of its identity.
pub fn hbone_cat(command: &str, files: &Files) -> Command {
    let mut program = hbone_cat_of(command);
    for (flag, file) in [
        ("--cert", &files.cert),
        ("--key", &files.key),
        ("--roots", &files.roots),
    ] {
        program.arg(flag).arg(file);
    }
    program
}

/// The command `hbone-cat COMMAND` without an identity.
pub fn hbone_cat_of(command: &str) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_hbone-cat"));
    program.args([command, "--json"]).env_remove("RUST_LOG");
    program
}

/// The command `node-proxy` with this configuration.
pub fn node_proxy(config: &Path) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_node-proxy"));
    program.arg("--config").arg(config).arg("--json").env_remove("RUST_LOG");
    program
}

/// The program of a peer, which `install-peers.sh` installs.
pub fn peer(name: &str) -> PathBuf {
    let installed = std::env::var_os("PEERS_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../.peers"),
        PathBuf::from,
    );
    let executable = installed.join("bin").join(name);
    assert!(
        executable.is_file(),
        "{name} is not installed as {}: run `bash examples/tests/install-peers.sh`",
        executable.display()
    );
    executable
}

impl Process {
    /// Starts a program with all three streams piped.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let sink = Arc::clone(&stderr);
        let reader = thread::spawn(move || {
            for line in lines {
                sink.lock().unwrap().push(line.unwrap());
            }
        });
        Self {
            child,
            stderr,
            reader: Some(reader),
        }
    }

    /// Waits for the ready line.
    pub async fn ready(&mut self) -> Value {
        eventually("ready line", async || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("ended before it was ready: {status}: {:?}", self.stderr());
            }
            self.stderr().iter().find_map(|line| serde_json::from_str(line).ok())
        })
        .await
    }

    /// Waits for the ready line, and takes an address from it.
    pub async fn ready_at(&mut self, field: &str) -> SocketAddr {
        let ready = self.ready().await;
        ready[field].as_str().unwrap().parse().unwrap()
    }

    /// Waits for the program's end; answers with its exit code and what it wrote to stderr.
    pub async fn end(&mut self) -> (Option<i32>, Vec<String>) {
        drop(self.child.stdin.take());
        let status: ExitStatus = eventually("end of a program", async || self.child.try_wait().unwrap()).await;
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        (status.code(), self.stderr())
    }

    pub fn take_stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    pub fn take_stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().unwrap()
    }

    /// The lines on stderr so far.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits for a line on stderr that contains `text`.
    pub async fn says(&self, text: &str) -> String {
        eventually(text, async || {
            self.stderr().into_iter().find(|line| line.contains(text))
        })
        .await
    }

    /// Waits until so many lines on stderr contain `text`; answers with all of them.
    pub async fn says_times(&self, text: &str, times: usize) -> Vec<String> {
        eventually(text, async || {
            let mut lines = self.stderr();
            lines.retain(|line| line.contains(text));
            (lines.len() >= times).then_some(lines)
        })
        .await
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.child.kill());
        drop(self.child.wait());
        if thread::panicking() {
            let lines = self.stderr.lock().map(|lines| lines.join("\n")).unwrap_or_default();
            eprintln!("--- stderr of process {}:\n{lines}", self.child.id());
        }
    }
}
