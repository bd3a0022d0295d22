//! JSON as security documents need it: no object has a name twice, because two readers could each
//! take another one of them.
#![cfg_attr(not(feature = "jwt"), allow(unreachable_pub, reason = "public by way of `jws`"))]

use std::{collections::BTreeMap, fmt};

use serde_core::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use thiserror::Error;

/// The members of a JSON object, by their unique names.
pub type Object = BTreeMap<String, Json>;

/// A JSON value (RFC 8259).
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// An integer without sign, fraction and exponent, within 64 bits.
    Integer(u64),
    /// Any other number, as near to it as may be.
    Number(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Json>),
    /// An object.
    Object(Object),
}

impl Json {
    /// Reads a text that is one JSON value. Nesting is limited to 128 levels; the caller limits the
    /// length.
    ///
    /// # Errors
    ///
    /// A text that is not JSON, or in which an object has a name twice.
    pub fn parse(text: &[u8]) -> Result<Self, JsonError> {
        serde_json::from_slice(text).map_err(|error| match error.classify() {
            // The only complaint about data is the one made below.
            Category::Data => JsonError::RepeatedName,
            _ => JsonError::Syntax {
                line: error.line(),
                column: error.column(),
            },
        })
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is an [`Integer`](Self::Integer).
    pub fn as_integer(&self) -> Option<u64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// The entries, if it is a list.
    pub fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }

    /// The members, if it is an object.
    pub fn as_object(&self) -> Option<&Object> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }
}

impl fmt::Display for Json {
    /// Writes the value as JSON, without blanks and with the members of objects in order.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text: &str| serde_json::Value::from(text);
        match self {
            Self::Null => f.write_str("null"),
            Self::Boolean(truth) => write!(f, "{truth}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Number(number) => write!(f, "{}", serde_json::Value::from(*number)),
            Self::Text(text) => write!(f, "{}", quoted(text)),
            Self::List(list) => {
                f.write_str("[")?;
                for (at, value) in list.iter().enumerate() {
                    write!(f, "{}{value}", if at == 0 { "" } else { "," })?;
                }
                f.write_str("]")
            }
            Self::Object(object) => {
                f.write_str("{")?;
                for (at, (name, value)) in object.iter().enumerate() {
                    write!(f, "{}{}:{value}", if at == 0 { "" } else { "," }, quoted(name))?;
                }
                f.write_str("}")
            }
        }
    }
}

/// Why a text is no JSON that may be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JsonError {
    /// The text is not JSON.
    #[error("no JSON from line {line}, column {column} on")]
    Syntax {
        /// The line, counting from one.
        line: usize,
        /// The column, counting from one; zero for the end of a line.
        column: usize,
    },
    /// An object has two members of the same name.
    #[error("an object of the JSON text has a name twice")]
    RepeatedName,
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Json, E> {
        Ok(Json::Boolean(truth))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Integer(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(Json::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Json, E> {
        Ok(Json::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut object = Object::new();
        while let Some((name, value)) = members.next_entry()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("repeated name"));
            }
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_unique_however_they_are_spelled() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, r#"[{"b":{"":0,"":0}}]"#] {
            assert_eq!(Json::parse(text.as_bytes()), Err(JsonError::RepeatedName), "{text}");
        }
        assert!(Json::parse(br#"{"a":{"a":[]},"A":1}"#).is_ok());
    }

    #[test]
    fn integers_are_told_from_other_numbers() {
        let read = |text: &str| Json::parse(text.as_bytes());
        assert_eq!(read("18446744073709551615"), Ok(Json::Integer(u64::MAX)));
        for (text, number) in [
            ("18446744073709551616", 2f64.powi(64)),
            ("-1", -1.0),
            ("1.0", 1.0),
            ("1e3", 1e3),
            ("-0", 0.0),
        ] {
            assert_eq!(read(text), Ok(Json::Number(number)), "{text}");
        }
        for text in ["01", "+1", "NaN", "1 1", ""] {
            assert!(matches!(read(text), Err(JsonError::Syntax { .. })), "{text}");
        }
    }

    #[test]
    fn nesting_is_limited() {
        let deep = |levels: usize| [vec![b'['; levels], vec![b']'; levels]].concat();
        assert!(Json::parse(&deep(100)).is_ok());
        assert!(Json::parse(&deep(1_000_000)).is_err());
    }

    fn values() -> impl Strategy<Value = Json> {
        // The reader rounds numbers with many digits to a neighbour.
        let number = any::<i32>().prop_map(|number| f64::from(number) / 4.0);
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::Boolean),
            any::<u64>().prop_map(Json::Integer),
            number.prop_map(Json::Number),
            any::<String>().prop_map(Json::Text),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::List),
                proptest::collection::btree_map(any::<String>(), inner, 0..4).prop_map(Json::Object),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in values()) {
            prop_assert_eq!(Json::parse(value.to_string().as_bytes()), Ok(value));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _value = Json::parse(&bytes);
        }
    }
}
