use std::{collections::BTreeSet, time::Duration};

use mesh_identity::jws::KeySet;

use super::{
    invalid::{InvalidRule, MAX_ENTRIES, RuleFault},
    key_source::WantedKeys,
    place::Places,
};
use crate::{
    authz::{JwtRule, PolicyName, RequestAuthentication},
    facts::header::{is_framing, is_token},
};

/// As long as Istio waits for keys.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// A rule that has been checked.
pub(super) struct Rule {
    pub(super) policy: PolicyName,
    /// Which rule of the policy it is.
    pub(super) number: usize,
    pub(super) issuer: String,
    pub(super) audiences: Vec<String>,
    pub(super) places: Places,
    /// If they are inline.
    pub(super) keys: Option<KeySet>,
    uri: Option<String>,
    timeout: Duration,
    pub(super) forwards: bool,
    pub(super) payload_header: Option<Box<str>>,
    pub(super) claim_headers: Vec<ClaimOutput>,
    pub(super) word_lists: BTreeSet<Box<str>>,
}

/// A header that a claim is put in.
pub(super) struct ClaimOutput {
    pub(super) header: Box<str>,
    /// The names that lead to the claim.
    pub(super) path: Vec<Box<str>>,
}

/// A field, with what is wrong with it.
type Wrong = (String, RuleFault);

impl Rule {
    pub(super) fn of(policy: &RequestAuthentication, number: usize, rule: &JwtRule) -> Result<Self, InvalidRule> {
        let invalid = |(field, fault): Wrong| invalid(policy, number, rule, &field, fault);
        if rule.issuer.is_empty() && rule.jwks_uri.is_none() {
            return Err(invalid(("issuer".to_owned(), RuleFault::NoIssuer)));
        }
        check_lists(rule).map_err(invalid)?;
        Ok(Self {
            policy: policy.name.clone(),
            number,
            issuer: rule.issuer.clone(),
            audiences: rule
                .audiences
                .iter()
                .map(|audience| bare_audience(audience).to_owned())
                .collect(),
            places: Places::of(rule),
            keys: keys(rule).map_err(invalid)?,
            uri: rule.jwks_uri.clone(),
            timeout: timeout(rule).map_err(invalid)?,
            forwards: rule.forward_original_token,
            payload_header: payload_header(rule).map_err(invalid)?,
            claim_headers: claim_headers(rule).map_err(invalid)?,
            word_lists: ["scope", "permission"]
                .into_iter()
                .chain(rule.space_delimited_claims.iter().map(String::as_str))
                .map(Box::from)
                .collect(),
        })
    }

    pub(super) fn wanted_keys(&self) -> WantedKeys<'_> {
        WantedKeys {
            issuer: &self.issuer,
            uri: self.uri.as_deref(),
            timeout: self.timeout,
        }
    }

    /// The headers that are set from the rule's tokens.
    pub(super) fn outputs(&self) -> impl Iterator<Item = &str> {
        let claims = self.claim_headers.iter().map(|output| &*output.header);
        self.payload_header.as_deref().into_iter().chain(claims)
    }
}

/// An audience without scheme and last slash, which Envoy takes for the same.
pub(super) fn bare_audience(audience: &str) -> &str {
    let schemeless = ["http://", "https://"]
        .iter()
        .find_map(|scheme| audience.strip_prefix(scheme));
    let schemeless = schemeless.unwrap_or(audience);
    schemeless.strip_suffix('/').unwrap_or(schemeless)
}

/// What is wrong with a field of a policy's rule.
pub(super) fn invalid(
    policy: &RequestAuthentication,
    number: usize,
    rule: &JwtRule,
    field: &str,
    fault: RuleFault,
) -> InvalidRule {
    InvalidRule {
        field: format!("jwtRules[{number}].{field}").into(),
        ..invalid_rule(policy, number, rule, fault)
    }
}

/// What is wrong with a rule as a whole.
pub(super) fn invalid_rule(
    policy: &RequestAuthentication,
    number: usize,
    rule: &JwtRule,
    fault: RuleFault,
) -> InvalidRule {
    InvalidRule {
        file: policy.file.clone(),
        line: rule.line,
        policy: policy.name.clone(),
        field: format!("jwtRules[{number}]").into(),
        fault,
    }
}

fn check_lists(rule: &JwtRule) -> Result<(), Wrong> {
    for (field, texts) in [
        ("audiences", &rule.audiences),
        ("fromParams", &rule.from_params),
        ("fromCookies", &rule.from_cookies),
        ("spaceDelimitedClaims", &rule.space_delimited_claims),
    ] {
        check_count(field, texts.len())?;
        if let Some(at) = texts.iter().position(String::is_empty) {
            return Err((format!("{field}[{at}]"), RuleFault::Empty));
        }
    }
    check_count("fromHeaders", rule.from_headers.len())?;
    for (at, header) in rule.from_headers.iter().enumerate() {
        header_name(&header.name).map_err(|fault| (format!("fromHeaders[{at}].name"), fault))?;
    }
    check_count("outputClaimToHeaders", rule.output_claim_to_headers.len())
}

