//! Relay processes, and what the kernel says of them.

use std::ffi::OsString;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;

/// A process that ends with its handle.
pub struct Process(Child);

impl Process {
    /// Starts `program` and waits until it listens on `addr`.
    pub async fn start(program: &Path, args: Vec<OsString>, addr: SocketAddr) -> io::Result<Self> {
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(if std::env::var_os("RUST_LOG").is_some() {
                Stdio::inherit()
            } else {
                Stdio::null()
            })
            .spawn()?;
        let mut process = Self(child);
        for _ in 0..500 {
            if TcpStream::connect(addr).await.is_ok() {
                return Ok(process);
            }
            if let Some(status) = process.0.try_wait()? {
                return Err(io::Error::other(format!("{} ended: {status}", program.display())));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("{} does not listen", program.display()),
        ))
    }

    /// CPU time of all threads so far.
    pub fn cpu(&self) -> io::Result<Duration> {
        let mut total = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let stat = std::fs::read_to_string(task?.path().join("schedstat"))?;
            let on_cpu = stat
                .split_whitespace()
                .next()
                .and_then(|nanos| nanos.parse::<u64>().ok());
            total += on_cpu.ok_or_else(|| io::Error::other("unreadable schedstat"))?;
        }
        Ok(Duration::from_nanos(total))
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> io::Result<u64> {
        self.status("VmRSS:")
    }

    /// The most resident memory that there was, in bytes.
    pub fn peak(&self) -> io::Result<u64> {
        self.status("VmHWM:")
    }

    /// A line of the process's status that is in kibibytes, in bytes.
    fn status(&self, name: &'static str) -> io::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|kib| kib.parse::<u64>().ok());
        kib.map(|kib| kib * 1024)
            .ok_or_else(|| io::Error::other(format!("no {name}")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing is left to do for a process that is gone already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// An address on loopback that nobody listens on.
pub fn free_addr() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}
