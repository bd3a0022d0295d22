use std::str::FromStr;

use super::{
    fault::{Problem, ReadFault},
    node::{Kind, Node},
};

/// A mapping in a file, which is read field by field; what is left in the end is unknown.
///
/// A field that is null is as one that is not there, as everywhere in Kubernetes. Numbers and truth
/// values are texts, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    path: String,
    pub(crate) line: u32,
    fields: Vec<(String, Node)>,
}

impl Object {
    pub(crate) fn new(path: &str, node: Node) -> Result<Self, Problem> {
        match node.kind {
            Kind::Map(fields) => Ok(Self {
                path: path.to_owned(),
                line: node.line,
                fields,
            }),
            _ => Err(wrong(node.line, path, "a mapping")),
        }
    }

    /// A field that is there and not null.
    pub(crate) fn take(&mut self, name: &str) -> Option<Node> {
        let at = self.fields.iter().position(|(field, _)| field == name)?;
        let (_, node) = self.fields.remove(at);
        (node.kind != Kind::Null).then_some(node)
    }

    /// Takes a mapping.
    ///
    /// # Errors
    ///
    /// The field is something else.
    pub fn object(&mut self, name: &str) -> Result<Option<Self>, Problem> {
        let path = self.path(name);
        self.take(name).map(|node| Self::new(&path, node)).transpose()
    }

    /// Takes the mappings of a list, none if it is not there.
    ///
    /// # Errors
    ///
    /// The field is no list, or an entry is no mapping.
    pub fn objects(&mut self, name: &str) -> Result<Vec<Self>, Problem> {
        let path = self.path(name);
        let items = self.list(name)?.into_iter().enumerate();
        items
            .map(|(at, node)| Self::new(&format!("{path}[{at}]"), node))
            .collect()
    }

    /// The same for a list that the API has no longer than this.
    ///
    /// # Errors
    ///
    /// As for [`objects`](Self::objects), or it is longer.
    pub fn objects_at_most(&mut self, limit: usize, name: &str) -> Result<Vec<Self>, Problem> {
        let (line, field) = (self.line_of(name), self.path(name).into());
        let list = self.objects(name)?;
        if list.len() > limit {
            return Err((line, ReadFault::TooMany { field, limit }));
        }
        Ok(list)
    }

