//! Envoy as a waypoint, wired as Istio wires it: a listener that takes tunnels, an internal one with a
//! filter chain for each service, and an internal one that opens tunnels to endpoints.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::world::{APP_PORT, HBONE_PORT, SERVICE_PORT, Service, World};

/// The type of an extension's configuration begins so.
const EXTENSIONS: &str = "type.googleapis.com/envoy.extensions";

/// Where internal listeners find out where a connection goes.
const ORIGINAL_DST: &str = "envoy.filters.listener.original_dst";

/// What a cluster speaks.
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Who the client is, for the second listener.
const PEER: &str = "io.istio.peer_principal";

/// Writes the configuration for so many services.
pub fn configure(world: &World, services: u16, admin: SocketAddr) -> io::Result<PathBuf> {
    let services: Vec<_> = world.services(services).collect();
    let mut listeners = vec![terminate(world), originate()];
    if !services.is_empty() {
        listeners.push(dispatch(&services));
    }
    let mut clusters = vec![internal("main_internal", "main_internal", None), tunnels(world)];
    clusters.extend(services.iter().map(|service| {
        let endpoint = SocketAddr::new(service.endpoint, APP_PORT);
        internal(&service.name(), "connect_originate", Some(endpoint))
    }));
    let internal_listeners = typed("bootstrap.internal_listener.v3.InternalListener");
    let bootstrap = json!({
        "bootstrap_extensions": [{ "name": "envoy.bootstrap.internal_listener", "typed_config": internal_listeners }],
        "admin": { "address": address(admin) },
        "static_resources": { "listeners": listeners, "clusters": clusters },
    });
    world.pki.write("envoy.json", &bootstrap.to_string())
}

/// Takes tunnels, and hands what is in them on with where it goes and who the client is.
fn terminate(world: &World) -> Value {
    let mut tls = typed("transport_sockets.tls.v3.DownstreamTlsContext");
    tls["require_client_certificate"] = true.into();
    tls["common_tls_context"] = mutual_tls(world);
    let hand_on = |key: &str, factory: Option<&str>, value: &str| {
        let mut object = json!({
            "object_key": key,
            "shared_with_upstream": "ONCE",
            "format_string": { "text_format_source": { "inline_string": value } },
        });
        if let Some(factory) = factory {
            object["factory_key"] = factory.into();
        }
        object
    };
    let text = Some("envoy.hashable_string");
    let mut state = typed("filters.http.set_filter_state.v3.Config");
    state["on_request_headers"] = json!([
        hand_on(&format!("{ORIGINAL_DST}.local_ip"), None, "%REQ(:AUTHORITY)%"),
        hand_on(
            &format!("{ORIGINAL_DST}.remote_ip"),
            None,
            "%DOWNSTREAM_REMOTE_ADDRESS%"
        ),
        hand_on(PEER, text, "%DOWNSTREAM_PEER_URI_SAN%"),
        hand_on("io.istio.local_principal", text, "%DOWNSTREAM_LOCAL_URI_SAN%"),
    ]);
    let mut manager = typed("filters.network.http_connection_manager.v3.HttpConnectionManager");
    let connect = json!({ "upgrade_type": "CONNECT" });
    manager["stat_prefix"] = "connect_terminate".into();
    manager["stream_idle_timeout"] = "0s".into();
    manager["http2_protocol_options"] = json!({ "allow_connect": true, "max_concurrent_streams": 100 });
    manager["upgrade_configs"] = json!([connect]);
    manager["route_config"] = json!({ "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [{
        "match": { "connect_matcher": {} },
        "route": {
            "cluster": "main_internal",
            "timeout": "0s",
            "upgrade_configs": [{ "upgrade_type": "CONNECT", "connect_config": {} }],
        },
    }] }] });
    manager["http_filters"] = json!([
        { "name": "connect_authority", "typed_config": state },
        router(),
    ]);
    json!({
        "name": "connect_terminate",
        "address": address(world.waypoint()),
        "filter_chains": [{
            "transport_socket": { "name": "tls", "typed_config": tls },
            "filters": [{ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager }],
        }],
    })
}

