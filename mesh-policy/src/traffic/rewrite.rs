use super::matching::{PathMatch, PathMatchError, checked_path};

/// What a request's target and authority become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rewrite {
    /// The authority that takes the place of the request's. It is a name, without a port.
    pub host: Option<Box<str>>,
    /// The change of the path.
    pub path: Option<PathChange>,
}

/// What a path becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathChange {
    /// This, whatever it was.
    Full(Box<str>),
    /// What the rule matched as its prefix becomes this. Where slashes meet, one is left; a path is
    /// never left empty.
    Prefix(Box<str>),
    /// What a VirtualService's prefix matched becomes this, byte by byte; without one, the slash that
    /// every path begins with. A path that matched otherwise becomes this as a whole.
    Matched(Box<str>),
}

impl PathChange {
    /// A change of the whole path.
    ///
    /// # Errors
    ///
    /// The new one is no path.
    pub fn full(path: &str) -> Result<Self, PathMatchError> {
        Ok(Self::Full(checked_path(path)?.into()))
    }

    /// A change of the prefix. It may become nothing.
    ///
    /// # Errors
    ///
    /// The new one is no path.
    pub fn prefix(path: &str) -> Result<Self, PathMatchError> {
        let path = if path.is_empty() { "" } else { checked_path(path)? };
        Ok(Self::Prefix(path.into()))
    }

    /// What a path becomes that a rule has matched so.
    pub fn apply(&self, matched: Option<&PathMatch>, path: &[u8]) -> Vec<u8> {
        match self {
            Self::Full(new) => new.as_bytes().to_vec(),
            Self::Prefix(new) => {
                let rest = match matched {
                    Some(PathMatch::Segments(prefix)) => prefix.rest(path).unwrap_or_default(),
                    // Nothing was matched, which every path begins with.
                    _ => path,
                };
                joined(new.as_bytes(), rest)
            }
            Self::Matched(new) => {
                let rest = match matched {
                    Some(PathMatch::Prefix(prefix) | PathMatch::PrefixInAnyCase(prefix)) => {
                        path.get(prefix.len()..).unwrap_or_default()
                    }
                    // Istio's rule for all paths has the prefix `/`.
                    None => path.get(1..).unwrap_or_default(),
                    _ => &[],
                };
                [new.as_bytes(), rest].concat()
            }
        }
    }
}

/// A new prefix and what followed the old one, which is nothing or begins with a slash.
fn joined(new: &[u8], rest: &[u8]) -> Vec<u8> {
    let path = match (new, rest) {
        ([.., b'/'], [b'/', rest @ ..]) => [new, rest].concat(),
        _ => [new, rest].concat(),
    };
    if path.is_empty() { b"/".to_vec() } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::matching::SegmentPrefix;

    #[test]
    fn a_prefix_is_replaced_as_the_gateway_api_says() {
        for (path, prefix, new, expected) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/foo", "/foo", "/xyz/", "/xyz/"),
            ("/foo/bar", "/", "/xyz", "/xyz/foo/bar"),
            ("/", "/", "/xyz", "/xyz/"),
            ("/foo//bar", "/foo", "/x", "/x//bar"),
        ] {
            let matched = PathMatch::Segments(SegmentPrefix::new(prefix).unwrap());
            let change = PathChange::prefix(new).unwrap();
            let found = change.apply(Some(&matched), path.as_bytes());
            assert_eq!(String::from_utf8(found).unwrap(), expected, "{path}: {prefix} -> {new}");
        }
    }

    #[test]
    fn an_istio_prefix_is_replaced_byte_by_byte() {
        let change = PathChange::Matched("/v2".into());
        let prefix = PathMatch::Prefix("/v1".into());
        assert_eq!(change.apply(Some(&prefix), b"/v1beta/x"), b"/v2beta/x");
        let exact = PathMatch::Exact("/v1".into());
        assert_eq!(change.apply(Some(&exact), b"/v1"), b"/v2");
        assert_eq!(change.apply(None, b"/a"), b"/v2a");
    }
}
