//! A Rust source file, read as far as the checks need.

use std::collections::BTreeSet;

/// A source file as tokens, without comments, literals, and items that only tests or rustdoc see.
pub(crate) struct Source {
    pub(crate) tokens: Vec<Token>,
    pub(crate) production_lines: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

impl Source {
    pub(crate) fn scan(text: &str) -> Self {
        let tokens = tokens(text);
        let mut kept = Vec::new();
        let mut test_lines = 0;
        let mut at = 0;
        while at < tokens.len() {
            if is_hiding_attribute(&tokens[at..]) {
                let end = item_end(&tokens, at + HIDING_ATTRIBUTE);
                test_lines += tokens[end - 1].line - tokens[at].line + 1;
                at = end;
            } else {
                kept.push(tokens[at].clone());
                at += 1;
            }
        }
        Self {
            tokens: kept,
            production_lines: text.lines().count() - test_lines,
        }
    }

    /// Every path through this crate, from its root, as seen from `module`, which holds the
    /// modules `children`.
    pub(crate) fn paths(&self, module: &str, children: &BTreeSet<String>) -> Vec<(usize, Vec<String>)> {
        let mut found = Vec::new();
        let mut inline: Vec<(String, usize)> = Vec::new();
        let mut depth = 0;
        for at in 0..self.tokens.len() {
            match self.text(at) {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    inline.retain(|(_, opened_at)| *opened_at <= depth);
                }
                "mod" if self.text(at + 2) == "{" => inline.push((self.text(at + 1).to_owned(), depth + 1)),
                text if self.begins_path(at)
                    && (matches!(text, "crate" | "super" | "self") || children.contains(text)) =>
                {
                    let here: Vec<String> = match module {
                        "" => Vec::new(),
                        module => module.split('/').map(str::to_owned).collect(),
                    };
                    let here = here
                        .into_iter()
                        .chain(inline.iter().map(|(name, _)| name.clone()))
                        .collect();
                    self.tree(at, here, &mut found);
                }
                _ => {}
            }
        }
        found
    }

    /// Whether the word at `at` is the first of several in a path that uses what it names:
    /// `pub(in crate::a)` only restricts.
    fn begins_path(&self, at: usize) -> bool {
        let before = |distance| at.checked_sub(distance).map_or("", |at| self.text(at));
        self.text(at + 1) == "::" && before(1) != "::" && !(before(1) == "in" && before(2) == "(")
    }

    /// Reads the path at `at`, with all branches of a `{...}`, and returns where it ends.
    fn tree(&self, mut at: usize, mut path: Vec<String>, found: &mut Vec<(usize, Vec<String>)>) -> usize {
        let line = self.tokens[at].line;
        loop {
            match self.text(at) {
                "crate" => path.clear(),
                "self" | "*" => {}
                "super" => {
                    path.pop();
                }
                "{" => {
                    at += 1;
                    while self.text(at) != "}" {
                        at = self.tree(at, path.clone(), found);
                        while !matches!(self.text(at), "," | "}") {
                            at += 1;
                        }
                        if self.text(at) == "," {
                            at += 1;
                        }
                    }
                    return at + 1;
                }
                name => path.push(name.to_owned()),
            }
            at += 1;
            let goes_on =
                self.text(at) == "::" && (is_word(self.text(at + 1)) || matches!(self.text(at + 1), "{" | "*"));
            if !goes_on {
                found.push((line, path));
                return at;
            }
            at += 1;
        }
    }

    pub(crate) fn type_names(&self) -> impl Iterator<Item = (usize, &str)> {
        self.tokens
            .windows(2)
            .filter(|pair| matches!(pair[0].text.as_str(), "struct" | "enum" | "trait" | "type"))
            .map(|pair| (pair[1].line, pair[1].text.as_str()))
    }

    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }
}

/// The tokens of `#[cfg(test)]`.
const HIDING_ATTRIBUTE: usize = 7;

fn is_hiding_attribute(tokens: &[Token]) -> bool {
    let texts: Vec<&str> = tokens
        .iter()
        .take(HIDING_ATTRIBUTE)
        .map(|token| token.text.as_str())
        .collect();
    matches!(texts[..], ["#", "[", "cfg", "(", "test" | "doc", ")", "]"])
}

