/// What is known of a statement about a connection or a request. An `and` is the least of its parts,
/// an `or` the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Truth {
    /// It is false.
    No,
    /// It turns on something that is unavailable.
    Unknown,
    /// It is true.
    Yes,
}