/// Has a filter chain for each service, found by its address and port.
fn dispatch(services: &[Service]) -> Value {
    let input = |name: &str, message: &str| json!({ "name": name, "typed_config": typed(&format!("matching.common_inputs.network.v3.{message}")) });
    let ranges: Vec<_> = services
        .iter()
        .map(|service| {
            let chain = json!({
                "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": service.name(),
            });
            json!({
                "ranges": [{ "address_prefix": service.vip, "prefix_len": 32 }],
                "on_match": { "matcher": { "matcher_tree": {
                    "input": input("port", "DestinationPortInput"),
                    "exact_match_map": { "map": {
                        SERVICE_PORT.to_string(): { "action": { "name": "chain", "typed_config": chain } },
                    } },
                } } },
            })
        })
        .collect();
    let chains: Vec<_> = services
        .iter()
        .map(|service| json!({ "name": service.name(), "filters": [requests(*service)] }))
        .collect();
    json!({
        "name": "main_internal",
        "internal_listener": {},
        "listener_filters": [original_dst()],
        "filter_chain_matcher": { "matcher_tree": {
            "input": input("ip", "DestinationIPInput"),
            "custom_match": { "name": "ip", "typed_config": {
                "@type": "type.googleapis.com/xds.type.matcher.v3.IPMatcher",
                "range_matchers": ranges,
            } },
        } },
        "filter_chains": chains,
    })
}

/// Authorizes by the identity of the tunnel, and routes.
fn requests(service: Service) -> Value {
    let mut rbac = typed("filters.http.rbac.v3.RBAC");
    rbac["rules"] = json!({ "action": "DENY", "policies": { "no-admin-for-client": {
        "permissions": [{ "url_path": { "path": { "prefix": "/admin" } } }],
        "principals": [{ "filter_state": { "key": PEER, "string_match": { "suffix": "/sa/client" } } }],
    } } });
    let mut xfcc = typed("filters.http.header_mutation.v3.HeaderMutation");
    xfcc["mutations"] = json!({ "request_mutations": [{ "append": {
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        "header": {
            "key": "x-forwarded-client-cert",
            "value": "By=%FILTER_STATE(io.istio.local_principal:PLAIN)%;URI=%FILTER_STATE(io.istio.peer_principal:PLAIN)%",
        },
    } }] });
    let retries = json!({ "retry_on": "connect-failure,refused-stream,unavailable,cancelled", "num_retries": 2 });
    let to = |rewrite: &str| json!({ "cluster": service.name(), "timeout": "0s", "retry_policy": retries, "prefix_rewrite": rewrite });
    let mut manager = typed("filters.network.http_connection_manager.v3.HttpConnectionManager");
    manager["stat_prefix"] = service.name().into();
    manager["forward_client_cert_details"] = "ALWAYS_FORWARD_ONLY".into();
    manager["http_filters"] = json!([
        { "name": "xfcc", "typed_config": xfcc },
        { "name": "envoy.filters.http.rbac", "typed_config": rbac },
        { "name": "envoy.filters.http.fault", "typed_config": typed("filters.http.fault.v3.HTTPFault") },
        { "name": "envoy.filters.http.cors", "typed_config": typed("filters.http.cors.v3.Cors") },
        router(),
    ]);
    manager["route_config"] = json!({ "name": service.name(), "virtual_hosts": [{
        "name": service.name(),
        "domains": ["*"],
        "routes": [
            {
                "match": { "path_separated_prefix": "/old" },
                "route": to("/new"),
            },
            {
                "match": { "prefix": "/", "headers": [{ "name": "x-canary", "string_match": { "exact": "yes" } }] },
                "route": to(""),
            },
            { "match": { "prefix": "/" }, "route": to("") },
        ],
    }] });
    json!({ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager })
}

