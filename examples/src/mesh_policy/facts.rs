//! The connection or request that a question is about.

mod text;

use mesh_policy::authz::k8s::{self, ReadError};
use mesh_policy::facts::PeerError;
use mesh_policy::sample::SampleRequest;
use mesh_policy::{Budget, Claim, Claims, Known, PathError, Peer, Sample};
use serde_json::Value;

pub(super) use self::text::{Written, describe};
use super::args;
use crate::manifest::{self, Unreadable};

/// What a flag has for something that is known not to be there.
const ABSENT: &str = "none";

/// Puts facts together, from a file if there is one, and from flags.
pub(super) fn sample(args: &args::Facts) -> Result<Sample, FactsError> {
    let normalization = args.path_normalization.into();
    let mut sample = match &args.facts {
        None => Sample::default(),
        Some(path) => {
            let text = manifest::read(path)?;
            k8s::read_sample(&path.display().to_string(), &text, normalization, &Budget::new())?
        }
    };
    if let Some(peer) = &args.peer {
        sample.peer = match peer.as_str() {
            ABSENT => Known::Absent,
            name => Known::Present(Peer::from_certificate(&[name.as_bytes()], &[], b"")?),
        };
    }
    sample.source_ip = args.source_ip.or(sample.source_ip);
    sample.remote_ip = args.remote_ip.or(sample.remote_ip);
    sample.destination_ip = args.destination_ip.or(sample.destination_ip);
    sample.destination_port = args.port.or(sample.destination_port);
    if let Some(name) = &args.sni {
        sample.sni = text_or_none(name);
    }
    request(args, &mut sample)?;
    Ok(sample)
}

fn request(args: &args::Facts, sample: &mut Sample) -> Result<(), FactsError> {
    if let Some(method) = &args.method {
        match &mut sample.request {
            Some(request) => request.method = method.as_bytes().into(),
            None => sample.request = Some(SampleRequest::new(method.as_bytes())),
        }
    }
    let Some(request) = &mut sample.request else {
        let has_more = args.host.is_some() || args.path.is_some() || args.no_headers || args.no_token;
        let has_lists = !args.header.is_empty() || !args.claim.is_empty();
        return if has_more || has_lists {
            Err(FactsError::NoMethod)
        } else {
            Ok(())
        };
    };
    if let Some(host) = &args.host {
        request.authority = text_or_none(host);
    }
    if let Some(path) = &args.path {
        request.path = match path.as_str() {
            ABSENT => Known::Absent,
            target => {
                let mut buffer = Vec::new();
                let mode = mesh_policy::PathNormalization::from(args.path_normalization);
                let path = mode
                    .normalize(target.as_bytes(), &mut buffer)
                    .map_err(|fault| FactsError::Path {
                        path: target.into(),
                        fault,
                    })?;
                Known::Present(path.to_owned())
            }
        };
    }
    if args.no_headers {
        request.headers = Known::Absent;
    }
    if !args.header.is_empty() {
        let mut lines = request.headers.clone().present().unwrap_or_default();
        let given = args.header.iter();
        lines.extend(given.map(|args::Line(name, value)| (name.clone(), value.clone().into_bytes())));
        request.headers = Known::Present(lines);
    }
    if args.no_token {
        request.claims = Known::Absent;
    }
    if !args.claim.is_empty() {
        let claims = request.claims.clone().present().unwrap_or_default();
        let with = |claims: Claims, args::ClaimArg(name, value): &args::ClaimArg| claims.with(name, claim(value));
        request.claims = Known::Present(args.claim.iter().fold(claims, with));
    }
    Ok(())
}

fn text_or_none(text: &str) -> Known<Box<[u8]>> {
    match text {
        ABSENT => Known::Absent,
        text => Known::Present(text.as_bytes().into()),
    }
}

/// A claim as JSON, or a text that is none.
fn claim(text: &str) -> Claim {
    serde_json::from_str(text).map_or_else(|_| Claim::text(text), of_json)
}

fn of_json(value: Value) -> Claim {
    match value {
        Value::String(text) => Claim::text(&text),
        Value::Array(items) => Claim::List(items.into_iter().map(of_json).collect()),
        Value::Object(fields) => {
            let fields = fields.into_iter();
            Claim::Object(fields.fold(Claims::default(), |claims, (name, value)| {
                claims.with(&name, of_json(value))
            }))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Claim::Other,
    }
}

/// Why a question is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum FactsError {
    #[error(transparent)]
    File(#[from] Unreadable),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("--peer: {0}")]
    Peer(#[from] PeerError),
    #[error("--path `{path}`: {fault}")]
    Path {
        path: Box<str>,
        #[source]
        fault: PathError,
    },
    #[error("--method: a request has one")]
    NoMethod,
}
