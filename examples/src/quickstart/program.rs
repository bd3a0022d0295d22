//! The mesh's programs, as processes of their own.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use serde_json::Value;

use super::patience::until;
use super::undeclared::Undeclared;
use crate::{control_plane, node_proxy, usage, waypoint};

/// Lines that are kept of what a program writes.
const MAX_LINES: usize = 10_000;

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    ControlPlane,
    NodeProxy,
    Waypoint,
}

impl Role {
    const ALL: [Self; 3] = [Self::ControlPlane, Self::NodeProxy, Self::Waypoint];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ControlPlane => "control-plane",
            Self::NodeProxy => "node-proxy",
            Self::Waypoint => "waypoint",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// Is the program, until that ends; or until whoever started it does.
    pub(super) fn play(self, args: Vec<OsString>) -> ExitCode {
        if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
            return usage::fail(self.name(), &error, 1);
        }
        match self {
            Self::ControlPlane => control_plane::main(args),
            Self::NodeProxy => node_proxy::main(args),
            Self::Waypoint => waypoint::main(args),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A running program. Killed when dropped.
pub(super) struct Program {
    role: Role,
    child: Child,
    /// What its ready line says.
    pub(super) ready: Value,
    /// What it writes to stdout.
    pub(super) log: Lines,
}

impl Program {
    /// Starts this very executable under the program's name, and waits until it is ready.
    ///
    /// To be called by the thread that lives longest: the program ends with whoever started it.
    pub(super) async fn start(role: Role, args: impl IntoIterator<Item = OsString>) -> Result<Self, Undeclared> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg0(role.name())
            .args(args)
            .arg("--json")
            .env_remove("RUST_LOG");
        Self::run(role, command).await
    }

    async fn run(role: Role, mut command: Command) -> Result<Self, Undeclared> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // From here on it is killed if it is waited for no longer.
        let mut program = Self {
            role,
            child: command.spawn()?,
            ready: Value::Null,
            log: Lines::default(),
        };
        let stderr = Lines::default();
        program.log.follow(program.child.stdout.take())?;
        stderr.follow(program.child.stderr.take())?;
        program.ready = until("ready line", async || {
            let ready = stderr.find(0, |line| line.get("ready").is_some());
            if let (None, Some(status)) = (&ready, program.child.try_wait()?) {
                let last = stderr.last();
                return Err(Undeclared::NotStarted { role, status, last });
            }
            Ok(ready)
        })
        .await?;
        Ok(program)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// It is the process that was started, and runs.
    pub(super) fn still_runs(&mut self) -> Result<(), Undeclared> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(_) => Err(Undeclared::Restarted(self.role)),
        }
    }

    /// Ends it at once.
    pub(super) fn kill(&mut self) -> Result<(), Undeclared> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Has it drain and end.
    pub(super) async fn stop(mut self) {
        if kill_process(Pid::from_child(&self.child), Signal::TERM).is_ok() {
            let ended = until("end", async || Ok(self.child.try_wait()?));
            // One that does not end is killed when this is dropped.
            drop(ended.await);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a program has written, line by line.
#[derive(Clone, Default)]
pub(super) struct Lines(Arc<Mutex<Written>>);

#[derive(Default)]
struct Written {
    lines: VecDeque<Value>,
    /// Lines that are not kept any more.
    forgotten: usize,
    last: String,
}

impl Lines {
    fn follow(&self, source: Option<impl Read + Send + 'static>) -> io::Result<()> {
        let (Some(source), lines) = (source, self.clone()) else {
            return Ok(());
        };
        thread::Builder::new().spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                lines.with(|written| written.add(line));
            }
        })?;
        Ok(())
    }

    /// How many lines there have been.
    pub(super) fn count(&self) -> usize {
        self.with(|written| written.forgotten + written.lines.len())
    }

    /// The first line after so many others of which `is` holds.
    pub(super) fn find(&self, after: usize, is: impl Fn(&Value) -> bool) -> Option<Value> {
        self.all(after, is).into_iter().next()
    }

    /// The lines after so many others of which `is` holds.
    pub(super) fn all(&self, after: usize, is: impl Fn(&Value) -> bool) -> Vec<Value> {
        self.with(|written| {
            let known = written.lines.iter().skip(after.saturating_sub(written.forgotten));
            known.filter(|line| is(line)).cloned().collect()
        })
    }

    fn last(&self) -> String {
        self.with(|written| written.last.clone())
    }

    fn with<T>(&self, look: impl FnOnce(&mut Written) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Written {
    fn add(&mut self, line: String) {
        if self.lines.len() == MAX_LINES {
            self.lines.pop_front();
            self.forgotten += 1;
        }
        self.lines.push_back(serde_json::from_str(&line).unwrap_or_default());
        self.last = line;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Whether some process was started with this argument.
    fn runs(argument: &str) -> bool {
        let processes = fs::read_dir("/proc").unwrap();
        processes.flatten().any(|process| {
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes())
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_is_not_ready_in_time_is_killed() {
        let seconds = format!("1000.{}", std::process::id());
        let mut command = Command::new("sleep");
        command.arg(&seconds);
        let started = Program::run(Role::NodeProxy, command);
        let error = started.await.map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), "ready line: not in time");
        assert!(!runs(&seconds));
    }
}
