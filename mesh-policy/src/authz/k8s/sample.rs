use crate::{
    budget::Budget,
    facts::{Claim, Claims, Known, Peer},
    manifest::{
        fault::{Problem, ReadError, ReadFault},
        node::{Documents, Kind, Node},
        object::{Object, text, wrong},
    },
    matcher::port,
    normalize::PathNormalization,
    sample::{FilterMetadata, Found, Sample, SampleRequest},
};

/// What a file has for something that is known not to be there.
const ABSENT: &str = "none";

/// Reads a connection or a request from a file of YAML or JSON: one mapping, in which what is left
/// out is unavailable, and what is `none` is absent.
///
/// | field | value |
/// |---|---|
/// | `peer` | a SPIFFE ID, or a mapping with the certificate's `uris`, `dns` and `subject` |
/// | `sourceIp`, `remoteIp`, `destinationIp` | an address |
/// | `port` | the destination's port |
/// | `sni` | a server name |
/// | `metadata` | a mapping of filters to keys to texts, or lists of them |
/// | `request.method` | a method; without it, there is no request |
/// | `request.host` | the authority, with the port if the request has one |
/// | `request.path` | the path, with the query if there is one; it is normalized |
/// | `request.headers` | all header lines: a mapping of names to values, or lists of them |
/// | `request.claims` | the claims of a verified token |
///
/// ```
/// use mesh_policy::{Budget, Known, PathNormalization, authz::k8s};
///
/// let file = "{peer: none, port: 8080, request: {method: GET, path: /a/../cart}}";
/// let sample = k8s::read_sample("facts.yaml", file, PathNormalization::Base, &Budget::new())?;
/// assert_eq!(sample.peer, Known::Absent);
/// let path = sample.request.and_then(|request| request.path.present());
/// assert!(path.is_some_and(|path| path.borrowed().path() == b"/cart"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// The first problem of the file.
pub fn read_sample(
    file: &str,
    text: &str,
    normalization: PathNormalization,
    budget: &Budget,
) -> Result<Sample, ReadError> {
    let read = || {
        let mut documents = Documents::new(text, budget);
        let Some(document) = documents.next().transpose()? else {
            return Err(wrong(1, "", "a mapping"));
        };
        if let Some(second) = documents.next().transpose()? {
            return Err(wrong(second.line, "", "the only one in its file"));
        }
        sample(Object::new("", document)?, normalization)
    };
    read().map_err(|(line, fault)| ReadError {
        file: file.into(),
        line,
        fault,
    })
}

fn sample(mut object: Object, normalization: PathNormalization) -> Result<Sample, Problem> {
    let sample = Sample {
        peer: known(&mut object, "peer", peer)?,
        source_ip: parsed(&mut object, "sourceIp", |text| text.parse().ok())?,
        remote_ip: parsed(&mut object, "remoteIp", |text| text.parse().ok())?,
        destination_ip: parsed(&mut object, "destinationIp", |text| text.parse().ok())?,
        destination_port: parsed(&mut object, "port", port::parse)?,
        sni: known(&mut object, "sni", bytes)?,
        metadata: known(&mut object, "metadata", metadata)?,
        request: match object.object("request")? {
            Some(request) => Some(self::request(request, normalization)?),
            None => None,
        },
    };
    object.finish()?;
    Ok(sample)
}

fn request(mut object: Object, normalization: PathNormalization) -> Result<SampleRequest, Problem> {
    let mut request = SampleRequest::new(object.required_text("method")?.as_bytes());
    request.authority = known(&mut object, "host", bytes)?;
    request.path = known(&mut object, "path", |path, node| {
        let (line, target) = text(path, node)?;
        let mut buffer = Vec::new();
        let path = normalization
            .normalize(target.as_bytes(), &mut buffer)
            .map_err(|fault| {
                (
                    line,
                    ReadFault::Path {
                        path: target.into(),
                        fault,
                    },
                )
            })?;
        Ok(Known::Present(path.to_owned()))
    })?;
    request.headers = known(&mut object, "headers", |path, node| {
        let mut lines = Vec::new();
        for (path, name, node) in Object::new(path, node)?.into_fields() {
            for value in texts(&path, node)? {
                lines.push((name.clone(), value.into_bytes()));
            }
        }
        Ok(Known::Present(lines))
    })?;
    request.claims = known(&mut object, "claims", |path, node| {
        Ok(Known::Present(claims(Object::new(path, node)?)))
    })?;
    object.finish()?;
    Ok(request)
}

/// A field that may be there, may be known not to be there, or is not known.
fn known<T>(
    object: &mut Object,
    name: &str,
    read: impl FnOnce(&str, Node) -> Result<Known<T>, Problem>,
) -> Result<Known<T>, Problem> {
    let path = object.path(name);
    match object.take(name) {
        None => Ok(Known::Unavailable),
        Some(node) if node.kind == Kind::Text(ABSENT.to_owned()) => Ok(Known::Absent),
        Some(node) => read(&path, node),
    }
}

fn bytes(path: &str, node: Node) -> Result<Known<Box<[u8]>>, Problem> {
    let (_, text) = text(path, node)?;
    Ok(Known::Present(text.as_bytes().into()))
}

