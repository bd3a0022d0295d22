use std::collections::HashSet;

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::fault::{Problem, ReadFault};
use crate::budget::{Budget, Resource};

/// A value in a file, and the line that it begins in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) line: u32,
    pub(crate) kind: Kind,
    /// Whether a text was written without quotes, so that it may be a number.
    pub(crate) plain: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    /// Numbers and truth values are text, too: a port may be written either way.
    Text(String),
    List(Vec<Node>),
    /// In the order of the file; no name is there twice.
    Map(Vec<(String, Node)>),
}

/// The documents of a file.
///
/// Nothing is expanded, so there are no more values than bytes in the file, and of both no more than
/// the budget has it.
pub(crate) fn documents(text: &str, budget: &Budget) -> Result<Vec<Node>, Problem> {
    budget
        .check(Resource::DocumentBytes, text.len())
        .map_err(|over| (1, over.into()))?;
    let mut documents = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let mut nodes = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let problem = error.info().into();
            (error.marker().line() as u32, ReadFault::Syntax { problem })
        })?;
        let line = span.start.line() as u32;
        if matches!(
            event,
            Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..)
        ) {
            nodes += 1;
            budget
                .check(Resource::DocumentNodes, nodes)
                .map_err(|over| (line, over.into()))?;
        }
        let complete = match event {
            Event::Alias(_) => return Err((line, ReadFault::Alias)),
            Event::Scalar(text, style, _, _) => Some(scalar(line, text.into_owned(), style)),
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                let depth = open.len() + 1;
                budget
                    .check(Resource::DocumentDepth, depth)
                    .map_err(|over| (line, over.into()))?;
                open.push(Open {
                    line,
                    name: None,
                    names: HashSet::new(),
                    kind: match event {
                        Event::SequenceStart(..) => Kind::List(Vec::new()),
                        _ => Kind::Map(Vec::new()),
                    },
                });
                None
            }
            Event::SequenceEnd | Event::MappingEnd => open.pop().map(|open| Node {
                line: open.line,
                kind: open.kind,
                plain: false,
            }),
            _ => None,
        };
        if let Some(node) = complete {
            match open.last_mut() {
                Some(parent) => parent.add(node)?,
                None => documents.push(node),
            }
        }
    }
    Ok(documents)
}

/// A list or a mapping that has not ended.
struct Open {
    line: u32,
    /// In a mapping, of the value that comes next.
    name: Option<String>,
    /// In a mapping, all names so far.
    names: HashSet<String>,
    kind: Kind,
}

impl Open {
    fn add(&mut self, node: Node) -> Result<(), Problem> {
        match &mut self.kind {
            Kind::List(items) => items.push(node),
            Kind::Map(fields) => match self.name.take() {
                Some(name) => fields.push((name, node)),
                None => match node.kind {
                    Kind::Text(text) => {
                        if !self.names.insert(text.clone()) {
                            let field = text.into();
                            return Err((node.line, ReadFault::Duplicate { field }));
                        }
                        self.name = Some(text);
                    }
                    _ => return Err((node.line, ReadFault::FieldName)),
                },
            },
            Kind::Null | Kind::Text(_) => {}
        }
        Ok(())
    }
}

fn scalar(line: u32, text: String, style: ScalarStyle) -> Node {
    let plain = style == ScalarStyle::Plain;
    let kind = if plain && ["", "~", "null", "Null", "NULL"].contains(&text.as_str()) {
        Kind::Null
    } else {
        Kind::Text(text)
    };
    Node { line, kind, plain }
}
