use http::header::{Entry, HeaderMap, HeaderName, HeaderValue};
use mesh_policy::traffic::FieldName;
use mesh_xds_types::core::header_value_option::HeaderAppendAction;
use mesh_xds_types::core::{self, HeaderValueOption};

/// The most lines that one answer may have, of each kind.
const MAX_LINES: usize = 128;

/// What an answer changes about the headers of a message: lines in their order, then what goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::waypoint) struct Edits {
    lines: Vec<(HeaderAppendAction, HeaderName, HeaderValue)>,
    removed: Vec<HeaderName>,
}

/// What becomes of lines with a line's name if the line does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsaid {
    /// They stay: nobody but servers had a say in them.
    Append,
    /// They go, lest what a client wrote be taken for what the service vouches for.
    Overwrite,
}

impl Edits {
    /// What these lines come to.
    ///
    /// # Errors
    ///
    /// There are too many, or one is no header line, or one that belongs to the connection, to the
    /// framing or to where the message goes.
    pub(super) fn of(options: &[HeaderValueOption], unsaid: Unsaid) -> Result<Self, EditFault> {
        within(options.len())?;
        let lines = options.iter().map(|option| {
            // An empty value is kept whatever it says: without the line, a client's would stay.
            let HeaderValueOption {
                header,
                append,
                append_action,
                keep_empty_value: _,
            } = option;
            let (name, value) = line(header.as_ref().ok_or(EditFault::NoHeader)?)?;
            let action = match (append, *append_action) {
                (Some(true), _) => HeaderAppendAction::AppendIfExistsOrAdd,
                (Some(false), _) => HeaderAppendAction::OverwriteIfExistsOrAdd,
                (None, 0) if unsaid == Unsaid::Overwrite => HeaderAppendAction::OverwriteIfExistsOrAdd,
                (None, action) => HeaderAppendAction::try_from(action).map_err(|_| EditFault::Action { action })?,
            };
            Ok((action, name, value))
        });
        Ok(Self {
            lines: lines.collect::<Result<_, _>>()?,
            removed: Vec::new(),
        })
    }

    /// Lines that are added to what is there.
    ///
    /// # Errors
    ///
    /// As for [`of`](Self::of).
    pub(super) fn adding(headers: &[core::HeaderValue]) -> Result<Self, EditFault> {
        within(headers.len())?;
        let lines = headers.iter().map(|header| {
            let (name, value) = line(header)?;
            Ok((HeaderAppendAction::AppendIfExistsOrAdd, name, value))
        });
        Ok(Self {
            lines: lines.collect::<Result<_, _>>()?,
            removed: Vec::new(),
        })
    }

    /// What `read` makes of these lines one by one, as far as they can be sent: for an answer that
    /// counts however badly it is written.
    pub(super) fn sendable<L>(lines: &[L], read: impl Fn(&[L]) -> Result<Self, EditFault>) -> Self {
        let mut sendable = Self::default();
        for edits in lines.chunks(1).take(MAX_LINES).flat_map(read) {
            sendable.then(edits);
        }
        sendable
    }

    /// Removes also what is called so. What no answer may change stays, which is what Envoy promises
    /// of pseudo-headers and `host`.
    ///
    /// # Errors
    ///
    /// There are too many.
    pub(super) fn removing(mut self, names: &[String]) -> Result<Self, EditFault> {
        within(names.len())?;
        let names = names.iter().filter_map(|name| changeable(name).ok());
        self.removed.extend(names);
        Ok(self)
    }

    /// One line more.
    pub(super) fn with(mut self, action: HeaderAppendAction, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.lines.push((action, name, value.into()));
        self
    }

    /// Changes the headers of a message.
    pub(in crate::waypoint) fn apply(&self, headers: &mut HeaderMap) {
        for (action, name, value) in &self.lines {
            match (action, headers.entry(name)) {
                (HeaderAppendAction::AppendIfExistsOrAdd, Entry::Occupied(mut lines)) => lines.append(value.clone()),
                (HeaderAppendAction::AddIfAbsent, Entry::Occupied(_))
                | (HeaderAppendAction::OverwriteIfExists, Entry::Vacant(_)) => {}
                (
                    HeaderAppendAction::OverwriteIfExistsOrAdd | HeaderAppendAction::OverwriteIfExists,
                    Entry::Occupied(mut lines),
                ) => {
                    lines.insert(value.clone());
                }
                (_, Entry::Vacant(place)) => {
                    place.insert(value.clone());
                }
            }
        }
        for name in &self.removed {
            headers.remove(name);
        }
    }

    /// These, and then others.
    pub(super) fn then(&mut self, later: Self) {
        self.lines.extend(later.lines);
        self.removed.extend(later.removed);
    }
}

fn within(count: usize) -> Result<(), EditFault> {
    match count > MAX_LINES {
        true => Err(EditFault::TooMany { count }),
        false => Ok(()),
    }
}

fn line(header: &core::HeaderValue) -> Result<(HeaderName, HeaderValue), EditFault> {
    let core::HeaderValue { key, value, raw_value } = header;
    let name = changeable(key)?;
    let bytes = if value.is_empty() { raw_value } else { value.as_bytes() };
    let value = HeaderValue::from_bytes(bytes).map_err(|_| EditFault::Value { name: name.clone() })?;
    Ok((name, value))
}

