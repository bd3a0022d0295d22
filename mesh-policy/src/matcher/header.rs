/// Whether a header line without a value counts as present.
///
/// Envoy says yes, Istio's reference says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum EmptyLine {
    Counts,
    Ignored,
}

impl EmptyLine {
    /// Whether a line of this value makes the header present.
    pub(crate) fn is_presence(self, value: &[u8]) -> bool {
        self == Self::Counts || !value.is_empty()
    }
}
