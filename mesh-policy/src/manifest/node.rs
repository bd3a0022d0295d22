use std::collections::HashSet;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

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

/// The documents of a file, each made when it is asked for: a large file then takes the memory of
/// one of them.
///
/// Nothing is expanded, so there are no more values than bytes in the file, and of both no more than
/// the budget has it. After a problem there is nothing more.
pub(crate) struct Documents<'t> {
    /// None when all is over.
    events: Option<Parser<'t, StrInput<'t>>>,
    bytes: usize,
    budget: Budget,
    /// So far.
    nodes: usize,
}

impl<'t> Documents<'t> {
    pub(crate) fn new(text: &'t str, budget: &Budget) -> Self {
        Self {
            events: Some(Parser::new_from_str(text)),
            bytes: text.len(),
            budget: budget.clone(),
            nodes: 0,
        }
    }

    /// Reads nothing more.
    pub(crate) fn end(&mut self) {
        self.events = None;
    }

    fn document(&mut self) -> Result<Option<Node>, Problem> {
        self.check(Resource::DocumentBytes, self.bytes, 1)?;
        let mut open: Vec<Open> = Vec::new();
        while let Some(event) = self.events.as_mut().and_then(Iterator::next) {
            let Some(node) = self.node(event, &mut open)? else {
                continue;
            };
            match open.last_mut() {
                Some(parent) => parent.add(node)?,
                None => return Ok(Some(node)),
            }
        }
        Ok(None)
    }

    /// The value that an event completes, if it does.
    fn node(
        &mut self,
        event: Result<(Event<'t>, Span), ScanError>,
        open: &mut Vec<Open>,
    ) -> Result<Option<Node>, Problem> {
        let (event, span) = event.map_err(|error| {
            let problem = error.info().into();
            (error.marker().line() as u32, ReadFault::Syntax { problem })
        })?;
        let line = span.start.line() as u32;
        if matches!(
            event,
            Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..)
        ) {
            self.nodes += 1;
            self.check(Resource::DocumentNodes, self.nodes, line)?;
        }
        Ok(match event {
            Event::Alias(_) => return Err((line, ReadFault::Alias)),
            Event::Scalar(text, style, _, _) => Some(scalar(line, text.into_owned(), style)),
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                self.check(Resource::DocumentDepth, open.len() + 1, line)?;
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
        })
    }

    fn check(&self, resource: Resource, used: usize, line: u32) -> Result<(), Problem> {
        self.budget.check(resource, used).map_err(|over| (line, over.into()))
    }
}

impl Iterator for Documents<'_> {
    type Item = Result<Node, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        let document = self.document().transpose();
        if !matches!(document, Some(Ok(_))) {
            self.end();
        }
        document
    }
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
