//! Facts as they are printed: for people, and as a file that can be read again.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mesh_policy::sample::{Found, SampleRequest};
use mesh_policy::{Claim, Claims, Known, Peer, Sample};
use serde::Serialize;
use serde_json::Value;

/// Facts as a file has them: what is unavailable is left out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination_ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<WrittenRequest>,
}

#[derive(Debug, Serialize)]
struct WrittenRequest {
    method: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claims: Option<Value>,
}

impl From<&Sample> for Written {
    fn from(sample: &Sample) -> Self {
        Self {
            peer: written(&sample.peer, peer),
            source_ip: sample.source_ip,
            remote_ip: sample.remote_ip,
            destination_ip: sample.destination_ip,
            port: sample.destination_port,
            sni: written(&sample.sni, |name| text(name).into()),
            metadata: written(&sample.metadata, metadata),
            request: sample.request.as_ref().map(WrittenRequest::from),
        }
    }
}

impl From<&SampleRequest> for WrittenRequest {
    fn from(request: &SampleRequest) -> Self {
        Self {
            method: text(&request.method),
            host: written(&request.authority, |host| text(host).into()),
            path: written(&request.path, |path| text(path.borrowed().target()).into()),
            headers: written(&request.headers, |lines| headers(lines)),
            claims: written(&request.claims, claims),
        }
    }
}

/// Facts in a few words: `GET shop.example/cart, from spiffe://…, without a token`.
pub(crate) fn describe(sample: &Sample) -> String {
    let mut line = match &sample.request {
        None => "a connection".to_owned(),
        Some(request) => {
            let host = request
                .authority
                .as_ref()
                .present()
                .map_or(String::new(), |host| text(host));
            let path = request.path.as_ref().present();
            let path = path.map_or(String::new(), |path| text(path.borrowed().target()));
            format!("{} {host}{path}", text(&request.method)).trim_end().to_owned()
        }
    };
    let mut add = |words: String| line += &format!(", {words}");
    match &sample.peer {
        Known::Present(peer) => add(format!("from {}", names(peer).join(" and "))),
        Known::Absent => add("without a certificate".to_owned()),
        Known::Unavailable => {}
    }
    for (label, address) in [
        ("source", &sample.source_ip),
        ("client", &sample.remote_ip),
        ("to", &sample.destination_ip),
    ] {
        if let Some(address) = address {
            add(format!("{label} {address}"));
        }
    }
    if let Some(port) = sample.destination_port {
        add(format!("port {port}"));
    }
    if let Known::Present(name) = &sample.sni {
        add(format!("server name {}", text(name)));
    }
    if let Known::Present(found) = &sample.metadata
        && !found.is_empty()
    {
        add(format!("metadata {}", metadata(found)));
    }
    match sample.request.as_ref().map(|request| &request.headers) {
        Some(Known::Present(lines)) => {
            for (name, value) in lines {
                add(format!("{name}: {}", text(value)));
            }
        }
        Some(Known::Absent) => add("without headers".to_owned()),
        Some(Known::Unavailable) | None => {}
    }
    match sample.request.as_ref().map(|request| &request.claims) {
        Some(Known::Present(all)) => add(format!("token {}", claims(all))),
        Some(Known::Absent) => add("without a token".to_owned()),
        Some(Known::Unavailable) | None => {}
    }
    line
}

fn written<T>(known: &Known<T>, write: impl FnOnce(&T) -> Value) -> Option<Value> {
    match known {
        Known::Present(value) => Some(write(value)),
        Known::Absent => Some("none".into()),
        Known::Unavailable => None,
    }
}

fn names(peer: &Peer) -> Vec<String> {
    peer.names().iter().map(|name| text(name.text())).collect()
}

/// One URI by itself, or all names. Policies do not tell a DNS name from a subject.
fn peer(peer: &Peer) -> Value {
    let names = names(peer);
    let (uris, others) = names.split_at(peer.uris().len().min(names.len()));
    match (uris, others) {
        ([uri], []) => uri.as_str().into(),
        _ => serde_json::json!({ "uris": uris, "dns": others }),
    }
}

fn headers(lines: &[(String, Vec<u8>)]) -> Value {
    let mut headers = BTreeMap::<&str, Vec<String>>::new();
    for (name, value) in lines {
        headers.entry(name).or_default().push(text(value));
    }
    serde_json::json!(headers)
}

fn metadata(found: &BTreeMap<(Box<str>, Box<str>), Found>) -> Value {
    let mut filters = serde_json::Map::new();
    for ((filter, key), found) in found {
        let value = match found {
            Found::Text(text) => Value::from(&**text),
            Found::List(texts) => texts.iter().map(|text| &**text).collect(),
        };
        let keys = filters
            .entry(&**filter)
            .or_insert_with(|| Value::Object(serde_json::Map::new()));
        if let Value::Object(keys) = keys {
            keys.insert(key.to_string(), value);
        }
    }
    Value::Object(filters)
}

fn claims(claims: &Claims) -> Value {
    let fields = claims.iter().map(|(name, value)| (name.to_owned(), claim(value)));
    Value::Object(fields.collect())
}

fn claim(value: &Claim) -> Value {
    match value {
        Claim::Text(text) => Value::from(&**text),
        Claim::List(items) => items.iter().map(claim).collect(),
        Claim::Object(inner) => claims(inner),
        _ => Value::Null,
    }
}

/// Bytes as text; each that is none is written as an escape, so that the line stays one.
fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character.is_control() {
                true => text.extend(character.escape_default()),
                false => text.push(character),
            }
        }
        for byte in chunk.invalid() {
            text += &format!("\\x{byte:02x}");
        }
    }
    text
}
