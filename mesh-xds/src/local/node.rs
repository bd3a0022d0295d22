use std::collections::HashSet;

use saphyr_parser::{Event, Parser};

use super::fault::{LocalFault, Located, MAX_DEPTH, MAX_LENGTH};

/// A value, and the line that it begins in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Numbers and truth values, too; nothing at all is the empty text.
    Text(String),
    List(Vec<Node>),
    /// In the order of the file; no name is there twice.
    Fields(Vec<(String, Node)>),
}

/// The one document of a text; `None` if there is none. Nothing is expanded, so a value is no larger
/// than its text.
pub(super) fn document(text: &str) -> Located<Option<Node>> {
    if text.len() > MAX_LENGTH {
        return Err((1, LocalFault::TooLong(text.len())));
    }
    let mut document = None;
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) =
            event.map_err(|error| (error.marker().line(), LocalFault::Syntax(error.info().to_owned())))?;
        let line = span.start.line();
        let value = match event {
            Event::Alias(_)
            | Event::Scalar(_, _, 1.., _)
            | Event::SequenceStart(1.., _)
            | Event::MappingStart(1.., _) => {
                return Err((line, LocalFault::Alias));
            }
            Event::DocumentStart(_) if document.is_some() => {
                return Err((line, LocalFault::Syntax("a second document".to_owned())));
            }
            Event::SequenceStart(..) => {
                open.push(Open::new(line, Value::List(Vec::new())));
                None
            }
            Event::MappingStart(..) => {
                open.push(Open::new(line, Value::Fields(Vec::new())));
                None
            }
            Event::Scalar(text, ..) => Some(Node {
                line,
                value: Value::Text(text.into_owned()),
            }),
            Event::SequenceEnd | Event::MappingEnd => open.pop().map(|open| open.node),
            _ => None,
        };
        if open.len() > MAX_DEPTH {
            return Err((line, LocalFault::TooDeep));
        }
        match (value, open.last_mut()) {
            (Some(value), Some(parent)) => parent.add(value)?,
            (Some(value), None) => document = Some(value),
            (None, _) => {}
        }
    }
    Ok(document)
}

/// A list or a mapping that has not ended.
struct Open {
    node: Node,
    /// In a mapping, the name of the value that comes next.
    name: Option<String>,
    /// All names so far.
    names: HashSet<String>,
}

impl Open {
    fn new(line: usize, value: Value) -> Self {
        Self {
            node: Node { line, value },
            name: None,
            names: HashSet::new(),
        }
    }

    fn add(&mut self, node: Node) -> Located<()> {
        match (&mut self.node.value, self.name.take()) {
            (Value::List(list), _) => list.push(node),
            (Value::Fields(fields), Some(name)) => {
                if !self.names.insert(name.clone()) {
                    return Err((node.line, LocalFault::Repeated(name)));
                }
                fields.push((name, node));
            }
            (Value::Fields(_), None) => match node.value {
                Value::Text(name) => self.name = Some(name),
                _ => return Err((node.line, LocalFault::FieldName)),
            },
            (Value::Text(_), _) => {}
        }
        Ok(())
    }
}
