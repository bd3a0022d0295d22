//! The `forwarded` field: RFC 7239.

use std::fmt;
use std::str::FromStr;

use super::node::{Node, NodeError};
use super::token::{is_token, is_token_char};

/// The hops that a connection took before this tunnel, first hop first.
///
/// A claim of the peer, for telemetry: it decides neither identity nor destination.
///
/// Prints the shortest form: parameters in the order `for`, `by`, `host`, `proto`, extensions;
/// values quoted only where they must be. Reading is strict but for whitespace around `,` and `;`,
/// and empty list elements.
///
/// # Examples
///
/// ```
/// use hbone::metadata::{Forwarded, ForwardedElement};
///
/// let peer: std::net::SocketAddr = "10.0.0.7:5123".parse()?;
/// let element = ForwardedElement::new().with_for(peer.into()).with_host("echo.default.svc")?;
/// let forwarded = Forwarded::new().with(element)?;
/// assert_eq!(forwarded.to_string(), r#"for="10.0.0.7:5123";host=echo.default.svc"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forwarded {
    elements: Vec<ForwardedElement>,
}

impl Forwarded {
    /// The most bytes, as printed and as read.
    pub const MAX_BYTES: usize = 2048;

    /// The most elements.
    pub const MAX_ELEMENTS: usize = 32;

    /// Makes an empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads all lines of a `forwarded` field, which together form one list.
    ///
    /// # Errors
    ///
    /// [`ForwardedError`] for the first fault; nothing of a faulty field is used.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, ForwardedError> {
        let mut forwarded = Self::new();
        let mut bytes = 0;
        for line in lines {
            bytes += line.len();
            if bytes > Self::MAX_BYTES {
                return Err(ForwardedError::TooLong);
            }
            let text = str::from_utf8(line).map_err(|_| ForwardedError::Syntax)?;
            forwarded.read_line(text)?;
        }
        forwarded.within_limits()
    }

    /// Adds the hop that was taken last. An element without parameters adds nothing.
    ///
    /// # Errors
    ///
    /// [`ForwardedError::TooLong`] and [`ForwardedError::TooManyElements`] at the limits of the
    /// type.
    pub fn with(mut self, element: ForwardedElement) -> Result<Self, ForwardedError> {
        self.push(element)?;
        self.within_limits()
    }

    /// The hops, first hop first.
    #[must_use]
    pub fn elements(&self) -> &[ForwardedElement] {
        &self.elements
    }

    /// The host that the first hop which names one was asked for: with Istio's proxies, the name of
    /// the service.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.elements.iter().find_map(ForwardedElement::host)
    }

    fn read_line(&mut self, line: &str) -> Result<(), ForwardedError> {
        let mut scanner = Scanner { rest: line };
        let mut element = ForwardedElement::new();
        loop {
            scanner.skip_spaces();
            let name = scanner.token();
            if !name.is_empty() {
                if !scanner.eat('=') {
                    return Err(ForwardedError::Syntax);
                }
                element.read_parameter(name, &scanner.value()?)?;
                scanner.skip_spaces();
            }
            if scanner.eat(';') {
                continue;
            }
            self.push(std::mem::take(&mut element))?;
            if scanner.rest.is_empty() {
                return Ok(());
            }
            if !scanner.eat(',') {
                return Err(ForwardedError::Syntax);
            }
        }
    }

    fn push(&mut self, element: ForwardedElement) -> Result<(), ForwardedError> {
        if element == ForwardedElement::default() {
            return Ok(());
        }
        if self.elements.len() == Self::MAX_ELEMENTS {
            return Err(ForwardedError::TooManyElements);
        }
        self.elements.push(element);
        Ok(())
    }

    fn within_limits(self) -> Result<Self, ForwardedError> {
        if self.to_string().len() > Self::MAX_BYTES {
            return Err(ForwardedError::TooLong);
        }
        Ok(self)
    }
}

impl FromStr for Forwarded {
    type Err = ForwardedError;

    fn from_str(text: &str) -> Result<Self, ForwardedError> {
        Self::parse([text.as_bytes()])
    }
}

impl fmt::Display for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, element) in self.elements.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            element.fmt(f)?;
        }
        Ok(())
    }
}

