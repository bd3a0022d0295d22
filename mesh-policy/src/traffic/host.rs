use std::{fmt, str::FromStr};

use thiserror::Error;

/// The longest name (RFC 1035 §2.3.4, as text).
pub(super) const MAX_HOST_BYTES: usize = 253;

/// The hosts that something is for: one, those below a name, or all.
///
/// Names are compared without the case of letters, and never with a port. `*.example.com` stands for
/// names with one or more labels in place of the star, and not for `example.com`.
///
/// ```
/// use mesh_policy::traffic::HostPattern;
///
/// let listener: HostPattern = "*.example.com".parse()?;
/// let route = "cart.example.com".parse()?;
/// assert_eq!(listener.intersection(&route), Some(route));
/// assert_eq!(listener.intersection(&"example.com".parse()?), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPattern(Form);

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Form {
    #[default]
    Any,
    /// What follows the star, with the dot.
    Below(Box<str>),
    Exact(Box<str>),
}

impl HostPattern {
    /// All hosts, written `*`.
    pub const ANY: Self = Self(Form::Any);

    /// The hosts that both stand for.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        match (&self.0, &other.0) {
            (Form::Any, _) => Some(other.clone()),
            (_, Form::Any) => Some(self.clone()),
            (Form::Exact(one), Form::Exact(two)) => (one == two).then(|| self.clone()),
            (Form::Exact(name), Form::Below(suffix)) => is_below(name, suffix).then(|| self.clone()),
            (Form::Below(suffix), Form::Exact(name)) => is_below(name, suffix).then(|| other.clone()),
            (Form::Below(one), Form::Below(two)) => match (one.ends_with(&**two), two.ends_with(&**one)) {
                (true, _) => Some(self.clone()),
                (_, true) => Some(other.clone()),
                _ => None,
            },
        }
    }

    /// Whether it stands for a host, given without its port.
    pub fn matches(&self, host: &[u8]) -> bool {
        match &self.0 {
            Form::Any => true,
            Form::Exact(name) => host.eq_ignore_ascii_case(name.as_bytes()),
            Form::Below(suffix) => host.len().checked_sub(suffix.len()).is_some_and(|at| {
                at > 0
                    && host
                        .get(at..)
                        .is_some_and(|tail| tail.eq_ignore_ascii_case(suffix.as_bytes()))
            }),
        }
    }

    /// How special it is among patterns that stand for the same host.
    pub(super) fn specificity(&self) -> (bool, usize) {
        match &self.0 {
            Form::Any => (false, 0),
            Form::Below(suffix) => (false, suffix.len()),
            Form::Exact(name) => (true, name.len()),
        }
    }

    /// Whether an object in a namespace means a host of the mesh by it, whose name is given in full:
    /// a name without dots is one in the namespace.
    ///
    /// ```
    /// use mesh_policy::traffic::HostPattern;
    ///
    /// let reviews: HostPattern = "reviews".parse()?;
    /// assert!(reviews.names("shop", "reviews.shop.svc.cluster.local"));
    /// assert!(!reviews.names("bank", "reviews.shop.svc.cluster.local"));
    /// # Ok::<(), mesh_policy::traffic::HostError>(())
    /// ```
    pub fn names(&self, namespace: &str, host: &str) -> bool {
        let is_short = |name: &str| {
            let rest = host.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'));
            let rest = rest.and_then(|rest| rest.strip_prefix(namespace));
            !name.contains('.') && rest.is_some_and(|rest| rest.starts_with(".svc."))
        };
        self.matches(host.as_bytes()) || matches!(&self.0, Form::Exact(name) if is_short(name))
    }

    pub(super) fn form(&self) -> &Form {
        &self.0
    }
}

fn is_below(name: &str, suffix: &str) -> bool {
    name.len() > suffix.len() && name.ends_with(suffix)
}

impl FromStr for HostPattern {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let (is_below, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None if text == "*" => return Ok(Self::ANY),
            None => (false, text),
        };
        if !is_name(name) {
            return Err(HostError { host: text.into() });
        }
        let name = name.to_ascii_lowercase();
        Ok(Self(if is_below {
            Form::Below(format!(".{name}").into())
        } else {
            Form::Exact(name.into())
        }))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Any => f.write_str("*"),
            Form::Below(suffix) => write!(f, "*{suffix}"),
            Form::Exact(name) => f.write_str(name),
        }
    }
}

/// Labels and dots (RFC 1123 §2.1). Addresses have the form, too.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= MAX_HOST_BYTES && text.split('.').all(is_label)
}

/// A text is no host name, nor one behind `*.`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{}` is no host name", .host.escape_debug())]
#[non_exhaustive]
pub struct HostError {
    /// The text.
    pub host: Box<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> HostPattern {
        text.parse().unwrap()
    }

    #[test]
    fn a_star_stands_for_labels_and_not_for_none() {
        for (pattern, text, expected) in [
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "a.b.Example.COM", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*.example.com", "aexample.com", false),
            ("Example.com", "eXample.com", true),
            ("example.com", "a.example.com", false),
            ("*", "", true),
        ] {
            assert_eq!(host(pattern).matches(text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn an_intersection_is_the_narrower_one() {
        for (one, other, expected) in [
            ("*", "*.a.b", Some("*.a.b")),
            ("*.b", "*.a.b", Some("*.a.b")),
            ("*.a.b", "*.c.b", None),
            ("*.b", "a.b", Some("a.b")),
            ("*.b", "b", None),
            ("*.ab", "*.b", None),
            ("a.b", "a.b", Some("a.b")),
            ("a.b", "c.b", None),
        ] {
            let expected = expected.map(host);
            assert_eq!(host(one).intersection(&host(other)), expected, "{one} {other}");
            assert_eq!(host(other).intersection(&host(one)), expected, "{other} {one}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = format!("{}.a", "a".repeat(252));
        for text in [
            "", "a..b", "a b", "a:80", "*a.b", "a.*", "*.*", "-a", "a-", "a_b", &long,
        ] {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
        assert_eq!(host("*.A.b").to_string(), "*.a.b");
    }
}
