use super::{
    backend::Target,
    cors::Cors,
    edit::HeaderEdits,
    fault::Fault,
    field::{FieldName, FieldValue},
    fraction::Fraction,
    redirect::Redirect,
    rewrite::Rewrite,
};

/// What a rule does to the requests that it takes, and to their answers.
///
/// They come in this order: fault, CORS, redirect or direct response; for what is left, mirrors,
/// rewrite and changes of headers. A rule has a redirect or a direct response or neither, and with
/// one of them no backends. What few rules have is boxed: a mesh has many that have nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Filters {
    /// What goes wrong on purpose.
    pub fault: Option<Fault>,
    /// What pages of other origins may ask.
    pub cors: Option<Box<Cors>>,
    /// Where the client is sent.
    pub redirect: Option<Box<Redirect>>,
    /// What the client is answered.
    pub respond: Option<Box<DirectResponse>>,
    /// What target and authority become.
    pub rewrite: Option<Box<Rewrite>>,
    /// What becomes of the request's headers.
    pub request_headers: HeaderEdits,
    /// What becomes of the answer's headers.
    pub response_headers: HeaderEdits,
    /// Who gets copies of requests: the first 64 of them. Their answers are ignored.
    pub mirrors: Vec<Mirror>,
}

/// An answer that no backend is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirectResponse {
    /// The status, from 200 to 599.
    pub status: u16,
    /// Header lines.
    pub headers: Vec<(FieldName, FieldValue)>,
    /// The content.
    pub body: Box<[u8]>,
}

impl DirectResponse {
    /// An answer with a status and nothing else.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Box::default(),
        }
    }
}

/// Somebody who gets copies of a share of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mirror {
    /// Where they go.
    pub target: Target,
    /// How many.
    pub share: Fraction,
}

impl Mirror {
    /// Copies of a share of requests.
    pub fn new(target: Target, share: Fraction) -> Self {
        Self { target, share }
    }
}
