use super::test::Test;
use crate::{
    authz::{
        dialect::{Dialect, Note, TrustDomains},
        invalid::Fault,
        model::AuthorizationPolicy,
        validate::{check_value, split_service_account},
    },
    facts::Attribute,
    matcher::{
        header::EmptyLine,
        path::{Charset, PathTemplate},
        port,
        principal::{NamespacePattern, Reading, RequestPrincipal},
        text::{Case, TextPattern},
    },
};

/// What follows for a request if a value matches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::authz) enum Effect {
    /// It may get further: a value that allows, or that exempts from what denies.
    Admits,
    /// It may be stopped: a value that denies, or that exempts from what allows.
    Stops,
}

/// Reads values under the rules of a dialect.
#[derive(Clone, Copy)]
pub(in crate::authz) struct Reader<'c> {
    pub(super) dialect: Dialect,
    pub(super) trust_domains: &'c TrustDomains,
    /// The policy's.
    pub(super) namespace: &'c str,
}

impl<'c> Reader<'c> {
    pub(super) fn new(dialect: Dialect, trust_domains: &'c TrustDomains, policy: &'c AuthorizationPolicy) -> Self {
        Self {
            dialect,
            trust_domains,
            namespace: &policy.name().namespace,
        }
    }

    /// Adds the tests of a value, of which any will do; if it adds none, the value never matches.
    pub(in crate::authz) fn read(
        &self,
        attribute: &Attribute,
        value: &str,
        effect: Effect,
        tests: &mut Vec<Test>,
    ) -> Result<Option<Note>, Fault> {
        check_value(attribute, value)?;
        if attribute.is_identity() {
            return Ok(self.identity(attribute, value, effect, tests));
        }
        let pattern = || TextPattern::parse(value.as_bytes());
        let mut note = None;
        let test = match attribute {
            Attribute::RequestPrincipal => Some(Test::RequestPrincipal(RequestPrincipal::parse(value))),
            Attribute::SourceIp | Attribute::RemoteIp | Attribute::DestinationIp => value.parse().ok().map(Test::Ip),
            Attribute::DestinationPort => port::parse(value).map(Test::Port),
            Attribute::Path if PathTemplate::is_one(value) => {
                let charset = match (self.dialect, effect) {
                    (Dialect::Strict, Effect::Stops) => Charset::Any,
                    _ => Charset::Envoy,
                };
                let template = PathTemplate::parse(value).ok();
                template.map(|template| Test::Template(template, charset))
            }
            Attribute::Sni
                if self.dialect != Dialect::Strict && value.bytes().any(|byte| byte.is_ascii_uppercase()) =>
            {
                note = Some(Note::UpperCaseSni { value: value.into() });
                None
            }
            Attribute::Metadata { .. } => match value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                Some(element) => Some(Test::Listed(TextPattern::parse(element.as_bytes()))),
                None => Some(text(pattern(), Case::Counts, EmptyLine::Ignored)),
            },
            Attribute::Header(_) => {
                let pattern = pattern();
                let (empty, disagree) = self.empty_line(&pattern, effect);
                note = disagree.then_some(Note::EmptyHeader);
                Some(text(pattern, Case::Counts, empty))
            }
            Attribute::Host => Some(text(pattern(), Case::Ignored, EmptyLine::Counts)),
            Attribute::Sni => Some(text(pattern(), Case::Ignored, EmptyLine::Ignored)),
            Attribute::Method => Some(text(pattern(), Case::Counts, EmptyLine::Counts)),
            _ => Some(text(pattern(), Case::Counts, EmptyLine::Ignored)),
        };
        tests.extend(test);
        Ok(note)
    }

    fn identity(&self, attribute: &Attribute, value: &str, effect: Effect, tests: &mut Vec<Test>) -> Option<Note> {
        let reading = self.reading(effect);
        let strict = self.dialect == Dialect::Strict;
        let replaced = |disagree: bool| disagree.then(|| Note::TrustDomain { value: value.into() });
        match attribute {
            Attribute::Namespace => {
                let pattern = NamespacePattern::parse(value.as_bytes(), reading);
                tests.push(Test::Namespace(pattern, reading));
                (strict && has_inner_star(value)).then(|| Note::InnerStar { value: value.into() })
            }
            Attribute::ServiceAccount => {
                tests.push(self.service_account(value, reading));
                None
            }
            Attribute::TrustDomain => {
                let (values, disagree) = self.trust_domain_values(value, effect);
                let parse = |value: String| Test::TrustDomain(TextPattern::parse(value.as_bytes()), reading);
                tests.extend(values.into_iter().map(parse));
                replaced(disagree)
            }
            _ => {
                let (values, disagree) = self.principals(value, effect);
                let parse = |value: String| Test::Principal(TextPattern::parse(value.as_bytes()), reading);
                tests.extend(values.into_iter().map(parse));
                replaced(disagree).or((strict && value == "*").then_some(Note::AnyCertificate))
            }
        }
    }

    fn reading(&self, effect: Effect) -> Reading {
        match (self.dialect, effect) {
            (Dialect::EnvoyTcp | Dialect::EnvoyHttp, _) | (Dialect::Strict, Effect::Stops) => Reading::Envoy,
            (Dialect::Ztunnel, _) => Reading::Ztunnel,
            (Dialect::Strict, Effect::Admits) => Reading::Sole,
        }
    }

    /// The principals that a value stands for, and whether the planes disagree about it.
    fn principals(&self, value: &str, effect: Effect) -> (Vec<String>, bool) {
        match self.dialect {
            Dialect::Ztunnel => (vec![value.to_owned()], false),
            Dialect::EnvoyTcp | Dialect::EnvoyHttp => (self.trust_domains.expand_principal(value), false),
            Dialect::Strict => cautious(value, self.trust_domains.expand_principal(value), effect),
        }
    }

    fn trust_domain_values(&self, value: &str, effect: Effect) -> (Vec<String>, bool) {
        match self.dialect {
            Dialect::Strict => cautious(value, self.trust_domains.expand_trust_domain(value), effect),
            _ => (self.trust_domains.expand_trust_domain(value), false),
        }
    }

    fn service_account(&self, value: &str, reading: Reading) -> Test {
        let (namespace, account) = split_service_account(value, self.namespace);
        Test::ServiceAccount {
            namespace: namespace.as_bytes().into(),
            account: account.as_bytes().into(),
            reading,
        }
    }

    fn empty_line(&self, pattern: &TextPattern, effect: Effect) -> (EmptyLine, bool) {
        match (self.dialect, effect) {
            (Dialect::Strict, Effect::Admits) => (EmptyLine::Ignored, *pattern == TextPattern::Present),
            (Dialect::Strict, Effect::Stops) => (EmptyLine::Counts, *pattern == TextPattern::Present),
            _ => (EmptyLine::Counts, false),
        }
    }
}

/// What stops is everything that some plane takes the value for, what admits is what all do.
fn cautious(value: &str, mut expanded: Vec<String>, effect: Effect) -> (Vec<String>, bool) {
    let literal = expanded.iter().position(|other| other == value);
    if literal.is_some() && expanded.len() == 1 {
        return (expanded, false);
    }
    match (effect, literal) {
        (Effect::Stops, Some(_)) => {}
        (Effect::Stops, None) => expanded.push(value.to_owned()),
        (Effect::Admits, Some(_)) => expanded = vec![value.to_owned()],
        (Effect::Admits, None) => expanded.clear(),
    }
    (expanded, true)
}

fn text(pattern: TextPattern, case: Case, empty: EmptyLine) -> Test {
    Test::Text { pattern, case, empty }
}

/// A star that is neither the first byte nor, without one there, the last.
pub(in crate::authz) fn has_inner_star(value: &str) -> bool {
    let inner = value
        .strip_prefix('*')
        .or_else(|| value.strip_suffix('*'))
        .unwrap_or(value);
    inner.contains('*')
}
