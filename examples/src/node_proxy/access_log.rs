//! Ended connections as lines on stdout.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use serde::ser::{Serialize, SerializeMap, Serializer};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::config::LogFormat;

/// Lines that may wait for stdout. Of more, only the number is told.
const MAX_WAITING: usize = 10_000;

/// Writes lines in a thread of its own, so that a slow reader holds up no connection.
pub(super) struct AccessLog {
    format: LogFormat,
    writer: Mutex<Option<Writing>>,
}

struct Writing {
    lines: SyncSender<String>,
    lost: u64,
    thread: JoinHandle<io::Result<()>>,
}

/// What became of a connection: fields in the order of ztunnel's access log.
pub(super) struct Record {
    pub(super) is_failure: bool,
    pub(super) fields: Vec<(&'static str, Value)>,
}

/// A field of a record.
pub(super) enum Value {
    Text(String),
    /// What is never written in quotes, such as an address.
    Word(String),
    Number(u64),
}

impl AccessLog {
    pub(super) fn start(format: LogFormat) -> io::Result<Self> {
        let writer = match format {
            LogFormat::Off => None,
            LogFormat::Text | LogFormat::Json => {
                let (lines, waiting) = sync_channel(MAX_WAITING);
                let thread = thread::Builder::new()
                    .name("access-log".to_owned())
                    .spawn(move || write_lines(&waiting))?;
                Some(Writing { lines, lost: 0, thread })
            }
        };
        Ok(Self {
            format,
            writer: Mutex::new(writer),
        })
    }

    pub(super) fn write(&self, record: &Record) {
        let line = match self.format {
            LogFormat::Off => return,
            LogFormat::Text => record.to_text(&now()),
            LogFormat::Json => record.to_json(&now()),
        };
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = writer.as_mut()
            && let Err(TrySendError::Full(_)) = writer.lines.try_send(line)
        {
            writer.lost += 1;
            if writer.lost.is_power_of_two() {
                tracing::warn!(lost = writer.lost, "stdout does not take the access log");
            }
        }
    }

    /// Waits until all lines are written.
    pub(super) fn finish(&self) {
        let writing = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Writing { lines, thread, .. }) = writing {
            drop(lines);
            if let Ok(Err(reason)) = thread.join() {
                tracing::warn!(%reason, "access log incomplete");
            }
        }
    }
}

fn write_lines(lines: &Receiver<String>) -> io::Result<()> {
    while let Ok(first) = lines.recv() {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{first}")?;
        for line in lines.try_iter() {
            writeln!(stdout, "{line}")?;
        }
        stdout.flush()?;
    }
    Ok(())
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
        let mut line = format!("{time}\t{}\taccess\tconnection complete\t", self.level());
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
        map.serialize_entry("message", "connection complete")?;
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
    use super::*;

    fn record() -> Record {
        Record {
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

    #[test]
    fn a_record_is_one_line_of_json() {
        assert_eq!(
            record().to_json("T"),
            "{\"level\":\"error\",\"time\":\"T\",\"scope\":\"access\",\"message\":\"connection complete\",\
             \"src.addr\":\"10.0.0.1:5\",\"bytes_sent\":7,\"error\":\"a \\\"b\\\"\\nc\"}"
        );
    }
}