/// Opens a tunnel for each connection to an endpoint.
fn originate() -> Value {
    let mut proxy = typed("filters.network.tcp_proxy.v3.TcpProxy");
    proxy["stat_prefix"] = "connect_originate".into();
    proxy["cluster"] = "connect_originate".into();
    proxy["tunneling_config"] = json!({ "hostname": "%DOWNSTREAM_LOCAL_ADDRESS%" });
    json!({
        "name": "connect_originate",
        "internal_listener": {},
        "listener_filters": [original_dst()],
        "filter_chains": [{ "filters": [{ "name": "envoy.filters.network.tcp_proxy", "typed_config": proxy }] }],
    })
}

/// HBONE connections to wherever an internal connection goes.
fn tunnels(world: &World) -> Value {
    let mut tls = typed("transport_sockets.tls.v3.UpstreamTlsContext");
    tls["common_tls_context"] = mutual_tls(world);
    let mut options = typed("upstreams.http.v3.HttpProtocolOptions");
    options["common_http_protocol_options"] = json!({ "idle_timeout": "3600s" });
    options["explicit_http_config"] = json!({ "http2_protocol_options": { "allow_connect": true } });
    json!({
        "name": "connect_originate",
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": "2s",
        "cleanup_interval": "60s",
        "original_dst_lb_config": { "upstream_port_override": HBONE_PORT },
        "typed_extension_protocol_options": { HTTP_OPTIONS: options },
        "transport_socket": { "name": "tls", "typed_config": tls },
    })
}

/// A cluster whose one endpoint is an internal listener, which is told where to go on, in the version
/// of HTTP that requests came in.
fn internal(name: &str, listener: &str, endpoint: Option<SocketAddr>) -> Value {
    let mut socket = typed("transport_sockets.internal_upstream.v3.InternalUpstreamTransport");
    socket["transport_socket"] = json!({
        "name": "raw_buffer",
        "typed_config": typed("transport_sockets.raw_buffer.v3.RawBuffer"),
    });
    let mut internal_address = json!({ "server_listener_name": listener });
    let mut host = json!({});
    if let Some(endpoint) = endpoint {
        socket["passthrough_metadata"] = json!([{ "kind": { "host": {} }, "name": ORIGINAL_DST }]);
        internal_address["endpoint_id"] = endpoint.to_string().into();
        host["metadata"] = json!({ "filter_metadata": { ORIGINAL_DST: { "local": endpoint.to_string() } } });
    }
    host["endpoint"] = json!({ "address": { "envoy_internal_address": internal_address } });
    let mut options = typed("upstreams.http.v3.HttpProtocolOptions");
    options["use_downstream_protocol_config"] = json!({ "http2_protocol_options": {} });
    json!({
        "name": name,
        "type": "STATIC",
        "lb_policy": "LEAST_REQUEST",
        "typed_extension_protocol_options": { HTTP_OPTIONS: options },
        "transport_socket": { "name": "internal_upstream", "typed_config": socket },
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [host] }] },
    })
}

fn mutual_tls(world: &World) -> Value {
    json!({
        "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
        "alpn_protocols": ["h2"],
        "tls_certificates": [{
            "certificate_chain": { "filename": world.pki.cert("waypoint") },
            "private_key": { "filename": world.pki.key("waypoint") },
        }],
        "validation_context": {
            "trusted_ca": { "filename": world.pki.roots() },
            "match_typed_subject_alt_names": [{ "san_type": "URI", "matcher": { "prefix": World::anybody() } }],
        },
    })
}

fn original_dst() -> Value {
    json!({ "name": ORIGINAL_DST, "typed_config": typed("filters.listener.original_dst.v3.OriginalDst") })
}

fn router() -> Value {
    json!({ "name": "envoy.filters.http.router", "typed_config": typed("filters.http.router.v3.Router") })
}

/// The configuration of an extension that says no more than what it is.
fn typed(message: &str) -> Value {
    json!({ "@type": format!("{EXTENSIONS}.{message}") })
}

fn address(addr: SocketAddr) -> Value {
    json!({ "socket_address": { "address": addr.ip(), "port_value": addr.port() } })
}
