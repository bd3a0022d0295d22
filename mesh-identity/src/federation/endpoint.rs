use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, PoisonError, RwLock},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use thiserror::Error;

use crate::bundle::document::BundleDocument;

/// Serves one's own bundle to others (SPIFFE Federation §5): a function from requests to responses,
/// for whatever HTTP server there is.
///
/// The server in front of it authenticates by its own certificate, as the profile says under which
/// the endpoint is known, and must not ask for one of the client. New authorities belong into the
/// bundle well before they sign: three to five times its refresh hint.
///
/// ```
/// use std::time::Duration;
///
/// use http::Request;
/// use mesh_identity::{BundleDocument, federation::BundleEndpoint};
///
/// let document = BundleDocument::new("example.org".parse()?, [], [])?
///     .with_sequence(7)
///     .with_refresh_hint(Duration::from_secs(300));
/// let endpoint = BundleEndpoint::new(document.clone());
/// let response = endpoint.respond(&Request::get("/bundle").body(())?);
/// assert_eq!(response.headers()["content-type"], "application/json");
/// assert_eq!(response.body(), document.to_json().as_bytes());
/// assert!(endpoint.publish(document.with_sequence(6)).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct BundleEndpoint {
    served: RwLock<Arc<Served>>,
}

#[derive(Debug)]
struct Served {
    document: BundleDocument,
    text: Bytes,
    tag: HeaderValue,
}

impl BundleEndpoint {
    /// Serves this bundle.
    pub fn new(document: BundleDocument) -> Self {
        Self {
            served: RwLock::new(Arc::new(Served::new(document))),
        }
    }

    /// Serves this bundle from now on.
    ///
    /// # Errors
    ///
    /// The bundle is of another trust domain, or it differs from the one that was served, which has a
    /// sequence number, and does not have a higher one.
    pub fn publish(&self, document: BundleDocument) -> Result<(), UnpublishableBundle> {
        let mut served = self.served.write().unwrap_or_else(PoisonError::into_inner);
        if document == served.document {
            return Ok(());
        }
        // Readers may take a bundle without a number for newer. Whoever published that after one with a
        // number could publish any older number next.
        let drops_number = document.sequence().is_none() && served.document.sequence().is_some();
        if drops_number || !document.supersedes(&served.document) {
            return Err(UnpublishableBundle);
        }
        *served = Arc::new(Served::new(document));
        Ok(())
    }

    /// Answers a request, whatever its path. `GET` and `HEAD` are answered, with 304 to whoever has
    /// the bundle already. Caches may keep it, but have to ask each time whether it is the newest.
    pub fn respond<B>(&self, request: &Request<B>) -> Response<Bytes> {
        let served = Arc::clone(&self.served.read().unwrap_or_else(PoisonError::into_inner));
        let (status, body) = match *request.method() {
            Method::GET | Method::HEAD if served.is_held(request.headers()) => (StatusCode::NOT_MODIFIED, Bytes::new()),
            Method::GET => (StatusCode::OK, served.text.clone()),
            Method::HEAD => (StatusCode::OK, Bytes::new()),
            _ => (StatusCode::METHOD_NOT_ALLOWED, Bytes::new()),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::ETAG, served.tag.clone());
        if status == StatusCode::OK {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(served.text.len()));
        }
        response
    }
}

impl Served {
    fn new(document: BundleDocument) -> Self {
        let text = document.to_json();
        // Nothing but the text decides, so that several servers of one bundle agree.
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let tag = format!("\"{:016x}-{}\"", hasher.finish(), text.len());
        Self {
            document,
            text: Bytes::from(text),
            // Hexadecimal digits and quotes fit into a header.
            tag: HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"\"")),
        }
    }

    /// Whether the client has this text, by its `If-None-Match` (RFC 9110 §13.1.2).
    fn is_held(&self, headers: &HeaderMap) -> bool {
        let tags = headers.get_all(header::IF_NONE_MATCH).into_iter();
        tags.flat_map(|tags| tags.as_bytes().split(|byte| *byte == b','))
            .map(|tag| tag.trim_ascii())
            .any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == self.tag.as_bytes())
    }
}