/// One hop of a [`Forwarded`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForwardedElement {
    for_node: Option<Node>,
    by_node: Option<Node>,
    host: Option<Box<str>>,
    proto: Option<Box<str>>,
    extensions: Vec<(Box<str>, Box<str>)>,
}

impl ForwardedElement {
    /// The most parameters beside the four standard ones.
    pub const MAX_EXTENSIONS: usize = 16;

    /// Makes an element without parameters.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets who made the connection.
    #[must_use]
    pub fn with_for(mut self, node: Node) -> Self {
        self.for_node = Some(node);
        self
    }

    /// Sets where the connection came in.
    #[must_use]
    pub fn with_by(mut self, node: Node) -> Self {
        self.by_node = Some(node);
        self
    }

    /// Sets the host that was asked for, with or without a port.
    ///
    /// # Errors
    ///
    /// [`ForwardedError::Host`] if `host` is empty or contains what a URI host and port cannot.
    pub fn with_host(mut self, host: &str) -> Result<Self, ForwardedError> {
        self.host = Some(parse_host(host)?);
        Ok(self)
    }

    /// Sets the protocol that was used, as a URI scheme.
    ///
    /// # Errors
    ///
    /// [`ForwardedError::Proto`] if `proto` is no URI scheme.
    pub fn with_proto(mut self, proto: &str) -> Result<Self, ForwardedError> {
        self.proto = Some(parse_scheme(proto)?);
        Ok(self)
    }

    /// Adds another parameter. Its name becomes lower case, as names compare without regard to
    /// case.
    ///
    /// # Errors
    ///
    /// [`ForwardedError::Extension`] if `name` is no token or one of the four standard names, or
    /// `value` contains anything but visible ASCII, spaces and tabs; [`ForwardedError::Repeated`]
    /// if the element has `name` already; [`ForwardedError::TooManyExtensions`] beyond
    /// [`ForwardedElement::MAX_EXTENSIONS`].
    pub fn with_extension(mut self, name: &str, value: &str) -> Result<Self, ForwardedError> {
        if matches!(&*name.to_ascii_lowercase(), "for" | "by" | "host" | "proto") {
            return Err(ForwardedError::Extension);
        }
        self.add_extension(name, value)?;
        Ok(self)
    }

    /// Who made the connection.
    #[must_use]
    pub fn for_node(&self) -> Option<&Node> {
        self.for_node.as_ref()
    }

    /// Where the connection came in.
    #[must_use]
    pub fn by_node(&self) -> Option<&Node> {
        self.by_node.as_ref()
    }

    /// The host that was asked for, with or without a port.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The protocol that was used, as a URI scheme.
    #[must_use]
    pub fn proto(&self) -> Option<&str> {
        self.proto.as_deref()
    }

    /// The other parameters, names in lower case, values without their quotes.
    pub fn extensions(&self) -> impl Iterator<Item = (&str, &str)> {
        self.extensions.iter().map(|(name, value)| (&**name, &**value))
    }

    fn read_parameter(&mut self, name: &str, value: &str) -> Result<(), ForwardedError> {
        match &*name.to_ascii_lowercase() {
            "for" => once(&mut self.for_node, value.parse()?),
            "by" => once(&mut self.by_node, value.parse()?),
            "host" => once(&mut self.host, parse_host(value)?),
            "proto" => once(&mut self.proto, parse_scheme(value)?),
            name => self.add_extension(name, value),
        }
    }

    fn add_extension(&mut self, name: &str, value: &str) -> Result<(), ForwardedError> {
        let name = name.to_ascii_lowercase();
        if !is_token(&name) || !value.chars().all(is_text) {
            return Err(ForwardedError::Extension);
        }
        if self.extensions.len() == Self::MAX_EXTENSIONS {
            return Err(ForwardedError::TooManyExtensions);
        }
        if self.extensions.iter().any(|(present, _)| **present == *name) {
            return Err(ForwardedError::Repeated);
        }
        self.extensions.push((name.into(), value.into()));
        Ok(())
    }
}

