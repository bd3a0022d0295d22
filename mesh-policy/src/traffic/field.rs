use std::fmt;

use thiserror::Error;

use crate::facts::header::{is_framing, is_token};

/// The longest name of a header, as the Gateway API has it.
const MAX_NAME_BYTES: usize = 256;

/// The longest value of a header, as the Gateway API has it.
const MAX_VALUE_BYTES: usize = 4096;

/// The name of a header, in lower case (RFC 9110 §5.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldName(Box<str>);

impl FieldName {
    /// A name that requests can be compared by.
    ///
    /// # Errors
    ///
    /// It is no token, or longer than 256 bytes.
    pub fn new(name: &str) -> Result<Self, FieldError> {
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(is_token) {
            return Err(FieldError::Name { name: name.into() });
        }
        Ok(Self(name.to_ascii_lowercase().into()))
    }

    /// A name whose lines a rule may change.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new), or it belongs to the connection, to the framing of the message or
    /// to where it goes: `host` is for a rewrite to change.
    pub fn changeable(name: &str) -> Result<Self, FieldError> {
        let name = Self::new(name)?;
        if is_framing(name.as_str()) {
            return Err(FieldError::Fixed { name: name.0 });
        }
        Ok(name)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The value of a header line (RFC 9110 §5.5).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldValue(Box<str>);

impl FieldValue {
    /// A value.
    ///
    /// # Errors
    ///
    /// It holds a control byte, begins or ends with a blank, or is longer than 4,096 bytes.
    pub fn new(value: &str) -> Result<Self, FieldError> {
        let is_text = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        let is_trimmed = value.trim_matches([' ', '\t']).len() == value.len();
        if value.len() > MAX_VALUE_BYTES || !is_trimmed || !value.bytes().all(is_text) {
            return Err(FieldError::Value { value: value.into() });
        }
        Ok(Self(value.into()))
    }

    /// The value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no header, or none that a rule may change.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FieldError {
    /// It is no name.
    #[error("`{}` is no name of a header", .name.escape_debug())]
    Name {
        /// The text.
        name: Box<str>,
    },
    /// Rules must not change it.
    #[error("the header `{name}` is not for a route to change")]
    Fixed {
        /// The name.
        name: Box<str>,
    },
    /// It is no value.
    #[error("`{}` is no value of a header", .value.escape_debug())]
    Value {
        /// The text.
        value: Box<str>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tokens_and_some_stay_as_they_are() {
        assert_eq!(FieldName::new("X-Tier").unwrap().as_str(), "x-tier");
        for name in ["", ":path", "a b", "a:", "a\r", "\u{e9}", &"a".repeat(257)] {
            assert!(FieldName::new(name).is_err(), "{name}");
        }
        for name in ["Host", "Content-Length", "TRANSFER-ENCODING", "te"] {
            assert!(FieldName::new(name).is_ok());
            assert!(
                matches!(FieldName::changeable(name), Err(FieldError::Fixed { .. })),
                "{name}"
            );
        }
    }

    #[test]
    fn values_hold_no_second_line() {
        assert!(FieldValue::new("").is_ok() && FieldValue::new("a\tb \u{e9}").is_ok());
        for value in ["a\r\nb: c", "a\nb", "\0", " a", "a\t", "a\x7f"] {
            assert!(FieldValue::new(value).is_err(), "{value:?}");
        }
    }
}
