/// The name that stands for all resources of a type.
pub(super) const WILDCARD: &str = "*";

/// Bytes in the name or version of a resource. Names hold a hostname (253 bytes) or a workload's
/// path through a cluster, an API group, a kind, a namespace and two names.
pub const MAX_NAME_LENGTH: usize = 2048;
