use hyper::header::{HOST, HeaderName, HeaderValue, UPGRADE};
use hyper::http::request::Parts;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{HeaderMap, Method, Request, Uri, Version};

/// How often a request was tried before, and this time: Istio has its waypoints say so.
const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");

/// The head of a request, to be written as often as it takes. Its lines are for the endpoint, whatever
/// the version of HTTP; only WebSockets, which HTTP/1.1 opens, have some that are for the connection.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    authority: Option<Authority>,
    pub(super) target: PathAndQuery,
    pub(super) headers: HeaderMap,
}

impl Head {
    /// `None` if the request has no target.
    pub(super) fn new(parts: Parts) -> Option<Self> {
        let Parts {
            method,
            uri,
            mut headers,
            ..
        } = parts;
        let uri = uri.into_parts();
        let of_line = || {
            headers
                .get(HOST)
                .and_then(|host| Authority::try_from(host.as_bytes()).ok())
        };
        let authority = uri.authority.or_else(of_line);
        headers.remove(HOST);
        Some(Self {
            target: match (uri.path_and_query, &method) {
                (Some(target), _) => target,
                (None, &Method::OPTIONS) => PathAndQuery::from_static("*"),
                (None, _) => return None,
            },
            method,
            authority,
            headers,
        })
    }

    /// Whether the connection is to go on by another protocol.
    pub(super) fn is_upgrade(&self) -> bool {
        self.headers.contains_key(UPGRADE)
    }

    /// How long the client of a call waits.
    pub(super) fn grpc_timeout(&self) -> Option<&[u8]> {
        self.headers.get("grpc-timeout").map(HeaderValue::as_bytes)
    }

    /// Writes the n-th attempt's. `None` if it cannot be.
    pub(super) fn write<B>(&self, attempt: u32, is_http2: bool, body: B) -> Option<Request<B>> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        let mut headers = self.headers.clone();
        if is_http2 {
            let uri = Uri::builder().scheme(Scheme::HTTP).path_and_query(self.target.clone());
            *request.uri_mut() = uri.authority(self.authority.clone()?).build().ok()?;
            *request.version_mut() = Version::HTTP_2;
        } else {
            *request.uri_mut() = Uri::from(self.target.clone());
            if let Some(authority) = &self.authority {
                headers.insert(HOST, HeaderValue::from_str(authority.as_str()).ok()?);
            }
        }
        headers.insert(ATTEMPT_COUNT, HeaderValue::from(attempt));
        *request.headers_mut() = headers;
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(uri: &str, lines: &[(&'static str, &'static str)]) -> Head {
        let mut request = Request::builder().uri(uri);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        Head::new(request.body(()).unwrap().into_parts().0).unwrap()
    }

    #[test]
    fn each_protocol_has_its_own_form() {
        for head in [
            head("http://shop:8080/a?b=c", &[("te", "trailers")]),
            head("/a?b=c", &[("host", "shop:8080"), ("te", "trailers")]),
        ] {
            let one = head.write(2, false, ()).unwrap();
            assert_eq!(
                (one.uri().to_string(), &one.headers()["host"]),
                ("/a?b=c".to_owned(), &"shop:8080".parse().unwrap())
            );
            assert_eq!(one.headers()["x-envoy-attempt-count"], "2");
            let two = head.write(1, true, ()).unwrap();
            assert_eq!(two.uri(), "http://shop:8080/a?b=c");
            assert_eq!(
                two.headers().keys().map(HeaderName::as_str).collect::<Vec<_>>(),
                ["te", "x-envoy-attempt-count"]
            );
        }
        assert_eq!(head("/", &[]).write(1, true, ()).map(|_| ()), None);
    }
}
