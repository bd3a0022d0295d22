use std::{fmt, sync::Arc};

use super::{model::PolicyName, target::Target};

/// A RequestAuthentication (`security.istio.io/v1`): which tokens are believed.
///
/// It demands no token. A request without one passes, and has no claims.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestAuthentication {
    /// The object's name.
    pub name: PolicyName,
    /// Which workloads it is for.
    pub target: Target,
    /// Whose tokens are believed.
    pub rules: Vec<JwtRule>,
    /// The file that it was read from.
    pub file: Option<Arc<str>>,
}

impl RequestAuthentication {
    /// An object without rules, for all workloads.
    pub fn new(name: PolicyName) -> Self {
        Self {
            name,
            target: Target::Namespace,
            rules: Vec::new(),
            file: None,
        }
    }
}

/// An issuer whose tokens are believed.
///
/// Its `Debug` output leaves the keys out, since a key set may have secret ones.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JwtRule {
    /// The claim `iss`. If it is empty, the keys alone say which tokens are believed; that takes
    /// `jwks_uri`.
    pub issuer: String,
    /// One of these must be in the claim `aud`; none ask for nothing.
    pub audiences: Vec<String>,
    /// Where the keys are.
    pub jwks_uri: Option<String>,
    /// The keys themselves, as JSON.
    pub jwks: Option<String>,
    /// The headers to look for a token in. If no header, parameter or cookie is named, it is
    /// `Authorization` with `Bearer`, and the parameter `access_token`.
    pub from_headers: Vec<TokenHeader>,
    /// The query parameters to look for a token in.
    pub from_params: Vec<String>,
    /// The cookies to look for a token in.
    pub from_cookies: Vec<String>,
    /// The header to put the token's payload in, in base64url.
    pub output_payload_to_header: Option<String>,
    /// The headers to put single claims in.
    pub output_claim_to_headers: Vec<ClaimHeader>,
    /// Whether the token is left in the request.
    pub forward_original_token: bool,
    /// How long fetching keys may take, in Kubernetes' notation.
    pub timeout: Option<String>,
    /// Claims that are lists of words in one text, beside `scope` and `permission`.
    pub space_delimited_claims: Vec<String>,
    /// The line of the file that the rule begins in, from 1; 0 if it was not read from a file.
    pub line: u32,
}

impl fmt::Debug for JwtRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtRule")
            .field("issuer", &self.issuer)
            .field("audiences", &self.audiences)
            .field("jwks_uri", &self.jwks_uri)
            .field("from_headers", &self.from_headers)
            .field("from_params", &self.from_params)
            .field("from_cookies", &self.from_cookies)
            .field("output_payload_to_header", &self.output_payload_to_header)
            .field("output_claim_to_headers", &self.output_claim_to_headers)
            .field("forward_original_token", &self.forward_original_token)
            .field("timeout", &self.timeout)
            .field("space_delimited_claims", &self.space_delimited_claims)
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

/// A header that may carry a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenHeader {
    /// The header's name.
    pub name: String,
    /// What stands before the token.
    pub prefix: String,
}

/// A header that a claim is put in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimHeader {
    /// The header's name.
    pub header: String,
    /// The claim's name; a dot leads into an object.
    pub claim: String,
}