/// Where the item that begins at `at` ends: after its `;`, or after its closing brace.
fn item_end(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            ")" | "]" => depth -= 1,
            "}" if depth == 1 => return index + 1,
            "}" => depth -= 1,
            ";" if depth == 0 => return index + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Words, `::`, and single characters of punctuation.
fn tokens(text: &str) -> Vec<Token> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut at = 0;
    while at < bytes.len() {
        let length = match bytes[at] {
            b'r' | b'b' | b'c' if raw_string(&bytes[at..]).is_some() => raw_string(&bytes[at..]).unwrap(),
            b'/' if bytes[at..].starts_with(b"//") => bytes[at..]
                .iter()
                .position(|&byte| byte == b'\n')
                .unwrap_or(bytes.len() - at),
            b'/' if bytes[at..].starts_with(b"/*") => block_comment(&bytes[at..]),
            b'"' => quoted(&bytes[at..]),
            b'\'' => char_or_lifetime(&bytes[at..]),
            byte if is_word_byte(byte) => {
                let length = bytes[at..].iter().take_while(|&&byte| is_word_byte(byte)).count();
                tokens.push(Token {
                    text: text[at..at + length].to_owned(),
                    line,
                });
                length
            }
            b':' if bytes[at..].starts_with(b"::") => {
                tokens.push(Token {
                    text: "::".to_owned(),
                    line,
                });
                2
            }
            byte => {
                if byte.is_ascii_punctuation() {
                    tokens.push(Token {
                        text: char::from(byte).to_string(),
                        line,
                    });
                }
                1
            }
        };
        line += bytes[at..at + length].iter().filter(|&&byte| byte == b'\n').count();
        at += length;
    }
    tokens
}

fn block_comment(bytes: &[u8]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn quoted(bytes: &[u8]) -> usize {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The length of `r"..."` or `r#"..."#`, which a `b` or `c` may precede.
fn raw_string(bytes: &[u8]) -> Option<usize> {
    let marker = usize::from(matches!(bytes[0], b'b' | b'c'));
    if bytes.get(marker) != Some(&b'r') {
        return None;
    }
    let hashes = bytes[marker + 1..].iter().take_while(|&&byte| byte == b'#').count();
    let start = marker + 1 + hashes + 1;
    if bytes.get(start - 1) != Some(&b'"') {
        return None;
    }
    let closing: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let end = bytes[start..]
        .windows(closing.len())
        .position(|window| window == closing)?;
    Some(start + end + closing.len())
}

fn char_or_lifetime(bytes: &[u8]) -> usize {
    if bytes.get(1) == Some(&b'\\') {
        return bytes[3..]
            .iter()
            .position(|&byte| byte == b'\'')
            .map_or(bytes.len(), |end| end + 4);
    }
    // One character may be four bytes; a lifetime has no closing quote behind its first.
    (2..=5)
        .find(|&at| bytes.get(at) == Some(&b'\''))
        .filter(|&at| at == 2 || !bytes[1].is_ascii())
        .map_or(1, |at| at + 1)
}

fn is_word(text: &str) -> bool {
    text.bytes().next().is_some_and(is_word_byte)
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// A scan that sees nothing would pass for ever.
mod tests {
    use super::*;

    fn paths(module: &str, text: &str) -> Vec<String> {
        Source::scan(text)
            .paths(module, &BTreeSet::from(["child".to_owned()]))
            .into_iter()
            .map(|(_, path)| path.join("::"))
            .collect()
    }

    #[test]
    fn sees_every_branch_of_a_use() {
        assert_eq!(
            paths(
                "pool",
                "use crate::{conn::{Conn, driver::Driver as D}, wire, stream::*};"
            ),
            ["conn::Conn", "conn::driver::Driver", "wire", "stream"]
        );
    }

    #[test]
    fn resolves_paths_from_where_they_stand() {
        assert_eq!(
            paths("pool/state", "use super::key::Key; fn f() { super::super::wire::g() }"),
            ["pool::key::Key", "wire::g"]
        );
        assert_eq!(
            paths("pool", "mod sealed { use super::Pool; } use super::wire;"),
            ["pool::Pool", "wire"]
        );
    }

    #[test]
    fn sees_paths_in_expressions() {
        assert_eq!(
            paths("a", "fn f() -> crate::b::C { crate::b::C::<u8>::new(self.x) }"),
            ["b::C", "b::C"]
        );
    }

    #[test]
    fn sees_what_a_module_uses_of_its_children() {
        assert_eq!(
            paths(
                "a",
                "mod child; pub use child::{B, C}; fn f(child: B) { x::child::y() }"
            ),
            ["a::child::B", "a::child::C"]
        );
    }

    #[test]
    fn ignores_comments_literals_and_tests() {
        let text = r##"
            //! [`crate::a`]
            /* crate::b /* nested */ crate::c */
            const S: &str = "crate::d \" crate::e";
            const R: &str = r#"crate::f " crate::g"#;
            const B: &[u8] = br"\";
            const C: [char; 3] = ['"', '\'', 'ß'];
            pub(crate) fn f<'a>(x: &'a str) {}
            pub(in crate::h) fn g() {}
            #[cfg(test)]
            use crate::i::I;
            #[cfg(doc)]
            use crate::k::K;
            #[cfg(test)]
            mod tests { use super::*; fn t() { if true { crate::j() } } }
            use crate::z::Z;
        "##;
        assert_eq!(paths("m", text), ["z::Z"]);
    }

    #[test]
    fn counts_no_test_lines() {
        let source = Source::scan("fn f() {}\n\n#[cfg(test)]\nmod tests {\n    fn t() {}\n}\n");
        assert_eq!(source.production_lines, 2);
    }
}