    /// Takes a text.
    ///
    /// # Errors
    ///
    /// The field is something else.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let path = self.path(name);
        self.take(name)
            .map(|node| text(&path, node).map(|(_, text)| text))
            .transpose()
    }

    /// Takes a truth value, false if it is not there.
    ///
    /// # Errors
    ///
    /// The field is something else.
    pub fn flag(&mut self, name: &str) -> Result<bool, Problem> {
        let (line, path) = (self.line_of(name), self.path(name));
        match self.text(name)?.as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(wrong(line, &path, "`true` or `false`")),
        }
    }

    /// Takes a text that has to be there.
    ///
    /// # Errors
    ///
    /// The field is missing or something else.
    pub fn required_text(&mut self, name: &str) -> Result<String, Problem> {
        let (line, field) = (self.line, self.path(name).into());
        self.text(name)?.ok_or((line, ReadFault::Missing { field }))
    }

    /// Takes a mapping that has to be there.
    ///
    /// # Errors
    ///
    /// The field is missing or something else.
    pub fn required_object(&mut self, name: &str) -> Result<Self, Problem> {
        let (line, field) = (self.line, self.path(name).into());
        self.object(name)?.ok_or((line, ReadFault::Missing { field }))
    }

    /// Takes a value that is written as a text, such as a number.
    ///
    /// # Errors
    ///
    /// The field is no text, or not one of such a value.
    pub fn parsed<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, Problem> {
        self.mapped(name, |text| text.parse().ok())
    }

    /// Takes a value that a function makes of a text, or makes none.
    ///
    /// # Errors
    ///
    /// The field is no text, or the function makes nothing of it.
    pub fn mapped<T>(&mut self, name: &str, make: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, Problem> {
        let (line, path) = (self.line_of(name), self.path(name));
        let text = self.text(name)?;
        text.map(|text| make(&text).ok_or_else(|| unfit(line, &path, &text)))
            .transpose()
    }

    /// Takes one of a few words.
    ///
    /// # Errors
    ///
    /// The field is no text, or another one.
    pub fn word<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, Problem> {
        self.mapped(name, |text| {
            let found = words.iter().find(|(word, _)| *word == text);
            found.map(|(_, value)| *value)
        })
    }

    /// Refuses fields that the API has and this reader does not carry out.
    ///
    /// # Errors
    ///
    /// One of them is there.
    pub fn refuse(&mut self, names: &[&str]) -> Result<(), Problem> {
        for name in names {
            let (line, field) = (self.line_of(name), self.path(name).into());
            if self.take(name).is_some() {
                return Err((line, ReadFault::Unsupported { field }));
            }
        }
        Ok(())
    }

    /// The entries of a list, none if it is not there.
    pub(crate) fn list(&mut self, name: &str) -> Result<Vec<Node>, Problem> {
        let path = self.path(name);
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Node {
                kind: Kind::List(items),
                ..
            }) => Ok(items),
            Some(node) => Err(wrong(node.line, &path, "a list")),
        }
    }

    /// The same for a list that must be there.
    pub(crate) fn required_list(&mut self, name: &str) -> Result<Vec<Node>, Problem> {
        let is_there = self
            .fields
            .iter()
            .any(|(field, node)| field == name && node.kind != Kind::Null);
        if !is_there {
            let field = self.path(name).into();
            return Err((self.line, ReadFault::Missing { field }));
        }
        self.list(name)
    }

    /// The same for a list that must not be there if it is empty.
    pub(crate) fn filled_list(&mut self, name: &str) -> Result<Vec<Node>, Problem> {
        let field = self.path(name).into();
        let line = self.line_of(name);
        let is_there = self
            .fields
            .iter()
            .any(|(field, node)| field == name && node.kind != Kind::Null);
        let items = self.list(name)?;
        if is_there && items.is_empty() {
            return Err((line, ReadFault::EmptyList { field }));
        }
        Ok(items)
    }

    /// Takes the texts of a list with their lines, none if it is not there.
    ///
    /// # Errors
    ///
    /// The field is no list, or an entry is no text.
    pub fn texts(&mut self, name: &str) -> Result<Vec<(u32, String)>, Problem> {
        let path = self.path(name);
        let items = self.list(name)?.into_iter().enumerate();
        items.map(|(at, node)| text(&format!("{path}[{at}]"), node)).collect()
    }

    /// All fields that are left, as names and texts.
    ///
    /// # Errors
    ///
    /// A field is no text.
    pub fn into_texts(self) -> Result<Vec<(String, String)>, Problem> {
        let path = self.path.clone();
        let fields = self.fields.into_iter();
        fields
            .map(|(name, node)| Ok((name.clone(), text(&format!("{path}.{name}"), node)?.1)))
            .collect()
    }

    /// All fields that are left.
    pub(crate) fn fields(&self) -> &[(String, Node)] {
        &self.fields
    }

    /// All fields that are left, with their paths.
    pub(crate) fn into_fields(self) -> impl Iterator<Item = (String, String, Node)> {
        let path = self.path;
        self.fields
            .into_iter()
            .map(move |(name, node)| (format!("{path}.{name}"), name, node))
    }

    /// Leaves out fields that are known and mean nothing to the reader.
    pub fn pass_over(&mut self, names: &[&str]) {
        self.fields.retain(|(name, _)| !names.contains(&name.as_str()));
    }

    /// Ends reading.
    ///
    /// # Errors
    ///
    /// A field is left: the first one is unknown.
    pub fn finish(self) -> Result<(), Problem> {
        match self.fields.first() {
            None => Ok(()),
            Some((name, node)) => Err((
                node.line,
                ReadFault::UnknownField {
                    field: self.path(name).into(),
                },
            )),
        }
    }

    /// The line that the mapping begins in, from 1.
    #[must_use]
    pub fn line(&self) -> u32 {
        self.line
    }

    /// The path to a field, for messages.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// The line of a field that has not been taken; without it, that of the mapping.
    #[must_use]
    pub fn line_of(&self, name: &str) -> u32 {
        let field = self.fields.iter().find(|(field, _)| field == name);
        field.map_or(self.line, |(_, node)| node.line)
    }
}

pub(crate) fn text(path: &str, node: Node) -> Result<(u32, String), Problem> {
    match node.kind {
        Kind::Text(text) => Ok((node.line, text)),
        _ => Err(wrong(node.line, path, "a text")),
    }
}

/// A field cannot have this value.
pub(crate) fn unfit(line: u32, field: &str, value: &str) -> Problem {
    let (field, value) = (field.into(), value.into());
    (line, ReadFault::Value { field, value })
}

pub(crate) fn wrong(line: u32, field: &str, expected: &'static str) -> Problem {
    let field = if field.is_empty() { "the document" } else { field }.into();
    (line, ReadFault::Type { field, expected })
}
