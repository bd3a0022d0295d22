//! Tokens of service accounts.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mesh_policy::authz::k8s::{Object, Problem};
use rustls::pki_types::UnixTime;
use serde_json::{Map, Value};

use super::fields::{bad, missing};
use super::{Key, Metadata};

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const POD: &str = "kubernetes.io/pod.name";

/// The shortest token that is taken, in bytes: shorter ones could be guessed.
pub(in crate::control_plane) const MIN_TOKEN_BYTES: usize = 16;

/// Whoever brings the token is this service account.
#[derive(Debug)]
pub(in crate::control_plane) struct Secret {
    pub(in crate::control_plane) metadata: Metadata,
    pub(in crate::control_plane) token: Bearer,
    pub(in crate::control_plane) account: Key,
    /// The Pod that the token is bound to, in whose place it is brought.
    pub(in crate::control_plane) pod: Option<Key>,
    /// When it ends, if it is one that says so.
    pub(in crate::control_plane) expires: Option<UnixTime>,
}

/// A token, which is never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(in crate::control_plane) struct Bearer(pub(in crate::control_plane) String);

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(..)")
    }
}

/// Reads a Secret, if it holds a token.
pub(super) fn read(metadata: Metadata, mut object: Object) -> Result<Option<Secret>, Problem> {
    if object.text("type")?.as_deref() != Some(TYPE) {
        return Ok(None);
    }
    let line = metadata.place.line;
    let key = &metadata.key;
    let annotation = |name| metadata.annotation(name).map(|name| key.beside(name));
    let account = annotation(ACCOUNT).ok_or_else(|| missing(line, &format!("metadata.annotations.{ACCOUNT}")))?;
    let pod = annotation(POD);
    let mut data = object
        .object("stringData")?
        .ok_or_else(|| missing(line, "stringData"))?;
    let at = data.line_of("token");
    let token = data.required_text("token")?;
    // The message must not show it.
    if token.len() < MIN_TOKEN_BYTES || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad(at, "stringData.token", "***"));
    }
    data.pass_over(&["ca.crt", "namespace"]);
    data.finish()?;
    object.pass_over(&["immutable"]);
    object.finish()?;
    Ok(Some(Secret {
        expires: expires(&token).map_err(|Unreadable| bad(at, "stringData.token", "***"))?,
        token: Bearer(token),
        account,
        pod,
        metadata,
    }))
}

/// The end of a token of Kubernetes, which is a JWT (RFC 7519 §4.1.4). Its signature is of no
/// account: the directory says whose it is. What is no JWT is good for as long as it is there.
fn expires(token: &str) -> Result<Option<UnixTime>, Unreadable> {
    let parts: Vec<_> = token.split('.').collect();
    let &[_, claims, _] = parts.as_slice() else {
        return Ok(None);
    };
    let claims = URL_SAFE_NO_PAD.decode(claims).ok();
    let claims: Option<Map<String, Value>> = claims.and_then(|claims| serde_json::from_slice(&claims).ok());
    let Some(exp) = claims.and_then(|mut claims| claims.remove("exp")) else {
        return Ok(None);
    };
    let seconds = exp.as_f64().filter(|seconds| *seconds >= 0.0).ok_or(Unreadable)?;
    let end = Duration::try_from_secs_f64(seconds.floor()).map_err(|_| Unreadable)?;
    Ok(Some(UnixTime::since_unix_epoch(end)))
}

/// A token says when it ends, in a way that nobody understands.
#[derive(Debug)]
struct Unreadable;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_kubernetes_says_when_it_ends() {
        let token = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        let end = |token: &str| expires(token).unwrap().map(|end| end.as_secs());
        assert_eq!(
            end(&token(r#"{"iss":"a","exp":1900000000,"sub":"b"}"#)),
            Some(1_900_000_000)
        );
        assert_eq!(end(&token(r#"{"exp":1700000000.75}"#)), Some(1_700_000_000));
        assert_eq!(end(&token(r#"{"exp":1.7e9}"#)), Some(1_700_000_000));
        // Of two the last one counts, as for Kubernetes.
        assert_eq!(end(&token(r#"{"exp":1,"exp":1900000000}"#)), Some(1_900_000_000));
        for odd in ["null", "-1", "\"1900000000\"", "1e300", "[]", "true"] {
            expires(&token(&format!(r#"{{"exp":{odd}}}"#))).unwrap_err();
        }
        for opaque in [
            token("{}"),
            token("[1"),
            "a.b.c".into(),
            "a.b".into(),
            token("{}") + ".d",
        ] {
            assert_eq!(end(&opaque), None, "{opaque}");
        }
    }
}
