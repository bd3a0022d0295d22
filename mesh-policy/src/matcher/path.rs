use thiserror::Error;

/// A path with the operators `{*}` and `{**}`.
///
/// `{*}` stands for one or more bytes within a segment, `{**}` for any bytes across segments. A
/// `{**}` is the last operator, and text may follow it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PathTemplate {
    pieces: Box<[Piece]>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Piece {
    Literal(Box<[u8]>),
    /// `{*}`
    Segment,
    /// `{**}`
    Rest,
}

/// Which bytes the operators stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Charset {
    /// Those of Envoy's template matcher. A path with another byte, such as `[`, matches no
    /// operator over it.
    Envoy,
    /// All: a template that denies is not to be escaped by an odd byte.
    Any,
}

/// Why a value with an operator is no template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// A template begins with `/`.
    #[error("a path template begins with `/`")]
    NoSlash,
    /// There is a `*`, `{` or `}` that is no part of `{*}` or `{**}`.
    #[error("a path template has no `*`, `{{` or `}}` but in `{{*}}` and `{{**}}`")]
    StrayOperator,
    /// An operator follows `{**}`.
    #[error("`{{**}}` is not the last operator of the path template")]
    AfterRest,
    /// A literal part holds a byte that no path can.
    #[error("a path template holds a byte that no path can")]
    Character,
}

impl PathTemplate {
    /// Whether a value is to be read as a template.
    pub(crate) fn is_one(value: &str) -> bool {
        value.contains("{*}") || value.contains("{**}")
    }

    pub(crate) fn parse(value: &str) -> Result<Self, TemplateError> {
        if !value.starts_with('/') {
            return Err(TemplateError::NoSlash);
        }
        let mut pieces = Vec::new();
        let mut rest = value;
        while !rest.is_empty() {
            let (piece, after) = if let Some(after) = rest.strip_prefix("{**}") {
                (Piece::Rest, after)
            } else if let Some(after) = rest.strip_prefix("{*}") {
                (Piece::Segment, after)
            } else {
                let (literal, after) = rest.split_at(next_operator(rest));
                check_literal(literal)?;
                (Piece::Literal(literal.as_bytes().into()), after)
            };
            let is_operator = !matches!(piece, Piece::Literal(_));
            if is_operator && pieces.contains(&Piece::Rest) {
                return Err(TemplateError::AfterRest);
            }
            // Envoy writes operators without braces, and would take two for the other one.
            if is_operator && pieces.last() == Some(&Piece::Segment) {
                return Err(TemplateError::StrayOperator);
            }
            pieces.push(piece);
            rest = after;
        }
        Ok(Self { pieces: pieces.into() })
    }

    /// Linear in the path for each operator: where an operator may end early or late, early leaves
    /// at least as much to what follows, and a segment ends at its slash either way.
    pub(crate) fn matches(&self, path: &[u8], charset: Charset) -> bool {
        // Literals hold bytes of the charset only, so any other byte would fall to an operator.
        if charset == Charset::Envoy && !path.iter().all(|byte| is_template_byte(*byte)) {
            return false;
        }
        let (mut pieces, mut rest) = (&*self.pieces, path);
        let mut resume: Option<(&[Piece], &[u8])> = None;
        loop {
            let advanced = match pieces.split_first() {
                None if rest.is_empty() => return true,
                None => None,
                Some((Piece::Literal(literal), after)) => rest.strip_prefix(&**literal).map(|rest| (after, rest)),
                Some((Piece::Segment, after)) => segment_byte(rest).map(|rest| {
                    resume = Some((after, rest));
                    (after, rest)
                }),
                Some((Piece::Rest, tail)) => {
                    let fits = match tail.first() {
                        Some(Piece::Literal(literal)) => rest.ends_with(literal),
                        _ => true,
                    };
                    if fits {
                        return true;
                    }
                    None
                }
            };
            let retried = || {
                let (after, rest) = resume?;
                Some((after, segment_byte(rest)?))
            };
            (pieces, rest) = match advanced {
                Some(next) => next,
                None => match retried() {
                    Some(next) => {
                        resume = Some(next);
                        next
                    }
                    None => return false,
                },
            };
        }
    }

