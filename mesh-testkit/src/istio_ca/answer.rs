//! What the authority may be told to answer.

use std::fmt;
use std::sync::Arc;

use mesh_identity::source::dev_ca::Template;

/// How the authority answers callers.
#[derive(Clone, Default)]
pub enum Answer {
    /// As istiod does: by what the token is entitled to.
    #[default]
    Honest,
    /// With this gRPC status, whoever calls.
    Status(i32, String),
    /// With a certificate changed like this before it is signed: another identity, other dates, any broken rule.
    Changed(Change<Template>),
    /// With a certificate for a key that is not the caller's.
    OtherKey,
    /// With the elements of an honest answer, changed like this: without its root, in another order, any text.
    Elements(Change<Vec<String>>),
    /// Never.
    Silence,
}

/// A change of what an honest answer would hold.
pub type Change<T> = Arc<dyn Fn(&mut T) + Send + Sync>;

impl Answer {
    /// [`Answer::Changed`] by this.
    pub fn changed(change: impl Fn(&mut Template) + Send + Sync + 'static) -> Self {
        Self::Changed(Arc::new(change))
    }

    /// [`Answer::Elements`] changed by this.
    pub fn elements(change: impl Fn(&mut Vec<String>) + Send + Sync + 'static) -> Self {
        Self::Elements(Arc::new(change))
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Honest => "Honest",
            Self::Status(code, _) => return write!(f, "Status({code})"),
            Self::Changed(_) => "Changed",
            Self::OtherKey => "OtherKey",
            Self::Elements(_) => "Elements",
            Self::Silence => "Silence",
        })
    }
}
