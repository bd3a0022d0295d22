use mesh_identity::jws::Object;
use rustls_pki_types::{SignatureVerificationAlgorithm, UnixTime};

use super::{
    changes::{Line, header_value},
    key_source::KeySource,
    place::Place,
    rejection::{Misplaced, TokenFault},
    rule::Rule,
    token::Token,
};
use crate::facts::Facts;

/// What tokens are judged by, beside the rules.
#[derive(Clone, Copy)]
pub(super) struct Grounds<'a> {
    pub(super) keys: &'a dyn KeySource,
    pub(super) now: UnixTime,
    pub(super) algorithms: &'a [&'a dyn SignatureVerificationAlgorithm],
}

/// What a rule believes.
pub(super) struct Believed {
    pub(super) claims: Object,
    /// The headers that the rule sets.
    pub(super) headers: Vec<Line>,
    /// Where there were tokens.
    pub(super) places: Vec<Place>,
}

impl Rule {
    /// What the rule makes of a request's tokens. All that are in its places must be good, lest a
    /// bad one come through under a good one's cover; the first one's claims count, and `None` says
    /// that there is none. As with Envoy, the last one is looked at first.
    pub(super) fn judge(&self, request: &Facts<'_>, grounds: Grounds<'_>) -> Result<Option<Believed>, Misplaced> {
        let tokens = self.places.find(request)?;
        let mut believed = None;
        for found in tokens.iter().rev() {
            let judged = self.believe(&found.token, grounds).map_err(|fault| Misplaced {
                place: found.place.clone(),
                fault,
            })?;
            believed = Some(judged);
        }
        let places = tokens.into_iter().map(|found| found.place).collect();
        Ok(believed.map(|(claims, headers)| Believed {
            claims,
            headers,
            places,
        }))
    }

    fn believe(&self, token: &[u8], grounds: Grounds<'_>) -> Result<(Object, Vec<Line>), TokenFault> {
        let token = Token::parse(token)?;
        if !token.is_issued_by(&self.issuer) {
            return Err(TokenFault::Issuer);
        }
        token.check_time(grounds.now.as_secs())?;
        if !token.is_for(&self.audiences) {
            return Err(TokenFault::Audience);
        }
        match &self.keys {
            Some(keys) => token.jws.verify(keys, grounds.algorithms),
            None => {
                let keys = grounds.keys.keys(&self.wanted_keys());
                let keys = keys.ok_or(TokenFault::KeysUnavailable)?;
                token.jws.verify(&keys, grounds.algorithms)
            }
        }
        .map_err(TokenFault::Signature)?;
        let headers = self.headers(&token)?;
        Ok((token.claims, headers))
    }

    fn headers(&self, token: &Token<'_>) -> Result<Vec<Line>, TokenFault> {
        let payload = self
            .payload_header
            .iter()
            .map(|header| (header.clone(), token.jws.encoded_payload().as_bytes().to_vec()));
        let claims = self
            .claim_headers
            .iter()
            .filter_map(|output| Some((output.header.clone(), header_value(&token.claims, &output.path)?)));
        payload
            .chain(claims)
            .map(|(header, value)| {
                if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
                    return Err(TokenFault::HeaderValue);
                }
                Ok((header, value))
            })
            .collect()
    }
}