impl fmt::Display for ForwardedElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut parameter = |name: &str, value: &str| {
            f.write_str(std::mem::replace(&mut separator, ";"))?;
            write_parameter(f, name, value)
        };
        if let Some(node) = &self.for_node {
            parameter("for", &node.to_string())?;
        }
        if let Some(node) = &self.by_node {
            parameter("by", &node.to_string())?;
        }
        if let Some(host) = &self.host {
            parameter("host", host)?;
        }
        if let Some(proto) = &self.proto {
            parameter("proto", proto)?;
        }
        self.extensions().try_for_each(|(name, value)| parameter(name, value))
    }
}

/// Why a field or parameter cannot be part of a [`Forwarded`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardedError {
    /// The elements take more than [`Forwarded::MAX_BYTES`] bytes.
    #[error("forwarded exceeds {} bytes", Forwarded::MAX_BYTES)]
    TooLong,
    /// There are more than [`Forwarded::MAX_ELEMENTS`] elements.
    #[error("forwarded exceeds {} elements", Forwarded::MAX_ELEMENTS)]
    TooManyElements,
    /// An element has more than [`ForwardedElement::MAX_EXTENSIONS`] other parameters.
    #[error("forwarded element exceeds {} extensions", ForwardedElement::MAX_EXTENSIONS)]
    TooManyExtensions,
    /// The field is no list of `name=value` pairs.
    #[error("forwarded is not a list of parameters")]
    Syntax,
    /// An element has the same parameter twice.
    #[error("forwarded element repeats a parameter")]
    Repeated,
    /// `for` or `by` is no node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// `host` is no host with an optional port.
    #[error("forwarded host is empty or contains a character that a host cannot")]
    Host,
    /// `proto` is no URI scheme.
    #[error("forwarded protocol is not a URI scheme")]
    Proto,
    /// An extension parameter is not allowed.
    #[error("forwarded extension has a reserved or invalid name, or a value beyond ASCII text")]
    Extension,
}

struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn eat(&mut self, expected: char) -> bool {
        let after = self.rest.strip_prefix(expected);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    /// The longest token here, which may be empty.
    fn token(&mut self) -> &'a str {
        let end = self.rest.find(|c| !is_token_char(c)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        token
    }

    fn value(&mut self) -> Result<String, ForwardedError> {
        if self.eat('"') {
            return self.quoted();
        }
        match self.token() {
            "" => Err(ForwardedError::Syntax),
            token => Ok(token.to_owned()),
        }
    }

    /// RFC 9110, section 5.6.4, after the opening quote; without `obs-text`.
    fn quoted(&mut self) -> Result<String, ForwardedError> {
        let mut value = String::new();
        let mut chars = self.rest.chars();
        while let Some(c) = chars.next() {
            let c = match c {
                '"' => {
                    self.rest = chars.as_str();
                    return Ok(value);
                }
                '\\' => chars.next().ok_or(ForwardedError::Syntax)?,
                c => c,
            };
            if !is_text(c) {
                return Err(ForwardedError::Syntax);
            }
            value.push(c);
        }
        Err(ForwardedError::Syntax)
    }
}

fn write_parameter(f: &mut fmt::Formatter<'_>, name: &str, value: &str) -> fmt::Result {
    if is_token(value) {
        return write!(f, "{name}={value}");
    }
    write!(f, "{name}=\"")?;
    for c in value.chars() {
        if matches!(c, '"' | '\\') {
            f.write_str("\\")?;
        }
        write!(f, "{c}")?;
    }
    f.write_str("\"")
}

fn parse_host(text: &str) -> Result<Box<str>, ForwardedError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte);
    if text.is_empty() || !text.bytes().all(allowed) {
        return Err(ForwardedError::Host);
    }
    Ok(text.into())
}

fn parse_scheme(text: &str) -> Result<Box<str>, ForwardedError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if !text.starts_with(|c: char| c.is_ascii_alphabetic()) || !text.bytes().all(allowed) {
        return Err(ForwardedError::Proto);
    }
    Ok(text.into())
}

fn once<T>(parameter: &mut Option<T>, value: T) -> Result<(), ForwardedError> {
    match parameter.replace(value) {
        Some(_) => Err(ForwardedError::Repeated),
        None => Ok(()),
    }
}

fn is_text(c: char) -> bool {
    c.is_ascii_graphic() || matches!(c, ' ' | '\t')
}
