//! Ended connections and requests as lines on stdout.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde::ser::{Serialize, SerializeMap, Serializer};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::config::LogFormat;

/// Lines that may wait for stdout. Of more, only the number is told.
const MAX_WAITING: usize = 10_000;

/// Writes lines in a thread of its own, so that a slow reader holds up no connection.
pub(crate) struct AccessLog {
    format: LogFormat,
    writer: Mutex<Option<Writing>>,
}

struct Writing {
    lines: SyncSender<String>,
    lost: u64,
    /// How the thread ended.
    ended: Receiver<io::Result<()>>,
}

/// What became of a connection or request: fields in the order of ztunnel's access log.
pub(crate) struct Record {
    /// What ended: `connection` or `request`.
    pub(crate) subject: &'static str,
    pub(crate) is_failure: bool,
    pub(crate) fields: Vec<(&'static str, Value)>,
}

/// A field of a record.
pub(crate) enum Value {
    Text(String),
    /// What is never written in quotes, such as an address.
    Word(String),
    Number(u64),
}

impl AccessLog {
    pub(crate) fn start(format: LogFormat) -> io::Result<Self> {
        Self::start_on(format, io::stdout())
    }

    fn start_on(format: LogFormat, out: impl Write + Send + 'static) -> io::Result<Self> {
        let writer = match format {
            LogFormat::Off => None,
            LogFormat::Text | LogFormat::Json => {
                let (lines, waiting) = sync_channel(MAX_WAITING);
                let (end, ended) = sync_channel(1);
                thread::Builder::new().name("access-log".to_owned()).spawn(move || {
                    let result = write_lines(out, &waiting);
                    // Before anybody can find that no lines are taken any more.
                    end.send(result).ok();
                    drop(waiting);
                })?;
                Some(Writing { lines, lost: 0, ended })
            }
        };
        Ok(Self {
            format,
            writer: Mutex::new(writer),
        })
    }

    pub(crate) fn write(&self, record: &Record) {
        let line = match self.format {
            LogFormat::Off => return,
            LogFormat::Text => record.to_text(&now()),
            LogFormat::Json => record.to_json(&now()),
        };
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(writing) = writer.as_mut() else { return };
        match writing.lines.try_send(line) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                writing.lost += 1;
                if writing.lost.is_power_of_two() {
                    tracing::warn!(lost = writing.lost, "stdout does not take the access log");
                }
            }
            Err(TrySendError::Disconnected(_)) => {
                let reason = match writing.ended.try_recv() {
                    Ok(Err(error)) => Incomplete::Write(error),
                    Ok(Ok(())) | Err(_) => Incomplete::Ended,
                };
                tracing::warn!(%reason, "no access log any more");
                *writer = None;
            }
        }
    }

    /// Waits until all lines are written, though not for ever: nobody may be reading them.
    pub(crate) fn finish(&self, patience: Duration) -> Result<(), Incomplete> {
        let writing = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Writing { lines, ended, .. }) = writing else {
            return Ok(());
        };
        drop(lines);
        match ended.recv_timeout(patience) {
            Ok(written) => Ok(written?),
            Err(RecvTimeoutError::Timeout) => Err(Incomplete::Stuck(patience)),
            Err(RecvTimeoutError::Disconnected) => Err(Incomplete::Ended),
        }
    }
}

fn write_lines(mut out: impl Write, lines: &Receiver<String>) -> io::Result<()> {
    while let Ok(first) = lines.recv() {
        writeln!(out, "{first}")?;
        for line in lines.try_iter() {
            writeln!(out, "{line}")?;
        }
        out.flush()?;
    }
    Ok(())
}

/// Why lines are missing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Incomplete {
    #[error("stdout: {0}")]
    Write(#[from] io::Error),
    #[error("stdout took no line for {} s", .0.as_secs_f32())]
    Stuck(Duration),
    #[error("its thread ended")]
    Ended,
}

/// The time of day, by RFC 3339.
fn now() -> String {
    let mut text = String::new();
    match SystemTime.format_time(&mut Writer::new(&mut text)) {
        Ok(()) => text,
        Err(_) => String::new(),
    }
}

impl Record {
    fn level(&self) -> &'static str {
        if self.is_failure { "error" } else { "info" }
    }

    fn to_text(&self, time: &str) -> String {
        let mut line = format!("{time}\t{}\taccess\t{} complete\t", self.level(), self.subject);
        for (place, (name, value)) in self.fields.iter().enumerate() {
            let space = if place == 0 { "" } else { " " };
            let written = match value {
                Value::Text(text) => write!(line, "{space}{name}={text:?}"),
                Value::Word(word) => write!(line, "{space}{name}={word}"),
                Value::Number(number) => write!(line, "{space}{name}={number}"),
            };
            if written.is_err() {
                break;
            }
        }
        line
    }

    fn to_json(&self, time: &str) -> String {
        serde_json::to_string(&Line { record: self, time }).unwrap_or_default()
    }
}

struct Line<'a> {
    record: &'a Record,
    time: &'a str,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("level", self.record.level())?;
        map.serialize_entry("time", self.time)?;
        map.serialize_entry("scope", "access")?;
        map.serialize_entry("message", &format_args!("{} complete", self.record.subject))?;
        for (name, value) in &self.record.fields {
            match value {
                Value::Text(text) | Value::Word(text) => map.serialize_entry(name, text)?,
                Value::Number(number) => map.serialize_entry(name, number)?,
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn record() -> Record {
        Record {
            subject: "connection",
            is_failure: true,
            fields: vec![
                ("src.addr", Value::Word("10.0.0.1:5".to_owned())),
                ("bytes_sent", Value::Number(7)),
                ("error", Value::Text("a \"b\"\nc".to_owned())),
            ],
        }
    }

    #[test]
    fn a_record_is_one_line_of_text() {
        assert_eq!(
            record().to_text("T"),
            "T\terror\taccess\tconnection complete\tsrc.addr=10.0.0.1:5 bytes_sent=7 error=\"a \\\"b\\\"\\nc\""
        );
    }

    /// Takes no bytes until the end that is sent, and fails then.
    struct Pipe(Receiver<()>);

    impl Write for Pipe {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            self.0.recv().ok();
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_end_waits_for_no_reader_that_reads_nothing() {
        let (reader, pipe) = channel();
        let log = AccessLog::start_on(LogFormat::Text, Pipe(pipe)).unwrap();
        log.write(&record());
        let finished = log.finish(Duration::from_millis(50));
        assert!(matches!(finished, Err(Incomplete::Stuck(_))), "{finished:?}");
        drop(reader);
    }

    #[test]
    fn a_reader_that_is_gone_is_noticed() {
        let (reader, pipe) = channel();
        drop(reader);
        let log = AccessLog::start_on(LogFormat::Text, Pipe(pipe)).unwrap();
        while log.writer.lock().unwrap().is_some() {
            log.write(&record());
        }
        log.finish(Duration::ZERO).unwrap();
        let (_, pipe) = channel();
        let log = AccessLog::start_on(LogFormat::Text, Pipe(pipe)).unwrap();
        log.write(&record());
        let finished = log.finish(Duration::from_secs(30));
        assert!(matches!(finished, Err(Incomplete::Write(_))), "{finished:?}");
    }

    #[test]
    fn a_record_is_one_line_of_json() {
        assert_eq!(
            record().to_json("T"),
            "{\"level\":\"error\",\"time\":\"T\",\"scope\":\"access\",\"message\":\"connection complete\",\
             \"src.addr\":\"10.0.0.1:5\",\"bytes_sent\":7,\"error\":\"a \\\"b\\\"\\nc\"}"
        );
    }
}
