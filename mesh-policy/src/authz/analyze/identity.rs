use crate::{
    authz::compile::value::has_inner_star,
    facts::Attribute,
    matcher::text::{Case, TextPattern},
};

/// What a value asks of namespace and service account, as far as it says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shape {
    namespace: Option<TextPattern>,
    account: Option<TextPattern>,
}

impl Shape {
    /// None for an attribute that is no part of an identity, or does not say.
    pub(super) fn of(attribute: &Attribute, value: &str, own_namespace: &str) -> Option<Self> {
        let exact = |text: &str| Some(TextPattern::Exact(text.as_bytes().into()));
        match attribute {
            Attribute::Principal => Self::of_principal(value),
            Attribute::Namespace => Some(Self {
                namespace: Some(TextPattern::parse(value.as_bytes())).filter(|_| !has_inner_star(value)),
                account: None,
            }),
            Attribute::ServiceAccount => {
                let (namespace, account) = value.split_once('/').unwrap_or((own_namespace, value));
                Some(Self {
                    namespace: exact(namespace),
                    account: exact(account),
                })
            }
            _ => None,
        }
    }

    fn of_principal(value: &str) -> Option<Self> {
        let mut shape = Self {
            namespace: None,
            account: None,
        };
        let text = |text: &str| TextPattern::parse(text.as_bytes());
        if let Some(suffix) = value.strip_prefix('*') {
            let mut parts = suffix.rsplit('/');
            let account = parts.next()?;
            let ends_there = parts.clone().next().is_none();
            shape.account = Some(if ends_there {
                text(&format!("*{account}"))
            } else {
                text(account)
            });
            if parts.next() == Some("sa")
                && let Some(namespace) = parts.next()
            {
                let ends_there = parts.next().is_none();
                shape.namespace = Some(if ends_there {
                    text(&format!("*{namespace}"))
                } else {
                    text(namespace)
                });
            }
            shape.account = shape.account.filter(|account| *account != TextPattern::Present);
            shape.namespace = shape.namespace.filter(|namespace| *namespace != TextPattern::Present);
            return Some(shape);
        }
        let mut parts = value.split('/').skip(1);
        if parts.next() == Some("ns") {
            shape.namespace = parts.next().map(text);
            if parts.next() == Some("sa") {
                shape.account = parts.next().map(text);
            }
        }
        Some(shape)
    }

    /// Whether no identity fits both.
    pub(super) fn excludes(&self, other: &Self) -> bool {
        let apart = |one: &Option<TextPattern>, other: &Option<TextPattern>| match (one, other) {
            (Some(one), Some(other)) => one.excludes(other, Case::Counts),
            _ => false,
        };
        apart(&self.namespace, &other.namespace) || apart(&self.account, &other.account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_and_namespaces_exclude_each_other() {
        let shape = |attribute, value| Shape::of(&attribute, value, "own").unwrap();
        for (principal, namespace, excludes) in [
            ("td/ns/a/sa/x", "a", false),
            ("td/ns/a/sa/x", "b", true),
            ("td/ns/a/*", "b", true),
            ("td/ns/a*", "ab", false),
            ("td/ns/a*", "b", true),
            ("td/*", "b", false),
            ("*/sa/x", "b", false),
            ("*/ns/a/sa/x", "b", true),
            ("*a/sa/x", "ba", false),
            ("*a/sa/x", "b", true),
            ("*", "b", false),
            ("td/ns/a/sa/x", "a*b", false),
        ] {
            let (principal, namespace) = (
                shape(Attribute::Principal, principal),
                shape(Attribute::Namespace, namespace),
            );
            assert_eq!(principal.excludes(&namespace), excludes, "{principal:?} {namespace:?}");
        }
        let account = shape(Attribute::ServiceAccount, "x");
        assert!(account.excludes(&shape(Attribute::Principal, "td/ns/other/sa/x")));
        assert!(account.excludes(&shape(Attribute::Principal, "*/sa/y")));
        assert!(!account.excludes(&shape(Attribute::Principal, "td/ns/own/sa/x")));
    }
}