    /// A path that the template matches, with `segment` and `rest` in place of its operators.
    pub(crate) fn fill(&self, segment: &[u8], rest: &[u8]) -> Vec<u8> {
        let pieces = self.pieces.iter().flat_map(|piece| match piece {
            Piece::Literal(literal) => literal,
            Piece::Segment => segment,
            Piece::Rest => rest,
        });
        pieces.copied().collect()
    }

    /// What every path that matches begins with.
    pub(crate) fn literal_prefix(&self) -> &[u8] {
        match self.pieces.first() {
            Some(Piece::Literal(literal)) => literal,
            _ => &[],
        }
    }
}

fn next_operator(rest: &str) -> usize {
    let operators = ["{*}", "{**}"].iter().filter_map(|operator| rest.find(operator));
    operators.min().unwrap_or(rest.len())
}

/// What is left after one byte of a segment.
fn segment_byte(rest: &[u8]) -> Option<&[u8]> {
    match rest {
        [b'/', ..] | [] => None,
        [_, after @ ..] => Some(after),
    }
}

fn check_literal(literal: &str) -> Result<(), TemplateError> {
    if literal.contains(['*', '{', '}']) {
        return Err(TemplateError::StrayOperator);
    }
    if !literal.bytes().all(is_template_byte) {
        return Err(TemplateError::Character);
    }
    Ok(())
}

fn is_template_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-._~%!$&'()+,;:@=*".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(template: &str, path: &str) -> bool {
        PathTemplate::parse(template)
            .unwrap()
            .matches(path.as_bytes(), Charset::Envoy)
    }

    #[test]
    fn one_star_takes_one_segment() {
        assert!(matches("/a/{*}/c", "/a/b/c") && matches("/{*}", "/b"));
        assert!(!matches("/a/{*}/c", "/a//c") && !matches("/a/{*}/c", "/a/b/b/c") && !matches("/a/{*}", "/a/b/c"));
    }

    #[test]
    fn operators_may_share_a_segment() {
        assert!(
            matches("/v{*}.{*}x", "/v1.2.3x") && !matches("/v{*}.{*}x", "/v1.x") && !matches("/v{*}.{*}x", "/v1/.2x")
        );
        assert!(matches("/{*}a/{*}b", "/aaa/bb") && !matches("/{*}a/{*}b", "/a/bb"));
        assert!(matches("/{*}.{**}.z", "/a.b/c.z") && matches("/{*}.{**}", "/a.") && !matches("/{*}.{**}", "/."));
    }

    #[test]
    fn two_stars_take_the_rest() {
        assert!(matches("/foo/{**}", "/foo/") && matches("/foo/{**}", "/foo/a/b") && !matches("/foo/{**}", "/foo"));
        assert!(matches("/store/{**}/cart", "/store//cart") && !matches("/store/{**}/cart", "/store/cart"));
        assert!(matches("/{*}/{**}/x", "/a/b/c/x") && matches("/{**}", "/"));
    }

    #[test]
    fn bytes_outside_the_charset_escape_envoy_only() {
        let template = PathTemplate::parse("/admin/{**}").unwrap();
        for path in ["/admin/[", "/admin/a]", "/admin/\u{e9}", "/admin/a\"b"] {
            assert!(!template.matches(path.as_bytes(), Charset::Envoy), "{path}");
            assert!(template.matches(path.as_bytes(), Charset::Any), "{path}");
        }
        assert!(template.matches(b"/admin/*%2f", Charset::Envoy));
    }

    #[test]
    fn refuses_other_operators() {
        for (value, fault) in [
            ("a/{*}", TemplateError::NoSlash),
            ("/{**}/{*}", TemplateError::AfterRest),
            ("/{**}/{**}", TemplateError::AfterRest),
            ("/{*}/{name}", TemplateError::StrayOperator),
            ("/{*}/*", TemplateError::StrayOperator),
            ("/{*x}/{*}", TemplateError::StrayOperator),
            ("/{*}{*}", TemplateError::StrayOperator),
            ("/{*}{**}", TemplateError::StrayOperator),
            ("/{*}/[", TemplateError::Character),
        ] {
            assert_eq!(PathTemplate::parse(value), Err(fault), "{value}");
        }
    }
}
