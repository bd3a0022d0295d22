//! What is spoken on ports, by Istio's rules for its explicit selection of protocols.

use mesh_xds_types::workload::AppProtocol;

/// Ports of protocols in which servers speak first, so that looking at what comes is of no use: SMTP,
/// DNS, MySQL and MongoDB. Where nothing is declared they are not looked at.
const SERVER_FIRST: [u16; 4] = [25, 53, 3306, 27017];

/// What a Service declares a port to be: by `appProtocol` if that is there, or else by the port's name,
/// up to the first dash.
pub(super) fn of_service(number: u16, name: Option<&str>, declared: Option<&str>) -> AppProtocol {
    let text = match declared {
        Some("kubernetes.io/h2c") => "http2",
        Some("kubernetes.io/ws") => "http",
        Some("kubernetes.io/wss") => "https",
        declared => declared.or(name).unwrap_or_default(),
    };
    let is_grpc_web = text
        .get(..GRPC_WEB.len())
        .is_some_and(|text| text.eq_ignore_ascii_case(GRPC_WEB));
    let word = text.split('-').next().unwrap_or_default();
    match of_word(if is_grpc_web { GRPC_WEB } else { word }) {
        Some(protocol) => protocol,
        None if SERVER_FIRST.contains(&number) => AppProtocol::Tcp,
        None => AppProtocol::Unknown,
    }
}

/// What a ServiceEntry declares a port to be.
pub(super) fn of_entry(declared: Option<&str>) -> AppProtocol {
    declared.and_then(of_word).unwrap_or(AppProtocol::Unknown)
}

/// It has a dash of its own, and no protocol of its own: it is HTTP of either version.
const GRPC_WEB: &str = "grpc-web";

/// A protocol by its name; `None` if it is none that Istio knows.
fn of_word(word: &str) -> Option<AppProtocol> {
    Some(match &*word.to_ascii_lowercase() {
        "http" => AppProtocol::Http11,
        "http2" => AppProtocol::Http2,
        "grpc" => AppProtocol::Grpc,
        "https" | "tls" => AppProtocol::Tls,
        "tcp" | "mongo" | "mysql" | "redis" => AppProtocol::Tcp,
        GRPC_WEB | "http_proxy" => AppProtocol::Unknown,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_declare_by_field_or_by_name() {
        for (number, name, declared, expected) in [
            (80, Some("http"), None, AppProtocol::Http11),
            (80, Some("HTTP-web"), None, AppProtocol::Http11),
            (80, Some("http2-web"), None, AppProtocol::Http2),
            (80, Some("grpc-v1"), None, AppProtocol::Grpc),
            (80, Some("grpc-web"), None, AppProtocol::Unknown),
            (80, Some("gRPC-Web-v1"), None, AppProtocol::Unknown),
            (80, Some("grpcs"), None, AppProtocol::Unknown),
            (443, Some("https"), None, AppProtocol::Tls),
            (443, Some("tls-db"), None, AppProtocol::Tls),
            (80, Some("tcp"), None, AppProtocol::Tcp),
            (80, Some("mysql-ro"), None, AppProtocol::Tcp),
            (80, Some("redis"), None, AppProtocol::Tcp),
            (80, Some("mongo"), None, AppProtocol::Tcp),
            (80, Some("web"), None, AppProtocol::Unknown),
            (80, Some("web-http"), None, AppProtocol::Unknown),
            (80, None, None, AppProtocol::Unknown),
            // The field counts before the name, also where it says nothing that is known.
            (80, Some("http"), Some("tcp"), AppProtocol::Tcp),
            (80, Some("http"), Some("example.com/own"), AppProtocol::Unknown),
            (80, None, Some("kubernetes.io/h2c"), AppProtocol::Http2),
            (80, None, Some("kubernetes.io/ws"), AppProtocol::Http11),
            (80, None, Some("kubernetes.io/wss"), AppProtocol::Tls),
            (3306, None, None, AppProtocol::Tcp),
            (3306, Some("db"), None, AppProtocol::Tcp),
            (3306, Some("http"), None, AppProtocol::Http11),
        ] {
            let found = of_service(number, name, declared);
            assert_eq!(found, expected, "{number} {name:?} {declared:?}");
        }
    }

    #[test]
    fn entries_declare_by_their_field() {
        for (declared, expected) in [
            (Some("HTTP"), AppProtocol::Http11),
            (Some("GRPC"), AppProtocol::Grpc),
            (Some("TLS"), AppProtocol::Tls),
            (Some("MONGO"), AppProtocol::Tcp),
            (Some("QUIC"), AppProtocol::Unknown),
            (None, AppProtocol::Unknown),
        ] {
            assert_eq!(of_entry(declared), expected, "{declared:?}");
        }
    }
}
