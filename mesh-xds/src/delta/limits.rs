/// The name that stands for all resources of a type.
pub(super) const WILDCARD: &str = "*";

/// Among the features of a client (`client_features` of its node): it knows that the first answer
/// may come in parts, each of which is marked unless it is the last.
pub(super) const PARTS: &str = "mesh-xds.parts";

/// In `system_version_info`, the mark of a response that others belong to. The protocol has no place
/// for it: a server's first response is complete for all that others know.
pub(super) const MORE: &str = "mesh-xds.more";

/// Bytes in the name or version of a resource. Names hold a hostname (253 bytes) or a workload's
/// path through a cluster, an API group, a kind, a namespace and two names.
pub const MAX_NAME_LENGTH: usize = 2048;