fn changeable(name: &str) -> Result<HeaderName, EditFault> {
    let fault = || EditFault::Name { name: name.into() };
    let name = FieldName::changeable(name).map_err(|_| fault())?;
    HeaderName::from_bytes(name.as_str().as_bytes()).map_err(|_| fault())
}

/// Why an answer's lines cannot be put into a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EditFault {
    #[error("{count} header lines are more than {MAX_LINES}")]
    TooMany { count: usize },
    #[error("a header line is empty")]
    NoHeader,
    #[error("`{}` is no header that an answer may change", name.escape_debug())]
    Name { name: Box<str> },
    #[error("the value of the header `{name}` is none")]
    Value { name: HeaderName },
    #[error("there is no append action {action}")]
    Action { action: i32 },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(key: &str, value: &str, append: Option<bool>, action: i32) -> HeaderValueOption {
        HeaderValueOption {
            header: Some(core::HeaderValue {
                key: key.into(),
                value: value.into(),
                raw_value: Vec::new(),
            }),
            append,
            append_action: action,
            keep_empty_value: false,
        }
    }

    fn applied(edits: &Edits, had: &[(&'static str, &'static str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in had {
            headers.append(*name, HeaderValue::from_static(value));
        }
        edits.apply(&mut headers);
        let lines = headers
            .iter()
            .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()));
        lines.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_action_does_what_it_says() {
        let had: &[_] = &[("x", "1"), ("x", "2")];
        for (append, action, unsaid, present, absent) in [
            (None, 0, Unsaid::Append, "x=1 x=2 x=v", "x=v"),
            (None, 0, Unsaid::Overwrite, "x=v", "x=v"),
            (None, 1, Unsaid::Overwrite, "x=1 x=2", "x=v"),
            (None, 2, Unsaid::Append, "x=v", "x=v"),
            (None, 3, Unsaid::Append, "x=v", ""),
            (Some(true), 0, Unsaid::Overwrite, "x=1 x=2 x=v", "x=v"),
            (Some(false), 0, Unsaid::Append, "x=v", "x=v"),
            (Some(true), 2, Unsaid::Overwrite, "x=1 x=2 x=v", "x=v"),
        ] {
            let edits = Edits::of(&[option("X", "v", append, action)], unsaid).unwrap();
            let shown = format!("{append:?} {action} {unsaid:?}");
            assert_eq!(applied(&edits, had), present, "{shown}");
            assert_eq!(applied(&edits, &[]), absent, "{shown}");
        }
    }

    #[test]
    fn lines_come_in_their_order_and_what_goes_goes_last() {
        let options = [
            option("x", "a", None, 2),
            option("x", "b", None, 0),
            option("y", "c", None, 0),
        ];
        let edits = Edits::of(&options, Unsaid::Append).unwrap();
        let names = ["Y", ":path", "host", "no name", "connection"].map(String::from);
        let edits = edits.removing(&names).unwrap();
        assert_eq!(
            applied(&edits, &[("host", "h"), ("connection", "c")]),
            "host=h connection=c x=a x=b"
        );
    }

    #[test]
    fn an_empty_value_empties_what_a_client_wrote() {
        let edits = Edits::of(&[option("x-user", "", None, 0)], Unsaid::Overwrite).unwrap();
        assert_eq!(applied(&edits, &[("x-user", "admin")]), "x-user=");
    }

    #[test]
    fn a_value_may_be_any_bytes_of_a_line() {
        let raw = core::HeaderValue {
            key: "x".into(),
            value: String::new(),
            raw_value: b"\xff".to_vec(),
        };
        let mut headers = HeaderMap::new();
        Edits::adding(&[raw]).unwrap().apply(&mut headers);
        assert_eq!(headers["x"].as_bytes(), b"\xff");
    }

    #[test]
    fn what_no_answer_may_change_is_refused() {
        for name in [
            "",
            ":path",
            "Host",
            "content-length",
            "Transfer-Encoding",
            "te",
            "connection",
            "upgrade",
            "a b",
            "a\r",
        ] {
            let fault = EditFault::Name { name: name.into() };
            assert_eq!(Edits::of(&[option(name, "v", None, 0)], Unsaid::Append), Err(fault));
        }
        let broken = Edits::of(&[option("x", "a\r\nb: c", None, 0)], Unsaid::Append);
        assert!(matches!(broken, Err(EditFault::Value { .. })));
        let unknown = Edits::of(&[option("x", "v", None, 4)], Unsaid::Append);
        assert_eq!(unknown, Err(EditFault::Action { action: 4 }));
        let many = vec![option("x", "v", None, 0); MAX_LINES + 1];
        let count = many.len();
        assert_eq!(Edits::of(&many, Unsaid::Append), Err(EditFault::TooMany { count }));
        let names = vec![String::from("x"); MAX_LINES + 1];
        assert_eq!(Edits::default().removing(&names), Err(EditFault::TooMany { count }));
    }
}