fn parsed<T>(object: &mut Object, name: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, Problem> {
    let path = object.path(name);
    let Some(node) = object.take(name) else { return Ok(None) };
    let (line, text) = text(&path, node)?;
    match parse(&text) {
        Some(value) => Ok(Some(value)),
        None => {
            let (field, value) = (path.into(), text.into());
            Err((line, ReadFault::Value { field, value }))
        }
    }
}

fn peer(path: &str, node: Node) -> Result<Known<Peer>, Problem> {
    let line = node.line;
    let (uris, dns, subject) = match node.kind {
        Kind::Text(uri) => (vec![uri], Vec::new(), None),
        _ => {
            let mut names = Object::new(path, node)?;
            let (uris, dns, subject) = (names.texts("uris")?, names.texts("dns")?, names.text("subject")?);
            names.finish()?;
            let text = |(_, text): (u32, String)| text;
            (
                uris.into_iter().map(text).collect::<Vec<_>>(),
                dns.into_iter().map(text).collect(),
                subject,
            )
        }
    };
    let uris: Vec<&[u8]> = uris.iter().map(String::as_bytes).collect();
    let dns: Vec<&[u8]> = dns.iter().map(String::as_bytes).collect();
    let peer = Peer::from_certificate(&uris, &dns, subject.unwrap_or_default().as_bytes());
    peer.map(Known::Present).map_err(|fault| (line, fault.into()))
}

fn texts(path: &str, node: Node) -> Result<Vec<String>, Problem> {
    match node.kind {
        Kind::List(items) => {
            let items = items.into_iter().enumerate();
            items
                .map(|(at, node)| Ok(text(&format!("{path}[{at}]"), node)?.1))
                .collect()
        }
        _ => Ok(vec![text(path, node)?.1]),
    }
}

fn metadata(path: &str, node: Node) -> Result<Known<FilterMetadata>, Problem> {
    let mut all = FilterMetadata::new();
    for (path, filter, node) in Object::new(path, node)?.into_fields() {
        for (path, key, node) in Object::new(&path, node)?.into_fields() {
            let found = match node.kind {
                Kind::List(_) => Found::List(texts(&path, node)?.into_iter().map(Into::into).collect()),
                _ => Found::Text(text(&path, node)?.1.into()),
            };
            all.insert((filter.as_str().into(), key.into()), found);
        }
    }
    Ok(Known::Present(all))
}

fn claims(object: Object) -> Claims {
    object.into_fields().fold(Claims::default(), |claims, (_, name, node)| {
        claims.with(&name, claim(node))
    })
}

fn claim(node: Node) -> Claim {
    match node.kind {
        Kind::Text(text) if node.plain && is_no_text(&text) => Claim::Other,
        Kind::Text(text) => Claim::Text(text.into()),
        Kind::Null => Claim::Other,
        Kind::List(items) => Claim::List(items.into_iter().map(claim).collect()),
        Kind::Map(fields) => Claim::Object(fields.into_iter().fold(Claims::default(), |claims, (name, node)| {
            claims.with(&name, claim(node))
        })),
    }
}

/// Whether text without quotes is a number or a truth value.
fn is_no_text(text: &str) -> bool {
    matches!(text, "true" | "false") || text.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Sample, String> {
        read_sample("f.yaml", text, PathNormalization::Base, &Budget::new()).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_every_field() {
        let text = "
peer: {uris: ['spiffe://td/ns/a/sa/b'], dns: [a.example]}
sourceIp: 10.0.0.1
remoteIp: fd00::1
destinationIp: 10.0.0.2
port: 8080
sni: a.example
metadata: {f: {k: v, l: [w]}}
request:
  method: GET
  host: shop.example:8080
  path: /a/./b?c
  headers: {x-one: a, x-two: [b, c]}
  claims: {iss: i, sub: \"5\", age: 5, groups: [dev], realm: {roles: [admin]}}
";
        let sample = read(text).unwrap();
        assert_eq!(sample.peer.as_ref().present().unwrap().names().len(), 2);
        assert_eq!(sample.destination_port, Some(8080));
        let metadata = sample.metadata.clone().present().unwrap();
        assert_eq!(metadata[&("f".into(), "l".into())], Found::List(vec!["w".into()]));
        let request = sample.request.clone().unwrap();
        assert_eq!(request.path.present().unwrap().borrowed().target(), b"/a/b?c");
        assert_eq!(request.headers.present().unwrap().len(), 3);
        let claims = request.claims.present().unwrap();
        assert_eq!(
            (claims.text("sub"), claims.get("age")),
            (Some("5"), Some(&Claim::Other))
        );
        assert!(sample.with(|facts| facts.is_request()));
    }

    #[test]
    fn what_is_left_out_is_unavailable_and_none_is_absent() {
        let sample = read("{peer: none}").unwrap();
        assert_eq!(sample.peer, Known::Absent);
        assert_eq!((sample.source_ip, sample.request), (None, None));
        let request = read("request: {method: GET, claims: none}").unwrap().request.unwrap();
        assert_eq!((request.claims, request.path), (Known::Absent, Known::Unavailable));
        assert_eq!(request.headers, Known::Unavailable);
        let request = read("request: {method: GET, headers: none}").unwrap().request.unwrap();
        assert_eq!(request.headers, Known::Absent);
    }

    #[test]
    fn an_error_names_file_line_and_field() {
        for (text, expected) in [
            ("port: http", "f.yaml:1: `port` cannot be `http`"),
            ("port: 80\nsourceIp: here", "f.yaml:2: `sourceIp` cannot be `here`"),
            ("request:\n  methd: GET", "f.yaml:2: `request.method` is missing"),
            (
                "request: {method: GET, pth: /}",
                "f.yaml:1: there is no field `request.pth`",
            ),
            (
                "request: {method: GET, path: a}",
                "f.yaml:1: `a`: the path does not begin with `/`",
            ),
            ("- a", "f.yaml:1: `the document` is not a mapping"),
            ("", "f.yaml:1: `the document` is not a mapping"),
            (
                "a: b\n---\na: b",
                "f.yaml:3: `the document` is not the only one in its file",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), expected, "{text}");
        }
    }
}