fn check_count(field: &str, count: usize) -> Result<(), Wrong> {
    let most = MAX_ENTRIES;
    if count > most {
        return Err((field.to_owned(), RuleFault::TooMany { count, most }));
    }
    Ok(())
}

fn keys(rule: &JwtRule) -> Result<Option<KeySet>, Wrong> {
    if let Some(uri) = &rule.jwks_uri {
        if rule.jwks.is_some() {
            return Err(("jwks".to_owned(), RuleFault::KeysTwice));
        }
        let host = ["https://", "http://"]
            .iter()
            .find_map(|scheme| uri.strip_prefix(scheme));
        let has_host = host.is_some_and(|host| !host.is_empty() && !host.starts_with(['/', '?', '#', ':']));
        if !has_host || uri.contains(|c: char| c.is_ascii_control() || c == ' ') {
            let uri = uri.as_str().into();
            return Err(("jwksUri".to_owned(), RuleFault::Uri { uri }));
        }
    }
    let keys = rule.jwks.as_ref().map(|text| KeySet::parse(text.as_bytes()));
    keys.transpose().map_err(|fault| ("jwks".to_owned(), fault.into()))
}

fn payload_header(rule: &JwtRule) -> Result<Option<Box<str>>, Wrong> {
    let name = rule.output_payload_to_header.as_deref();
    name.map(output_name)
        .transpose()
        .map_err(|fault| ("outputPayloadToHeader".to_owned(), fault))
}

fn claim_headers(rule: &JwtRule) -> Result<Vec<ClaimOutput>, Wrong> {
    let outputs = rule.output_claim_to_headers.iter().enumerate();
    outputs
        .map(|(at, output)| {
            let field = |name: &str| format!("outputClaimToHeaders[{at}].{name}");
            let header = output_name(&output.header).map_err(|fault| (field("header"), fault))?;
            let path: Vec<Box<str>> = output.claim.split('.').map(Box::from).collect();
            if path.iter().any(|name| name.is_empty()) {
                let claim = output.claim.as_str().into();
                return Err((field("claim"), RuleFault::Claim { claim }));
            }
            Ok(ClaimOutput { header, path })
        })
        .collect()
}

fn output_name(name: &str) -> Result<Box<str>, RuleFault> {
    let name = header_name(name)?;
    if is_framing(&name) {
        return Err(RuleFault::ReservedHeader { name });
    }
    Ok(name)
}

/// A field name (RFC 9110 §5.1), in lower case.
fn header_name(name: &str) -> Result<Box<str>, RuleFault> {
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(RuleFault::HeaderName { name: name.into() });
    }
    Ok(name.to_ascii_lowercase().into())
}

fn timeout(rule: &JwtRule) -> Result<Duration, Wrong> {
    let Some(text) = &rule.timeout else {
        return Ok(DEFAULT_TIMEOUT);
    };
    let fault = || {
        let text = text.as_str().into();
        ("timeout".to_owned(), RuleFault::Timeout { text })
    };
    duration(text).filter(|timeout| !timeout.is_zero()).ok_or_else(fault)
}

/// A duration as Kubernetes writes it: numbers with units, such as `1m30s` or `1.5s`.
fn duration(mut text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 7] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let mut seconds = 0.0;
    if text.is_empty() {
        return None;
    }
    while !text.is_empty() {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, rest) = text.split_at_checked(end)?;
        let (unit, rest) = UNITS
            .iter()
            .find_map(|(name, unit)| Some((unit, rest.strip_prefix(name)?)))?;
        seconds += number.parse::<f64>().ok()? * unit;
        text = rest;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audiences_are_compared_without_scheme_and_last_slash() {
        for (audience, bare) in [
            ("https://a/", "a"),
            ("http://a", "a"),
            ("a/", "a"),
            ("a//", "a/"),
            ("https://", ""),
            ("HTTPS://a", "HTTPS://a"),
        ] {
            assert_eq!(bare_audience(audience), bare);
        }
    }

    #[test]
    fn durations_are_numbers_with_units() {
        for (text, milliseconds) in [
            ("5s", 5000),
            ("1m30s", 90_000),
            ("1.5s", 1500),
            ("20ms", 20),
            ("1h", 3_600_000),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "-5s",
            "5x",
            "5s5",
            "1.2.3s",
            "999999999999999999999h",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
