/// What filters found out about a connection or a request, under the names that Istio's
/// `experimental.envoy.filters.<filter>[<key>]` conditions use.
pub trait Metadata {
    /// Whether the text under `filter` and `key` passes the test.
    fn is_text(&self, filter: &str, key: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool;

    /// Whether the value under `filter` and `key` is a list and a text in it passes the test.
    fn is_listed(&self, filter: &str, key: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool;
}
