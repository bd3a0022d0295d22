use std::{fmt, sync::Arc};

use regex_automata::{
    Anchored, MatchKind,
    dfa::{Automaton, StartKind, dense},
    nfa::thompson,
    util::{primitives::StateID, start, syntax},
};
use thiserror::Error;

/// The longest expression, in bytes.
const MAX_BYTES: usize = 1024;

/// How much memory one expression may take once compiled, and about how much compiling may: the
/// states of an expression can be exponential in its length.
const MAX_COMPILED_BYTES: usize = 256 << 10;

/// A regular expression in the syntax of RE2, which text matches as a whole or not at all.
///
/// It is compiled to a deterministic automaton, so that matching takes one step for each byte,
/// whatever the expression, and allocates nothing. A character is a byte: `.` stands for one, `\w`
/// and `\d` for those of ASCII, and a class cannot hold characters beyond it. RE2 has neither
/// back-references nor looking around, and so these are errors.
///
/// ```
/// use mesh_policy::traffic::Regex;
///
/// let regex = Regex::new("/v[0-9]+(/.*)?")?;
/// assert!(regex.matches(b"/v12/cart") && !regex.matches(b"/v12cart"));
/// assert!(Regex::new("(a)\\1").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Regex {
    text: Arc<str>,
    automaton: Arc<dense::DFA<Vec<u32>>>,
}

impl Regex {
    /// Compiles an expression of at most 1,024 bytes, to an automaton of at most 256 KiB.
    ///
    /// # Errors
    ///
    /// It is none, or too large.
    pub fn new(text: &str) -> Result<Self, RegexError> {
        if text.len() > MAX_BYTES {
            return Err(RegexError::TooLong { bytes: text.len() });
        }
        let syntax = syntax::Config::new().unicode(false).utf8(false);
        if syntax::parse_with(text, &syntax).is_err() {
            return Err(RegexError::Syntax { text: text.into() });
        }
        let automaton = dense::Builder::new()
            .syntax(syntax)
            .thompson(
                thompson::Config::new()
                    .utf8(false)
                    .nfa_size_limit(Some(MAX_COMPILED_BYTES)),
            )
            .configure(
                dense::Config::new()
                    .start_kind(StartKind::Anchored)
                    .match_kind(MatchKind::All)
                    .accelerate(false)
                    .dfa_size_limit(Some(MAX_COMPILED_BYTES))
                    .determinize_size_limit(Some(MAX_COMPILED_BYTES)),
            )
            .build(text)
            .map_err(|_| RegexError::TooLarge { text: text.into() })?;
        Ok(Self {
            text: text.into(),
            automaton: Arc::new(automaton),
        })
    }

    /// The expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether all of the text matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.start()
            .and_then(|run| run.feed(text))
            .is_some_and(RegexRun::is_match)
    }

    /// How much memory the automaton takes, which clones share.
    pub(super) fn memory(&self) -> usize {
        self.automaton.memory_usage()
    }

    /// The same for clones, and no others that there are now.
    pub(super) fn address(&self) -> usize {
        Arc::as_ptr(&self.automaton).addr()
    }

    pub(super) fn start(&self) -> Option<RegexRun<'_>> {
        let config = start::Config::new().anchored(Anchored::Yes);
        let state = self.automaton.start_state(&config).ok()?;
        let automaton = &*self.automaton;
        Some(RegexRun { automaton, state })
    }
}

/// An expression that has seen a part of a text.
#[derive(Clone, Copy)]
pub(super) struct RegexRun<'r> {
    automaton: &'r dense::DFA<Vec<u32>>,
    state: StateID,
}

impl RegexRun<'_> {
    /// Goes on with the next part; none if the text can no longer match.
    pub(super) fn feed(mut self, part: &[u8]) -> Option<Self> {
        for byte in part {
            self.state = self.automaton.next_state(self.state, *byte);
            if self.automaton.is_special_state(self.state)
                && (self.automaton.is_dead_state(self.state) || self.automaton.is_quit_state(self.state))
            {
                return None;
            }
        }
        Some(self)
    }

    /// Whether what was seen is all, and matches.
    pub(super) fn is_match(self) -> bool {
        let end = self.automaton.next_eoi_state(self.state);
        self.automaton.is_match_state(end)
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Regex {}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Regex").field(&self.text).finish()
    }
}

/// Why a text is no regular expression to be used here.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RegexError {
    /// It is too long.
    #[error("a regular expression of {bytes} bytes has more than {MAX_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It is not in the syntax of RE2, or has characters beyond ASCII in a class.
    #[error("`{}` is no regular expression", .text.escape_debug())]
    Syntax {
        /// The text.
        text: Box<str>,
    },
    /// It needs more memory than an expression may.
    #[error("the regular expression `{}` needs more than {MAX_COMPILED_BYTES} bytes of memory", .text.escape_debug())]
    TooLarge {
        /// The text.
        text: Box<str>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(regex: &str, text: &str) -> bool {
        Regex::new(regex).unwrap().matches(text.as_bytes())
    }

    #[test]
    fn all_of_the_text_has_to_match() {
        assert!(matches("a|ab", "ab") && matches("a|ab", "a") && !matches("a|ab", "abc"));
        assert!(matches("", "") && !matches("", "a"));
        assert!(matches("^/a$", "/a") && !matches("^/a$", "/ab"));
        assert!(matches("a.*?", "abc") && matches("(?i)ABC", "abc") && !matches("b", "abc"));
        assert!(matches(r"a\b.*", "a-b") && !matches(r"a\b.*", "ab"));
    }

    #[test]
    fn classes_are_those_of_ascii() {
        assert!(matches(r"\w+\d", "ab1") && !matches(r"\w", "\u{e9}") && matches("..", "\u{e9}"));
        assert!(matches("\u{e9}", "\u{e9}") && Regex::new("[\u{e9}]").is_err());
    }

    #[test]
    fn what_is_none_or_too_large_is_refused() {
        for text in ["(", "a)|(b", "(a)\\1", "(?=a)", "*"] {
            assert_eq!(Regex::new(text), Err(RegexError::Syntax { text: text.into() }));
        }
        for text in ["(a|b)*a(a|b){20}", "((a{100}){100}){100}"] {
            assert_eq!(Regex::new(text), Err(RegexError::TooLarge { text: text.into() }));
        }
        let bytes = MAX_BYTES + 1;
        assert_eq!(Regex::new(&"a".repeat(bytes)), Err(RegexError::TooLong { bytes }));
    }
}
