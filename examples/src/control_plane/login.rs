//! Who may operate the mesh, where not only those on this machine can ask.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

use super::objects::MIN_TOKEN_BYTES;
use crate::manifest::{self, Unreadable};

/// A file with the token that operators bring.
pub(super) struct Login {
    file: PathBuf,
    secret: RandomState,
}

impl Login {
    pub(super) fn new(file: &Path) -> Result<Self, LoginError> {
        token(file)?;
        Ok(Self {
            file: file.to_owned(),
            secret: RandomState::new(),
        })
    }

    /// Whether a request brings what the file says now: as a bearer token, or as a browser does, as
    /// the password of anybody (RFC 7617).
    pub(super) fn admits(&self, headers: &HeaderMap) -> bool {
        let Ok(token) = token(&self.file).inspect_err(|error| tracing::warn!(reason = %error, "operator refused"))
        else {
            return false;
        };
        brought(headers).is_some_and(|brought| self.is_same(&brought, &token))
    }

    /// By a secret hash, so that the time of the comparison says nothing about the token.
    fn is_same(&self, brought: &str, token: &str) -> bool {
        self.secret.hash_one(brought) == self.secret.hash_one(token) && brought == token
    }
}

fn brought(headers: &HeaderMap) -> Option<String> {
    let header = headers.get(AUTHORIZATION)?.to_str().ok()?;
    if let Some(token) = header.strip_prefix("Bearer ") {
        return Some(token.to_owned());
    }
    let pair = STANDARD.decode(header.strip_prefix("Basic ")?).ok()?;
    let pair = String::from_utf8(pair).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

fn token(file: &Path) -> Result<String, LoginError> {
    let text = manifest::read(file)?;
    let token = text.trim();
    if token.len() < MIN_TOKEN_BYTES || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(LoginError::NoToken { path: file.to_owned() });
    }
    Ok(token.to_owned())
}

/// Why there is no token that operators could bring.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoginError {
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("{}: this is no token: it takes {MIN_TOKEN_BYTES} visible characters or more", path.display())]
    NoToken { path: PathBuf },
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_token_of_the_moment_is_brought_as_such_or_as_a_password() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, "the-token-of-the-operators\n").unwrap();
        let login = Login::new(&file).unwrap();
        let admits = |header: &str| {
            let header = header.parse().unwrap();
            login.admits(&[(AUTHORIZATION, header)].into_iter().collect())
        };
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        assert!(admits("Bearer the-token-of-the-operators"));
        assert!(admits(&basic("me:the-token-of-the-operators")));
        for other in [
            "Bearer the-token-of-the-operator",
            "Bearer ",
            "the-token-of-the-operators",
            "Basic ????",
            &basic("the-token-of-the-operators"),
            &basic("the-token-of-the-operators:me"),
        ] {
            assert!(!admits(other), "{other}");
        }
        assert!(!login.admits(&HeaderMap::new()));
        fs::write(&file, "another-token-of-the-operators").unwrap();
        assert!(!admits("Bearer the-token-of-the-operators") && admits("Bearer another-token-of-the-operators"));
        fs::remove_file(&file).unwrap();
        assert!(!admits("Bearer another-token-of-the-operators"));
    }

    #[test]
    fn a_file_without_a_token_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        for text in ["", "short", "with a space in it it is none"] {
            fs::write(&file, text).unwrap();
            let error = Login::new(&file).map(|_| ()).unwrap_err().to_string();
            assert!(
                error.ends_with("token: this is no token: it takes 16 visible characters or more"),
                "{error}"
            );
        }
    }
}
