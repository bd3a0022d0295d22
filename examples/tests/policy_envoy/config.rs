//! Envoy's configuration: one listener, and in it a filter chain for each set of policies.

use mesh_policy::authz::envoy::{PeerSource, export};
use mesh_testkit::policy::wire::{FILTER, KEY};
use serde_json::{Value, json};

use crate::answer::CUSTOM;
use crate::batch::{Case, Layer};
use crate::pki::Pki;
use crate::proxy::{METADATA_TLV, NAME_TLV};
use crate::token;

/// The header that brings metadata, in a form that is no concern of policies.
pub const METADATA_HEADER: &str = "metadata-for-test";

/// Where the filters leave what they found, over each layer.
const HTTP_RBAC: &str = "envoy.filters.http.rbac";
const NETWORK_RBAC: &str = "envoy.filters.network.rbac";

/// What a line of the log is about.
pub const LOG_MARK: &str = "CONNECTION";

pub fn configuration(layer: Layer, cases: &[Case], pki: &Pki) -> String {
    let chains: Vec<_> = cases.iter().map(|case| chain(layer, case, pki)).collect();
    let metadata = json!({ "metadata_namespace": format!("envoy.filters.{FILTER}"), "key": KEY });
    let log = format!(
        "{LOG_MARK} %DYNAMIC_METADATA(test:name)% %CONNECTION_TERMINATION_DETAILS% %DYNAMIC_METADATA({NETWORK_RBAC})%\n"
    );
    let access_log = match layer {
        Layer::Http => json!([]),
        Layer::Tcp => json!([{ "name": "stdout", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
            "log_format": { "text_format_source": { "inline_string": log } },
        } }]),
    };
    let listener = json!({
        "name": "policies",
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
        "access_log": access_log,
        "listener_filters": [
            { "name": "proxy", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
                "rules": [
                    { "tlv_type": METADATA_TLV, "on_tlv_present": metadata },
                    { "tlv_type": NAME_TLV, "on_tlv_present": { "metadata_namespace": "test", "key": "name" } },
                ],
            } },
            { "name": "tls", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
            } },
        ],
        "filter_chains": chains,
    });
    json!({
        "admin": { "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } } },
        "static_resources": { "listeners": [listener] },
    })
    .to_string()
}

fn chain(layer: Layer, case: &Case, pki: &Pki) -> Value {
    let exported = serde_json::to_value(export(&case.set, PeerSource::Certificate).unwrap()).unwrap();
    let exported = exported.as_array().unwrap();
    let rbac = witnesses(exported).into_iter().chain(exported.iter().cloned());
    let filters = match layer {
        Layer::Http => vec![http_connection_manager(rbac)],
        Layer::Tcp => rbac.chain([echo()]).collect(),
    };
    let mut chain = json!({
        "name": case.source_port.to_string(),
        "filter_chain_match": { "source_ports": [case.source_port] },
        "filters": filters,
    });
    if case.is_tls {
        chain["transport_socket"] = pki.transport_socket(layer);
    }
    chain
}

/// Filters that decide nothing, each with one class of rules, which say what matched: those that
/// decide say so only if they decide.
fn witnesses(exported: &[Value]) -> Vec<Value> {
    let mut witnesses = Vec::new();
    for filter in exported {
        let config = &filter["typed_config"];
        for (field, is_tried) in [("rules", false), ("shadow_rules", true)] {
            let Some(rules) = config.get(field) else { continue };
            let name = rules["policies"].as_object().unwrap().keys().next();
            let provider = name.and_then(|name| name.strip_prefix("istio-ext-authz-")?.split('-').next());
            let class = match (rules["action"].as_str().unwrap(), provider, is_tried) {
                (_, Some(provider), true) => format!("{CUSTOM}{provider}"),
                ("LOG", None, false) => "audit".to_owned(),
                ("DENY", None, false) => "deny".to_owned(),
                ("ALLOW", None, false) => "allow".to_owned(),
                ("DENY", None, true) => "dry-deny".to_owned(),
                ("ALLOW", None, true) => "dry-allow".to_owned(),
                other => panic!("no class has {other:?}"),
            };
            let mut witness = filter.clone();
            let config = witness["typed_config"].as_object_mut().unwrap();
            config.insert("shadow_rules".to_owned(), rules.clone());
            config.insert("shadow_rules_stat_prefix".to_owned(), json!(format!("{class}_")));
            config.remove("rules");
            witnesses.push(witness);
        }
    }
    witnesses
}

fn echo() -> Value {
    json!({ "name": "echo", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo",
    } })
}

fn http_connection_manager(rbac: impl Iterator<Item = Value>) -> Value {
    let jwt = json!({ "name": "envoy.filters.http.jwt_authn", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        "providers": { "p": { "local_jwks": { "inline_string": token::keys() }, "payload_in_metadata": "payload" } },
        "rules": [{ "match": { "prefix": "/" }, "requires": { "requires_any": { "requirements": [
            { "provider_name": "p" },
            { "allow_missing": {} },
        ] } } }],
    } });
    let metadata = json!({ "name": "metadata", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config",
        "request_rules": [{
            "header": METADATA_HEADER,
            "on_header_present": { "metadata_namespace": format!("envoy.filters.{FILTER}"), "key": KEY, "type": "STRING" },
            "remove": true,
        }],
    } });
    let router = json!({ "name": "router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
    } });
    let filters: Vec<_> = [jwt, metadata].into_iter().chain(rbac).chain([router]).collect();
    let body = format!("%RESPONSE_CODE_DETAILS% %DYNAMIC_METADATA({HTTP_RBAC})%");
    json!({ "name": "http", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "policies",
        "codec_type": "HTTP2",
        "normalize_path": true,
        "http_filters": filters,
        "local_reply_config": { "body_format": { "text_format_source": { "inline_string": body } } },
        "route_config": { "virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "direct_response": { "status": 200 } }],
        }] },
    } })
}
