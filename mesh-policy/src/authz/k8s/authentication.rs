use std::collections::BTreeSet;
use std::sync::Arc;

use super::metadata::{metadata, selector, target};
use crate::{
    authz::{
        peer_authentication::{MtlsMode, PeerAuthentication},
        request_authentication::{ClaimHeader, JwtRule, RequestAuthentication, TokenHeader},
    },
    manifest::{
        fault::{Problem, ReadFault},
        node::Node,
        object::Object,
    },
    matcher::port,
};

pub(super) fn read_peer(mut object: Object) -> Result<PeerAuthentication, Problem> {
    let (line, metadata) = (object.line, metadata(&mut object)?);
    let spec = object.object("spec")?;
    object.finish()?;
    let mut policy = PeerAuthentication::new(metadata.name).at_line(line);
    let Some(mut spec) = spec else { return Ok(policy) };
    if let Some(labels) = selector(&mut spec)? {
        policy = policy.selector(labels);
    }
    if let Some(mtls) = spec.object("mtls")? {
        policy = policy.mode(mode(mtls)?);
    }
    let line = spec.line_of("portLevelMtls");
    if let Some(ports) = spec.object("portLevelMtls")? {
        let mut named = BTreeSet::new();
        for (path, name, node) in ports.into_fields() {
            let number = port::parse(&name).filter(|port| *port != 0).ok_or_else(|| {
                let (field, value) = ("spec.portLevelMtls".into(), name.as_str().into());
                (node.line, ReadFault::Value { field, value })
            })?;
            if !named.insert(number) {
                let field = path.into();
                return Err((node.line, ReadFault::Duplicate { field }));
            }
            policy = policy.port(number, mode(Object::new(&path, node)?)?);
        }
        let field: Box<str> = "spec.portLevelMtls".into();
        if named.is_empty() {
            return Err((line, ReadFault::EmptyList { field }));
        }
        if !policy.has_selector() {
            return Err((line, ReadFault::UnknownField { field }));
        }
    }
    spec.finish()?;
    Ok(policy)
}

fn mode(mut mtls: Object) -> Result<MtlsMode, Problem> {
    let line = mtls.line_of("mode");
    let field = mtls.path("mode");
    let mode = match mtls.text("mode")?.as_deref() {
        None | Some("UNSET") => MtlsMode::Unset,
        Some("DISABLE") => MtlsMode::Disable,
        Some("PERMISSIVE") => MtlsMode::Permissive,
        Some("STRICT") => MtlsMode::Strict,
        Some(other) => {
            let (field, value) = (field.into(), other.into());
            return Err((line, ReadFault::Value { field, value }));
        }
    };
    mtls.finish()?;
    Ok(mode)
}

pub(super) fn read_request(mut object: Object, file: &Arc<str>) -> Result<RequestAuthentication, Problem> {
    let metadata = metadata(&mut object)?;
    let spec = object.object("spec")?;
    object.finish()?;
    let mut policy = RequestAuthentication::new(metadata.name);
    policy.file = Some(Arc::clone(file));
    let Some(mut spec) = spec else { return Ok(policy) };
    policy.target = target(&mut spec)?;
    for (at, node) in spec.list("jwtRules")?.into_iter().enumerate() {
        policy
            .rules
            .push(jwt_rule(&spec.path(&format!("jwtRules[{at}]")), node)?);
    }
    spec.finish()?;
    Ok(policy)
}

fn jwt_rule(path: &str, node: Node) -> Result<JwtRule, Problem> {
    let mut object = Object::new(path, node)?;
    let plain = |texts: Vec<(u32, String)>| texts.into_iter().map(|(_, text)| text).collect();
    let mut rule = JwtRule {
        issuer: object.text("issuer")?.unwrap_or_default(),
        audiences: plain(object.texts("audiences")?),
        jwks_uri: object.text("jwksUri")?,
        jwks: object.text("jwks")?,
        from_params: plain(object.texts("fromParams")?),
        from_cookies: plain(object.texts("fromCookies")?),
        output_payload_to_header: object.text("outputPayloadToHeader")?,
        forward_original_token: object.flag("forwardOriginalToken")?,
        space_delimited_claims: plain(object.texts("spaceDelimitedClaims")?),
        line: object.line,
        ..JwtRule::default()
    };
    if rule.issuer.is_empty() && rule.jwks_uri.is_none() {
        let field = object.path("issuer").into();
        return Err((object.line, ReadFault::Missing { field }));
    }
    for (at, node) in object.list("fromHeaders")?.into_iter().enumerate() {
        let mut header = Object::new(&object.path(&format!("fromHeaders[{at}]")), node)?;
        rule.from_headers.push(TokenHeader {
            name: header.required_text("name")?,
            prefix: header.text("prefix")?.unwrap_or_default(),
        });
        header.finish()?;
    }
    for (at, node) in object.list("outputClaimToHeaders")?.into_iter().enumerate() {
        let mut output = Object::new(&object.path(&format!("outputClaimToHeaders[{at}]")), node)?;
        rule.output_claim_to_headers.push(ClaimHeader {
            header: output.required_text("header")?,
            claim: output.required_text("claim")?,
        });
        output.finish()?;
    }
    rule.timeout = object.text("timeout")?;
    object.finish()?;
    Ok(rule)
}
