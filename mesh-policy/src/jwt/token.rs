use std::collections::BTreeSet;

use mesh_identity::jws::{Json, Jws, JwsError, Object};

use super::{rejection::TokenFault, rule::bare_audience};
use crate::facts::{Claim, Claims};

/// As much as Envoy assumes that clocks differ, in seconds.
const CLOCK_SKEW: u64 = 60;

/// A token that is well-formed and has been believed nothing yet.
pub(super) struct Token<'t> {
    pub(super) jws: Jws<'t>,
    pub(super) claims: Object,
    audiences: Vec<String>,
    expires: Option<u64>,
    not_before: Option<u64>,
}

impl<'t> Token<'t> {
    /// Reads a token and the registered claims (RFC 7519 §4.1), which have their types whether or not
    /// somebody asks for them.
    pub(super) fn parse(token: &'t [u8]) -> Result<Self, TokenFault> {
        // What is not UTF-8 is no base64url either.
        let text = std::str::from_utf8(token).map_err(|_| TokenFault::Token(JwsError::NotCompact))?;
        let jws = Jws::parse(text).map_err(TokenFault::Token)?;
        let claims = match Json::parse(jws.payload()).map_err(TokenFault::Claims)? {
            Json::Object(claims) => claims,
            _ => return Err(TokenFault::ClaimsNotAnObject),
        };
        for name in ["iss", "sub", "jti"] {
            if claims.get(name).is_some_and(|claim| claim.as_text().is_none()) {
                return Err(TokenFault::Claim { name });
            }
        }
        seconds(&claims, "iat")?;
        Ok(Self {
            audiences: audiences(&claims)?,
            expires: seconds(&claims, "exp")?,
            not_before: seconds(&claims, "nbf")?,
            jws,
            claims,
        })
    }

    /// Whether the token is of the issuer; of none in particular if that is empty.
    pub(super) fn is_issued_by(&self, issuer: &str) -> bool {
        issuer.is_empty() || self.claims.get("iss").and_then(Json::as_text) == Some(issuer)
    }

    pub(super) fn check_time(&self, now: u64) -> Result<(), TokenFault> {
        if self
            .not_before
            .is_some_and(|start| now.saturating_add(CLOCK_SKEW) < start)
        {
            return Err(TokenFault::NotYetValid);
        }
        if self.expires.is_some_and(|end| now > end.saturating_add(CLOCK_SKEW)) {
            return Err(TokenFault::Expired);
        }
        Ok(())
    }

    /// Whether the token is for one of the audiences, which [`bare_audience`] has made.
    pub(super) fn is_for(&self, audiences: &[String]) -> bool {
        let ours = |audience: &String| {
            let audience = bare_audience(audience);
            audiences.iter().any(|wanted| wanted == audience)
        };
        audiences.is_empty() || self.audiences.iter().any(ours)
    }
}

/// The claims as policies ask for them. Claims that are lists of words in one text are lists.
pub(super) fn to_claims(object: &Object, word_lists: &BTreeSet<Box<str>>) -> Claims {
    object.iter().fold(Claims::default(), |claims, (name, value)| {
        let claim = match value {
            Json::Text(text) if word_lists.contains(&**name) => words(text),
            _ => to_claim(value),
        };
        claims.with(name, claim)
    })
}

fn words(text: &str) -> Claim {
    let mut words = text.split(' ').filter(|word| !word.is_empty()).peekable();
    // Envoy leaves a text without words as it is.
    if words.peek().is_none() {
        return Claim::text(text);
    }
    Claim::texts(words)
}

fn to_claim(value: &Json) -> Claim {
    match value {
        Json::Text(text) => Claim::text(text),
        Json::List(list) => Claim::List(list.iter().map(to_claim).collect()),
        Json::Object(object) => Claim::Object(to_claims(object, &BTreeSet::new())),
        Json::Null | Json::Boolean(_) | Json::Integer(_) | Json::Number(_) => Claim::Other,
    }
}

fn audiences(claims: &Object) -> Result<Vec<String>, TokenFault> {
    let malformed = TokenFault::Claim { name: "aud" };
    let text = |audience: &Json| audience.as_text().map(str::to_owned);
    match claims.get("aud") {
        None => Ok(Vec::new()),
        Some(Json::List(list)) => list.iter().map(text).collect::<Option<_>>().ok_or(malformed),
        Some(one) => Ok(vec![text(one).ok_or(malformed)?]),
    }
}

/// A moment, of which fractions are cut off.
fn seconds(claims: &Object, name: &'static str) -> Result<Option<u64>, TokenFault> {
    const BEYOND: f64 = 18_446_744_073_709_551_616.0;
    match claims.get(name) {
        None => Ok(None),
        Some(Json::Integer(number)) if (*number as f64) < BEYOND => Ok(Some(*number)),
        Some(Json::Number(number)) if (0.0..BEYOND).contains(number) => Ok(Some(*number as u64)),
        Some(_) => Err(TokenFault::Claim { name }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_words_is_a_list() {
        assert_eq!(words(" read  write "), Claim::texts(["read", "write"]));
        assert_eq!(words("read"), Claim::texts(["read"]));
        assert_eq!(words("  "), Claim::text("  "));
    }
}
