//! Asks Envoy about connections.

use std::collections::HashMap;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::answer::Answer;
use crate::batch::{Case, Heard, Voice};
use crate::config::LOG_MARK;
use crate::envoy::Envoy;
use crate::pki::Pki;
use crate::proxy;
use crate::world::{eventually, soon};

pub async fn ask(envoy: SocketAddr, case: &Case, pki: &Pki) -> Vec<Heard> {
    let mut heard = Vec::new();
    for (index, (connection, _)) in case.connections.iter().enumerate() {
        let name = format!("{}-{index}", case.source_port);
        let stream = proxy::connect(envoy, connection, case.source_port, &name).await;
        let is_denied = if case.is_tls {
            is_closed(pki.handshake(connection, stream).await).await
        } else {
            is_closed(stream).await
        };
        heard.push((index, None, Voice::Tcp { name, is_denied }));
    }
    heard
}

/// Longer than the head of a TLS record, for which Envoy waits before it takes bytes for anything else.
const WORDS: &[u8] = b"is anybody there?";

/// Whether what is said does not come back.
async fn is_closed(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> bool {
    // It may be closed already, as far as the writing side knows.
    drop(stream.write_all(WORDS).await);
    match soon("echo", stream.read_u8()).await {
        Ok(byte) => {
            assert_eq!(byte, WORDS[0]);
            false
        }
        Err(_) => true,
    }
}

/// What Envoy has logged about connections, by their names.
#[derive(Default)]
pub struct Log {
    lines: HashMap<String, String>,
}

impl Log {
    /// Reads until so many connections are over.
    pub async fn read(envoy: &Envoy, connections: usize) -> Self {
        let text = eventually("lines of the log", async || {
            let log = envoy.log();
            let lines = log.lines().filter(|line| line.starts_with(LOG_MARK)).count();
            (lines >= connections && log.ends_with('\n')).then_some(log)
        })
        .await;
        let mut lines = HashMap::new();
        for line in text.lines().filter_map(|line| line.strip_prefix(LOG_MARK)) {
            let (name, rest) = line.trim_start().split_once(' ').unwrap();
            let before = lines.insert(name.to_owned(), rest.to_owned());
            assert_eq!(before, None, "{name} was used twice");
        }
        Self { lines }
    }

    pub fn answer(&self, name: &str, is_denied: bool) -> Answer {
        let (details, metadata) = self.lines[name].split_once(' ').unwrap();
        let metadata = if metadata == "-" { "null" } else { metadata };
        Answer::of_envoy(is_denied, details, &serde_json::from_str(metadata).unwrap())
    }
}
