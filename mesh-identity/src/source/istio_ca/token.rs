use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use http::HeaderValue;
use thiserror::Error;

/// The largest token that is read, in bytes. Those of Kubernetes have one to two thousand.
const MAX_BYTES: usize = 16 * 1024;

/// Reads the bearer token in a file as the value of an `authorization` header, marked as sensitive.
/// White space around the token is dropped.
pub(super) fn authorization(path: &Path) -> Result<HeaderValue, TokenError> {
    let fail = |problem| TokenError {
        path: path.to_owned(),
        problem,
    };
    let mut text = Vec::from(b"Bearer ");
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let read = File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut text))
        .map_err(|error| fail(TokenProblem::Io(error.kind())))?;
    if read > MAX_BYTES {
        return Err(fail(TokenProblem::TooLarge));
    }
    let value = text.trim_ascii_end();
    let token = value.get(b"Bearer ".len()..).unwrap_or_default().trim_ascii_start();
    if token.is_empty() {
        return Err(fail(TokenProblem::Empty));
    }
    if !token.iter().all(u8::is_ascii_graphic) {
        return Err(fail(TokenProblem::Character));
    }
    let mut header =
        HeaderValue::from_bytes(&[b"Bearer ", token].concat()).map_err(|_| fail(TokenProblem::Character))?;
    header.set_sensitive(true);
    Ok(header)
}

/// A file that does not give a bearer token.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}: {problem}", path.display())]
pub struct TokenError {
    path: PathBuf,
    problem: TokenProblem,
}

impl TokenError {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with it.
    pub fn problem(&self) -> &TokenProblem {
        &self.problem
    }
}

/// What is wrong with a file that should hold a bearer token.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenProblem {
    /// It cannot be read.
    #[error("the token cannot be read: {0}")]
    Io(io::ErrorKind),
    /// It is larger than any token.
    #[error("the token has more than {MAX_BYTES} bytes")]
    TooLarge,
    /// It is empty.
    #[error("the token is empty")]
    Empty,
    /// It holds white space or bytes that no token has.
    #[error("the token has a byte that is no visible ascii character")]
    Character,
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(content: &[u8]) -> Result<HeaderValue, TokenProblem> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        authorization(file.path()).map_err(|error| error.problem)
    }

    #[test]
    fn a_token_is_the_text_without_white_space_around_it() {
        let header = read(b"\n abc.def-_ \r\n").unwrap();
        assert_eq!(header.to_str().unwrap(), "Bearer abc.def-_");
        assert!(!format!("{header:?}").contains("abc"));
    }

    #[test]
    fn what_is_no_token_is_named_without_being_shown() {
        assert_eq!(read(b" \n"), Err(TokenProblem::Empty));
        assert_eq!(read(b"a b"), Err(TokenProblem::Character));
        assert_eq!(read(b"a\nevil: header"), Err(TokenProblem::Character));
        assert_eq!(read("\u{e9}".as_bytes()), Err(TokenProblem::Character));
        assert_eq!(read(&[b'a'; MAX_BYTES + 1]), Err(TokenProblem::TooLarge));
        assert!(read(&[b'a'; MAX_BYTES]).is_ok());
        let missing = authorization(Path::new("/nowhere/token")).unwrap_err();
        assert_eq!(missing.problem(), &TokenProblem::Io(io::ErrorKind::NotFound));
        assert_eq!(
            missing.to_string(),
            "/nowhere/token: the token cannot be read: entity not found"
        );
    }
}
