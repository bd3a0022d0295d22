//! Processes that are measured, and what the kernel says of them.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// How long a process may take to do what is waited for, how long one look at that may take, and how
/// often there is one.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(5);

/// What the kernel counts a process's time in, and where it says so among the fields after its name:
/// in user mode, then in the kernel.
const TICK: Duration = Duration::from_millis(10);
const USER_TICKS: usize = 11;

/// A process that ends with its handle.
#[derive(Debug)]
pub struct Process {
    program: PathBuf,
    /// Whoever measures it asks whether it is there.
    child: RefCell<Child>,
}

impl Process {
    /// Starts `program` and waits until it listens on `addr`.
    pub async fn start(program: &Path, args: Vec<OsString>, addr: SocketAddr) -> io::Result<Self> {
        let process = Self::spawn(program, args)?;
        process
            .wait(async || TcpStream::connect(addr).await.is_ok(), "does not listen")
            .await?;
        Ok(process)
    }

    /// Starts `program`, which shows what it prints only where `RUST_LOG` asks for a log.
    pub fn spawn(program: &Path, args: impl IntoIterator<Item = OsString>) -> io::Result<Self> {
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(if std::env::var_os("RUST_LOG").is_some() {
                Stdio::inherit()
            } else {
                Stdio::null()
            })
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", program.display())))?;
        Ok(Self {
            program: program.to_owned(),
            child: RefCell::new(child),
        })
    }

    /// Waits until it answers a request to its admin address with 200.
    pub async fn wait_until_ready(&self, admin: SocketAddr, path: &str) -> io::Result<()> {
        let is_ready = async || {
            get(admin, path)
                .await
                .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
        };
        self.wait(is_ready, "is not ready").await
    }

    /// CPU time of all threads so far.
    pub fn cpu(&self) -> io::Result<Duration> {
        self.check()?;
        // One count is exact and forgets threads that have ended; the other knows them all, in ticks
        // that it rounds down.
        Ok(self.cpu_of_threads()?.max(self.cpu_in_ticks()?))
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> io::Result<u64> {
        self.kibibytes("status", "VmRSS:")
    }

    /// The most resident memory that there was, in bytes.
    pub fn peak(&self) -> io::Result<u64> {
        self.kibibytes("status", "VmHWM:")
    }

    /// Resident memory in bytes, in which a page that several processes have counts for each of them
    /// by its share.
    pub fn proportional(&self) -> io::Result<u64> {
        self.kibibytes("smaps_rollup", "Pss:")
    }

    /// How many threads it has.
    pub fn threads(&self) -> io::Result<u64> {
        self.line("status", "Threads:")
    }

    async fn wait(&self, done: impl AsyncFn() -> bool, missing: &str) -> io::Result<()> {
        let is_done = async {
            loop {
                // Somebody else may be where it was to be.
                self.check()?;
                if let Ok(true) = timeout(LOOK, done()).await {
                    return Ok(());
                }
                sleep(POLL).await;
            }
        };
        timeout(PATIENCE, is_done).await.unwrap_or_else(|_| {
            let problem = format!("{} {missing}", self.program.display());
            Err(io::Error::new(io::ErrorKind::TimedOut, problem))
        })
    }

    /// An error if it has ended: then the kernel says nothing of it, or what it was.
    fn check(&self) -> io::Result<()> {
        match self.child.borrow_mut().try_wait()? {
            Some(status) => {
                let problem = format!("{} ended: {status}", self.program.display());
                Err(io::Error::other(problem))
            }
            None => Ok(()),
        }
    }

    /// One of the kernel's files about it.
    fn about(&self, file: &str) -> PathBuf {
        format!("/proc/{}/{file}", self.child.borrow().id()).into()
    }

    fn cpu_of_threads(&self) -> io::Result<Duration> {
        let mut total = 0;
        for task in std::fs::read_dir(self.about("task"))? {
            // Without one the thread has ended since it was listed.
            let Ok(stat) = std::fs::read_to_string(task?.path().join("schedstat")) else {
                continue;
            };
            let on_cpu = stat
                .split_whitespace()
                .next()
                .and_then(|nanos| nanos.parse::<u64>().ok());
            total += on_cpu.ok_or_else(|| io::Error::other("unreadable schedstat"))?;
        }
        Ok(Duration::from_nanos(total))
    }

    fn cpu_in_ticks(&self) -> io::Result<Duration> {
        let stat = std::fs::read_to_string(self.about("stat"))?;
        // The program's name is in brackets, and may have some itself.
        let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
        let ticks: Vec<u64> = fields
            .split_whitespace()
            .skip(USER_TICKS)
            .take(2)
            .filter_map(|ticks| ticks.parse().ok())
            .collect();
        match *ticks {
            [user, system] => Ok(TICK.saturating_mul(u32::try_from(user + system).map_err(io::Error::other)?)),
            _ => Err(io::Error::other("unreadable stat")),
        }
    }

    /// A line that is in kibibytes, in bytes.
    fn kibibytes(&self, file: &str, name: &'static str) -> io::Result<u64> {
        self.line(file, name).map(|kib| kib * 1024)
    }

    /// The number in a line of one of the kernel's files about the process.
    fn line(&self, file: &str, name: &'static str) -> io::Result<u64> {
        self.check()?;
        let text = std::fs::read_to_string(self.about(file))?;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|number| number.parse::<u64>().ok());
        number.ok_or_else(|| io::Error::other(format!("no {name}")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing is left to do for a process that is gone already.
        let child = self.child.get_mut();
        drop(child.kill());
        drop(child.wait());
    }
}

/// What an HTTP server on loopback answers, with its head.
pub async fn get(addr: SocketAddr, path: &str) -> io::Result<String> {
    let mut tcp = TcpStream::connect(addr).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// An address on loopback that nobody listens on.
pub fn free_addr() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_has_ended_is_named_when_it_is_measured() {
        let process = Process::spawn(Path::new("false"), []).unwrap();
        let ended = process.wait(async || false, "goes on").await.unwrap_err().to_string();
        assert!(ended.starts_with("false ended: "), "{ended}");
        for measured in [process.cpu().map(drop), process.resident().map(drop)] {
            assert_eq!(measured.unwrap_err().to_string(), ended);
        }
    }

    #[tokio::test]
    async fn a_process_that_ends_while_its_answer_is_waited_for_is_named() {
        let process = Process::spawn(Path::new("false"), []).unwrap();
        let ended = process.wait(std::future::pending::<bool>, "does not answer").await;
        let ended = ended.unwrap_err().to_string();
        assert!(ended.starts_with("false ended: "), "{ended}");
    }
}