/// A bundle that is of another trust domain than the one that is served, or differs from it without a
/// higher sequence number (SPIFFE Trust Domain and Bundle §4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the bundle does not follow the one that is served")]
pub struct UnpublishableBundle;

#[cfg(test)]
mod tests {
    use super::*;

    fn document(sequence: u64) -> BundleDocument {
        let trust_domain = "example.org".parse().unwrap();
        BundleDocument::new(trust_domain, [], [])
            .unwrap()
            .with_sequence(sequence)
    }

    fn respond(endpoint: &BundleEndpoint, method: &str, held: Option<&str>) -> Response<Bytes> {
        let mut request = Request::builder().method(method).uri("/any");
        if let Some(tag) = held {
            request = request.header("if-none-match", tag);
        }
        endpoint.respond(&request.body(()).unwrap())
    }

    #[test]
    fn the_newest_bundle_is_served_to_anybody() {
        let endpoint = BundleEndpoint::new(document(1));
        assert_eq!(respond(&endpoint, "GET", None).body(), document(1).to_json().as_bytes());
        endpoint.publish(document(2)).unwrap();
        let response = respond(&endpoint, "GET", None);
        assert_eq!(response.status(), 200);
        assert_eq!(response.body(), document(2).to_json().as_bytes());
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.headers()["cache-control"], "no-cache");
        let head = respond(&endpoint, "HEAD", None);
        assert!(head.body().is_empty());
        assert_eq!(head.headers(), response.headers());
    }

    #[test]
    fn who_has_it_is_not_sent_it_again() {
        let endpoint = BundleEndpoint::new(document(1));
        let tag = respond(&endpoint, "GET", None).headers()["etag"]
            .to_str()
            .unwrap()
            .to_owned();
        let lists = [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()];
        for held in &lists {
            for method in ["GET", "HEAD"] {
                let response = respond(&endpoint, method, Some(held));
                assert_eq!(response.status(), 304, "{held}");
                assert!(response.body().is_empty());
                assert_eq!(response.headers()["etag"], tag.as_str());
            }
        }
        for held in ["", "\"x\"", ",", tag.trim_matches('"')] {
            assert_eq!(respond(&endpoint, "GET", Some(held)).status(), 200, "{held}");
        }
        endpoint.publish(document(2)).unwrap();
        assert_eq!(respond(&endpoint, "GET", Some(&tag)).status(), 200);
    }

    #[test]
    fn other_methods_are_not_for_bundles() {
        let endpoint = BundleEndpoint::new(document(1));
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "X"] {
            let response = respond(&endpoint, method, None);
            assert_eq!(response.status(), 405);
            assert_eq!(response.headers()["allow"], "GET, HEAD");
        }
    }

    #[test]
    fn a_bundle_changes_with_a_higher_sequence_number_only() {
        let unnumbered = || BundleDocument::new("example.org".parse().unwrap(), [], []).unwrap();
        let endpoint = BundleEndpoint::new(unnumbered());
        let changed = unnumbered().with_refresh_hint(std::time::Duration::from_secs(1));
        assert_eq!(
            endpoint.publish(changed),
            Ok(()),
            "there is no number to be higher than"
        );
        assert_eq!(endpoint.publish(document(2)), Ok(()));
        assert_eq!(endpoint.publish(document(2)), Ok(()));
        for other in [
            document(1),
            unnumbered(),
            document(2).with_refresh_hint(std::time::Duration::from_secs(1)),
            BundleDocument::new("other.example".parse().unwrap(), [], []).unwrap(),
        ] {
            assert_eq!(endpoint.publish(other), Err(UnpublishableBundle));
        }
        assert_eq!(respond(&endpoint, "GET", None).body(), document(2).to_json().as_bytes());
    }
}
