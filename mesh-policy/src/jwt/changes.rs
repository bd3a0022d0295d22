use std::{collections::BTreeSet, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mesh_identity::jws::{Json, Object};

use super::place::{Place, without_parameters};

/// A header line: its name in lower case, and its value.
pub(super) type Line = (Box<str>, Vec<u8>);

/// What a proxy has to change about a request before it passes it on: first remove, then add.
///
/// Its `Debug` output has the names of headers and not their values, which are somebody's claims.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Changes {
    removed: BTreeSet<Box<str>>,
    added: Vec<Line>,
    target: Option<Vec<u8>>,
}

impl Changes {
    /// The headers of which every line goes, by names in lower case: those of tokens that are not
    /// forwarded, and those that are set from tokens, whoever sent them.
    pub fn removed_headers(&self) -> impl Iterator<Item = &str> {
        self.removed.iter().map(|name| &**name)
    }

    /// The header lines to add, in this order, by names in lower case. A name may be there twice.
    pub fn added_headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.added.iter().map(|(name, value)| (&**name, value.as_slice()))
    }

    /// The target without the tokens in its query, if there were any that are not forwarded.
    pub fn target(&self) -> Option<&[u8]> {
        self.target.as_deref()
    }

    /// Headers to be set from tokens, none of which a client may set.
    pub(super) fn removing(headers: &BTreeSet<Box<str>>) -> Self {
        Self {
            removed: headers.clone(),
            ..Self::default()
        }
    }

    pub(super) fn adding(mut self, headers: Vec<Line>) -> Self {
        self.added = headers;
        self
    }

    /// Takes tokens out of a request for `target`. Cookies stay, as with Envoy.
    pub(super) fn without_tokens(mut self, places: &[Place], target: Option<&[u8]>) -> Self {
        let mut parameters = Vec::new();
        for place in places {
            match place {
                Place::Header(name) => {
                    self.removed.insert(name.clone());
                }
                Place::Parameter(name) => parameters.push(&**name),
                Place::Cookie(_) => {}
            }
        }
        self.target = target
            .filter(|_| !parameters.is_empty())
            .map(|target| without_parameters(target, &parameters));
        self
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes")
            .field("removed", &self.removed)
            .field("added", &self.added.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("changes_target", &self.target.is_some())
            .finish()
    }
}

/// The claim that the names lead to, as Envoy writes it into a header. `None` for one that is not
/// there, is null or is the empty text.
pub(super) fn header_value(claims: &Object, path: &[Box<str>]) -> Option<Vec<u8>> {
    let (last, objects) = path.split_last()?;
    let mut object = claims;
    for name in objects {
        object = object.get(&**name)?.as_object()?;
    }
    let text = match object.get(&**last)? {
        Json::Null => return None,
        Json::Boolean(truth) => truth.to_string(),
        Json::Integer(number) => number.to_string(),
        // Envoy's integers are whole numbers of 64 bits without sign, however they are written.
        Json::Number(number) if number.fract() == 0.0 && (0.0..18_446_744_073_709_551_616.0).contains(number) => {
            (*number as u64).to_string()
        }
        Json::Number(number) => format!("{number:.6}"),
        Json::Text(text) => text.clone(),
        value @ (Json::List(_) | Json::Object(_)) => STANDARD.encode(value.to_string()),
    };
    Some(text.into_bytes()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_written_as_envoy_writes_them() {
        let claims = r#"{"s":"x y","n":5,"f":1.5,"m":-5,"e":1e3,"t":true,"z":null,"l":["a",1],"o":{"b":{"c":"d"}},"":"e","v":""}"#;
        let Json::Object(claims) = Json::parse(claims.as_bytes()).unwrap() else {
            panic!("no object")
        };
        let value = |path: &str| {
            let path: Vec<_> = path.split('.').map(Box::from).collect();
            header_value(&claims, &path).map(|value| String::from_utf8(value).unwrap())
        };
        for (path, expected) in [
            ("s", "x y"),
            ("n", "5"),
            ("f", "1.500000"),
            ("m", "-5.000000"),
            ("e", "1000"),
            ("t", "true"),
            ("l", "WyJhIiwxXQ=="),
            ("o", "eyJiIjp7ImMiOiJkIn19"),
            ("o.b.c", "d"),
        ] {
            assert_eq!(value(path).as_deref(), Some(expected), "{path}");
        }
        for path in ["z", "v", "x", "s.x", "o.x", "o.b.c.d"] {
            assert_eq!(value(path), None, "{path}");
        }
    }

    #[test]
    fn debug_output_has_no_claims() {
        let changes = Changes::removing(&BTreeSet::new()).adding(vec![("x-sub".into(), b"alice".to_vec())]);
        let printed = format!("{changes:?}");
        assert!(printed.contains("x-sub") && !printed.contains("alice") && !printed.contains("97, 108"));
    }
}
