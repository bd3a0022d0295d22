use serde::Deserialize;
use serde::de::{Deserializer, Error};

/// Names of headers: each whole, or its beginning before a star, or its end behind one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names(Vec<Name>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Whole(Box<str>),
    Beginning(Box<str>),
    End(Box<str>),
}

impl Names {
    pub(super) fn all() -> Self {
        Self(vec![Name::Beginning("".into())])
    }

    /// Whether a name, which is in lower case, is one of these.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| match pattern {
            Name::Whole(whole) => name == &**whole,
            Name::Beginning(beginning) => name.starts_with(&**beginning),
            Name::End(end) => name.ends_with(&**end),
        })
    }
}

impl Name {
    fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let name = match (text.strip_suffix('*'), text.strip_prefix('*')) {
            (Some(beginning), _) => Self::Beginning(beginning.into()),
            (None, Some(end)) => Self::End(end.into()),
            (None, None) => Self::Whole(text.as_str().into()),
        };
        let (Self::Whole(part) | Self::Beginning(part) | Self::End(part)) = &name;
        (!text.is_empty() && !part.contains('*')).then_some(name)
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let names = texts.iter().map(|text| {
            Name::parse(text).ok_or_else(|| {
                D::Error::custom(format_args!(
                    "`{}` has no name before or behind one star",
                    text.escape_debug()
                ))
            })
        });
        names.collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Listed {
        names: Names,
    }

    fn names(list: &str) -> Option<Names> {
        toml::from_str::<Listed>(&format!("names = {list}"))
            .ok()
            .map(|listed| listed.names)
    }

    #[test]
    fn names_are_whole_or_have_one_star_at_an_end() {
        let listed = names(r#"["X-User", "x-b3-*", "*-token"]"#).unwrap();
        for (name, is_listed) in [
            ("x-user", true),
            ("x-user-id", false),
            ("x-b3-flags", true),
            ("x-b3-", true),
            ("a-token", true),
            ("a-tokens", false),
        ] {
            assert_eq!(listed.has(name), is_listed, "{name}");
        }
        assert!(Names::all().has("anything") && names(r#"["*"]"#) == Some(Names::all()));
        assert!(!Names::default().has("anything"));
        for wrong in [r#"[""]"#, r#"["a*b"]"#, r#"["**"]"#, r#"["*a*"]"#] {
            assert_eq!(names(wrong), None, "{wrong}");
        }
    }
}
