//! What the metadata fields accept, refuse, and how they print.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::let_underscore_must_use,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::error::Error;
use std::net::SocketAddr;

use hbone::metadata::{
    Baggage, BaggageError, BaggageKey, Forwarded, ForwardedElement, ForwardedError, HeaderError, MalformedMetadata,
    Metadata, NetworkError, Node, NodeError, NodeName, NodePort, TraceParent, TraceParentError, WorkloadKind,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

const KEYS: [BaggageKey; 10] = [
    BaggageKey::Cluster,
    BaggageKey::Namespace,
    BaggageKey::Workload(WorkloadKind::Deployment),
    BaggageKey::Workload(WorkloadKind::CronJob),
    BaggageKey::Workload(WorkloadKind::Pod),
    BaggageKey::Workload(WorkloadKind::Job),
    BaggageKey::ServiceName,
    BaggageKey::ServiceVersion,
    BaggageKey::Region,
    BaggageKey::Zone,
];

/// In the order, and with the names, that Istio's node proxy sends.
const ISTIO: &str = "k8s.cluster.name=Kubernetes,k8s.namespace.name=default,k8s.deployment.name=echo,\
    service.name=echo-svc,service.version=v1,cloud.region=eu-1,cloud.availability_zone=eu-1a";

#[test]
fn baggage_of_istio_is_read_and_printed_as_it_is() {
    let baggage: Baggage = ISTIO.parse().unwrap();
    assert_eq!(baggage.get(BaggageKey::Cluster), Some("Kubernetes"));
    assert_eq!(baggage.get(BaggageKey::Namespace), Some("default"));
    assert_eq!(baggage.workload(), Some((WorkloadKind::Deployment, "echo")));
    let deployment = BaggageKey::Workload(WorkloadKind::Deployment);
    assert_eq!(baggage.get(deployment), Some("echo"));
    assert_eq!(baggage.get(BaggageKey::Workload(WorkloadKind::Pod)), None);
    assert_eq!(baggage.get(BaggageKey::ServiceName), Some("echo-svc"));
    assert_eq!(baggage.get(BaggageKey::ServiceVersion), Some("v1"));
    assert_eq!(baggage.get(BaggageKey::Region), Some("eu-1"));
    assert_eq!(baggage.get(BaggageKey::Zone), Some("eu-1a"));
    assert_eq!(baggage.to_string(), ISTIO);

    let shuffled = ISTIO.split(',').rev().collect::<Vec<_>>().join(" ,\t");
    assert_eq!(shuffled.parse(), Ok(baggage));
}

#[test]
fn every_baggage_key_has_its_own_name_and_setter() {
    for key in KEYS {
        assert_eq!(BaggageKey::from_name(key.name()), Some(key));
        let baggage = Baggage::new().with(key, "x").unwrap();
        assert_eq!(baggage.to_string(), format!("{}=x", key.name()));
        assert_eq!(baggage.get(key), Some("x"));
        assert!(!baggage.is_empty());
        assert!(baggage.with(key, "").unwrap().is_empty());
    }
}

#[test]
fn baggage_reader_is_tolerant() {
    let table = [
        ("", ""),
        (" ,, ,", ""),
        (" service.name\t= a ", "service.name=a"),
        ("service.name=a;p;q=1;r = 2", "service.name=a"),
        ("service.name=;p", ""),
        ("k8s.namespace.name=", ""),
        ("k8s.namespace.name=,k8s.namespace.name=x", "k8s.namespace.name=x"),
        ("service.name=a%20%c3%bc", "service.name=a%20%C3%BC"),
        ("service.name=%ff", "service.name=%EF%BF%BD"),
        ("service.name=a=b", "service.name=a%3Db"),
        ("service.name=50%", "service.name=50%25"),
        ("z=1,service.name=a,y=,z=2", "service.name=a,z=1,y=,z=2"),
        ("Service.Name=a", "Service.Name=a"),
    ];
    for (text, printed) in table {
        let baggage: Baggage = text.parse().expect(text);
        assert_eq!(baggage.to_string(), printed, "`{text}`");
        assert_eq!(baggage.is_empty(), printed.is_empty());
    }
    let lines: [&[u8]; 3] = [b"service.name=a", b"", b"service.version=b"];
    let baggage = Baggage::parse(lines).unwrap();
    assert_eq!(baggage.to_string(), "service.name=a,service.version=b");
}

#[test]
fn baggage_reader_refuses_what_is_ambiguous_or_unsafe() {
    use BaggageError::*;
    let namespace = BaggageKey::Namespace;
    let pod = BaggageKey::Workload(WorkloadKind::Pod);
    let members = |count| vec!["a=b"; count].join(",");
    let table = [
        ("a", NoValue),
        ("a;b=c", NoValue),
        ("=a", Key),
        ("a b=c", Key),
        ("a\"=c", Key),
        ("service.name=a b", Octet { byte: b' ' }),
        ("service.name=\"a\"", Octet { byte: b'"' }),
        ("service.name=a\\b", Octet { byte: b'\\' }),
        ("service.name=\u{fc}", Octet { byte: 0xc3 }),
        ("service.name=a;p=\u{fc}", Octet { byte: 0xc3 }),
        ("service.name=a\n", Octet { byte: b'\n' }),
        ("\u{7f}", Octet { byte: 0x7f }),
        ("service.name=a%0d%0ax", Control),
        ("other=%00", Control),
        ("other=%c2%85", Control),
        ("k8s.namespace.name=a,k8s.namespace.name=a", Repeated { key: namespace }),
        ("k8s.deployment.name=a,k8s.pod.name=b", Repeated { key: pod }),
        (&members(181), TooManyMembers),
        (&format!("a={}", "b".repeat(8191)), TooLong),
        // Fits as it stands, but not as it would be passed on.
        (&format!("a={}", "%".repeat(3000)), TooLong),
    ];
    for (text, error) in table {
        assert_eq!(text.parse::<Baggage>(), Err(error), "`{text}`");
        assert_grammar(&error);
    }
    assert_eq!(Baggage::parse([&b"a=\xff"[..]]), Err(Octet { byte: 0xff }));

    let half = format!("a={}", "b".repeat(4094));
    assert_eq!(Baggage::parse([half.as_bytes(); 3]), Err(TooLong));
    assert_eq!(Baggage::parse([&[b' '; 4096][..]; 3]), Err(TooLong));
    assert_eq!(Baggage::parse(vec![&b"a=b"[..]; 181]), Err(TooManyMembers));
    assert_eq!(members(180).parse::<Baggage>().unwrap().others().count(), 180);
    let largest = format!("a={}", "b".repeat(8190));
    assert_eq!(largest.parse::<Baggage>().unwrap().to_string(), largest);
}

#[test]
fn baggage_setters_keep_the_limits() {
    use BaggageError::*;
    let full = (0..180).try_fold(Baggage::new(), |baggage, _| baggage.with_other("a", ""));
    let full = full.unwrap();
    assert_eq!(full.clone().with_other("a", ""), Err(TooManyMembers));
    assert_eq!(full.with(BaggageKey::Zone, "z"), Err(TooManyMembers));

    let empty = Baggage::new;
    let key = BaggageKey::Region;
    assert_eq!(empty().with(key, &"b".repeat(8192)), Err(TooLong));
    assert_eq!(empty().with(key, "a\nb"), Err(Control));
    assert_eq!(empty().with_other("a", "\u{1b}[1m"), Err(Control));
    assert_eq!(empty().with_other("a b", "c"), Err(Key));
    assert_eq!(empty().with_other("", "c"), Err(Key));
    let reserved = Reserved { key };
    assert_eq!(empty().with_other("cloud.region", "c"), Err(reserved));
    assert_grammar(&reserved);
}

#[test]
fn forwarded_prints_as_istio_does() {
    let peer: SocketAddr = "10.0.0.7:5123".parse().unwrap();
    let element = ForwardedElement::new().with_for(peer.into());
    let alone = Forwarded::new().with(element.clone()).unwrap();
    assert_eq!(alone.to_string(), r#"for="10.0.0.7:5123""#);

    let element = element.with_host("echo.default.svc.cluster.local").unwrap();
    let service = Forwarded::new().with(element).unwrap();
    let text = r#"for="10.0.0.7:5123";host=echo.default.svc.cluster.local"#;
    assert_eq!(service.to_string(), text);
    assert_eq!(service.host(), Some("echo.default.svc.cluster.local"));

    let peer: SocketAddr = "[2001:db8::7]:5123".parse().unwrap();
    let element = ForwardedElement::new().with_for(peer.into());
    let six = Forwarded::new().with(element).unwrap();
    assert_eq!(six.to_string(), r#"for="[2001:db8::7]:5123""#);
}

#[test]
fn forwarded_reader_knows_the_whole_grammar() {
    let table = [
        ("", ""),
        (" , ;, ", ""),
        ("for=192.0.2.43", "for=192.0.2.43"),
        ("For=\"[2001:db8:cafe::17]:4711\"", "for=\"[2001:db8:cafe::17]:4711\""),
        (
            "for=192.0.2.60;proto=http;by=203.0.113.43",
            "for=192.0.2.60;by=203.0.113.43;proto=http",
        ),
        ("for=192.0.2.43, for=198.51.100.17", "for=192.0.2.43,for=198.51.100.17"),
        ("for=_hidden, for=_SEVKISEK", "for=_hidden,for=_SEVKISEK"),
        ("for=UNKNOWN;by=\"unknown:_port\"", "for=unknown;by=\"unknown:_port\""),
        ("for=\"_gazonk:80\"", "for=\"_gazonk:80\""),
        ("for=\"[::ffff:10.0.0.7]\"", "for=10.0.0.7"),
        ("host=\"echo:8080\";PROTO=https", "host=\"echo:8080\";proto=https"),
        ("host=\"e\\cho\" ; x=\"a \\\"b\\\\\"", "host=echo;x=\"a \\\"b\\\\\""),
        ("Secret=\"\";for=1.2.3.4;", "for=1.2.3.4;secret=\"\""),
        ("x=\"a,b;c\",host=h", "x=\"a,b;c\",host=h"),
    ];
    for (text, printed) in table {
        let forwarded: Forwarded = text.parse().expect(text);
        assert_eq!(forwarded.to_string(), printed, "`{text}`");
    }
    let lines: [&[u8]; 3] = [b"for=_a", b"", b"for=_b;host=h"];
    let forwarded = Forwarded::parse(lines).unwrap();
    assert_eq!(forwarded.to_string(), "for=_a,for=_b;host=h");
    assert_eq!(forwarded.host(), Some("h"));
}

#[test]
fn forwarded_gives_its_parts() {
    let text = r#"for="[::1]:80";by="_lb:_p";host=h;proto=https;x=y"#;
    let forwarded: Forwarded = text.parse().unwrap();
    let [element] = forwarded.elements() else {
        unreachable!("one element");
    };
    let node = element.for_node().unwrap();
    assert_eq!(node.name(), &NodeName::Ip("::1".parse().unwrap()));
    assert_eq!(node.port(), Some(&NodePort::Number(80)));
    let node = element.by_node().unwrap();
    assert_eq!(node.name(), &NodeName::Obfuscated("_lb".into()));
    assert_eq!(node.port(), Some(&NodePort::Obfuscated("_p".into())));
    assert_eq!(element.host(), Some("h"));
    assert_eq!(element.proto(), Some("https"));
    assert_eq!(element.extensions().collect::<Vec<_>>(), [("x", "y")]);
}

#[test]
fn forwarded_reader_refuses_the_rest() {
    use ForwardedError::*;
    let extensions: Vec<_> = (0..17).map(|at| format!("x{at}=y")).collect();
    let table = [
        ("for", Syntax),
        ("for=", Syntax),
        ("=x", Syntax),
        ("for =_a", Syntax),
        ("for=_a for=_b", Syntax),
        ("for=_a:80", Syntax),
        ("for=[::1]", Syntax),
        ("for=\"_a", Syntax),
        ("for=\"_a\\", Syntax),
        ("for=\"_a\"x", Syntax),
        ("x=\"\u{1}\"", Syntax),
        ("x=\"\u{fc}\"", Syntax),
        ("x=\"\\\u{fc}\"", Syntax),
        ("\u{fc}=x", Syntax),
        ("for=_a;For=_b", Repeated),
        ("by=_a;by=_a", Repeated),
        ("host=a;host=a", Repeated),
        ("proto=a;proto=a", Repeated),
        ("x=a;X=a", Repeated),
        ("for=host", Node(NodeError)),
        ("for=\"\"", Node(NodeError)),
        ("for=_", Node(NodeError)),
        ("for=_a!", Node(NodeError)),
        ("for=1.2.3", Node(NodeError)),
        ("for=\"::1\"", Node(NodeError)),
        ("for=\"[::1\"", Node(NodeError)),
        ("for=\"[::1]80\"", Node(NodeError)),
        ("for=\"[1.2.3.4]\"", Node(NodeError)),
        ("for=\"[fe80::1%1]\"", Node(NodeError)),
        ("for=\"1.2.3.4:\"", Node(NodeError)),
        ("for=\"1.2.3.4:65536\"", Node(NodeError)),
        ("for=\"1.2.3.4:000080\"", Node(NodeError)),
        ("for=\"1.2.3.4:+80\"", Node(NodeError)),
        ("for=\"1.2.3.4:_\"", Node(NodeError)),
        ("host=\"\"", Host),
        ("host=\"a b\"", Host),
        ("host=\"a\\\"b\"", Host),
        ("proto=1", Proto),
        ("proto=\"a b\"", Proto),
        ("proto=\"\"", Proto),
        (&vec!["for=_a"; 33].join(","), TooManyElements),
        (&extensions.join(";"), TooManyExtensions),
        (&format!("x={}", "a".repeat(2047)), TooLong),
    ];
    for (text, error) in table {
        assert_eq!(text.parse::<Forwarded>(), Err(error), "`{text}`");
        assert_grammar(&error);
    }
    assert_eq!(Forwarded::parse([&b"x=\xff"[..]]), Err(Syntax));
    assert_eq!(Forwarded::parse(vec![&b"for=_a"[..]; 33]), Err(TooManyElements));
    let half = format!("x={}", "a".repeat(1022));
    assert_eq!(Forwarded::parse([half.as_bytes(); 3]), Err(TooLong));
    assert_eq!(Forwarded::parse([&[b' '; 1024][..]; 3]), Err(TooLong));
}

#[test]
fn forwarded_setters_keep_the_limits() {
    use ForwardedError::*;
    let element = ForwardedElement::new;
    assert_eq!(element().with_host("a b"), Err(Host));
    assert_eq!(element().with_proto(""), Err(Proto));
    for name in ["", "a b", "for", "By", "HOST", "proto"] {
        assert_eq!(element().with_extension(name, "x"), Err(Extension), "`{name}`");
    }
    assert_eq!(element().with_extension("x", "\u{fc}"), Err(Extension));
    assert_grammar(&Extension);

    let large = element().with_extension("x", &"\"".repeat(1100)).unwrap();
    assert_eq!(Forwarded::new().with(large), Err(TooLong));
    let hop = element().with_host("h").unwrap();
    let full = (0..32).try_fold(Forwarded::new(), |all, _| all.with(hop.clone()));
    assert_eq!(full.unwrap().with(hop), Err(TooManyElements));
    assert!(Forwarded::new().with(element()).unwrap().elements().is_empty());
}

#[test]
fn traceparent_reads_known_and_later_versions() {
    const IDS: &str = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
    let table = [
        (format!("00-{IDS}-00"), format!("00-{IDS}-00")),
        (format!("00-{IDS}-01"), format!("00-{IDS}-01")),
        (format!("00-{IDS}-03"), format!("00-{IDS}-03")),
        (format!("00-{IDS}-ff"), format!("00-{IDS}-03")),
        (format!("01-{IDS}-01"), format!("00-{IDS}-01")),
        (format!("cc-{IDS}-01-what-follows"), format!("00-{IDS}-01")),
        (format!("01-{IDS}-01-"), format!("00-{IDS}-01")),
    ];
    for (text, printed) in table {
        assert_eq!(text.parse::<TraceParent>().expect(&text).to_string(), printed);
    }
}

#[test]
fn traceparent_refuses_the_rest() {
    use TraceParentError::*;
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";
    let table = [
        (String::new(), Field),
        (format!("00-{TRACE}-{PARENT}"), Field),
        (format!("00-{TRACE}-{PARENT}-"), Field),
        (format!("00-{TRACE}-{PARENT}-1"), Field),
        (format!("00-{TRACE}-{PARENT}-+1"), Field),
        (format!("0-{TRACE}-{PARENT}-01"), Field),
        (format!("00-{}-{PARENT}-01", TRACE.to_uppercase()), Field),
        (format!("00-{TRACE}0-{PARENT}-01"), Field),
        (format!("00-{TRACE}-{PARENT}0-01"), Field),
        (format!(" 00-{TRACE}-{PARENT}-01"), Field),
        (format!("01-{TRACE}-{PARENT}-01.x"), Field),
        (format!("00-{TRACE}-{PARENT}-01-"), Version),
        (format!("00-{TRACE}-{PARENT}-01-x"), Version),
        (format!("ff-{TRACE}-{PARENT}-01"), Version),
        (format!("00-{}-{PARENT}-01", "0".repeat(32)), ZeroId),
        (format!("00-{TRACE}-{}-01", "0".repeat(16)), ZeroId),
    ];
    for (text, error) in table {
        assert_eq!(text.parse::<TraceParent>(), Err(error), "`{text}`");
        assert_grammar(&error);
    }
    assert_eq!(TraceParent::new(0, 1), Err(ZeroId));
    assert_eq!(TraceParent::new(1, 0), Err(ZeroId));
}

#[test]
fn metadata_survives_the_header_fields() {
    let peer: SocketAddr = "10.0.0.7:5123".parse().unwrap();
    let element = ForwardedElement::new().with_for(peer.into());
    let metadata = Metadata::new()
        .with_baggage(ISTIO.parse().unwrap())
        .with_forwarded(Forwarded::new().with(element).unwrap())
        .with_traceparent(TraceParent::new(7, 9).unwrap().with_sampled(true))
        .with_forwarded_network("network-1")
        .unwrap()
        .with_header(HeaderName::from_static("x-a"), HeaderValue::from_static("1"))
        .unwrap()
        .with_header(HeaderName::from_static("x-a"), HeaderValue::from_static("2"))
        .unwrap();
    let headers = metadata.to_headers();
    assert_eq!(headers["baggage"], ISTIO);
    assert_eq!(headers["forwarded"], r#"for="10.0.0.7:5123""#);
    let trace = "00-00000000000000000000000000000007-0000000000000009-01";
    assert_eq!(headers["traceparent"], trace);
    assert_eq!(headers["x-forwarded-network"], "network-1");
    assert_eq!(headers.get_all("x-a").iter().count(), 2);
    assert_eq!(headers.len(), 6);
    assert_eq!(Metadata::from_headers(&headers), metadata);
}

#[test]
fn empty_lists_are_not_sent() {
    let metadata = Metadata::new()
        .with_baggage(Baggage::new())
        .with_forwarded(Forwarded::new());
    assert!(metadata.to_headers().is_empty());
    assert_eq!(metadata, Metadata::new());
}

#[test]
fn malformed_metadata_counts_as_absent_and_is_noted() {
    let long = "n".repeat(256);
    type Fields<'a> = &'a [(&'static str, &'a [u8])];
    let table: [(Fields<'_>, MalformedMetadata); 8] = [
        (&[("baggage", b"oops")], BaggageError::NoValue.into()),
        (
            &[("baggage", b"a=b"), ("baggage", b"oops")],
            BaggageError::NoValue.into(),
        ),
        (&[("forwarded", b"oops")], ForwardedError::Syntax.into()),
        (&[("traceparent", b"\xff")], TraceParentError::Field.into()),
        (&[("traceparent", b"oops")], TraceParentError::Field.into()),
        (&[("x-forwarded-network", b"")], NetworkError::Empty.into()),
        (
            &[("x-forwarded-network", b"a b")],
            NetworkError::Byte { byte: b' ' }.into(),
        ),
        (
            &[("x-forwarded-network", long.as_bytes())],
            NetworkError::TooLong { len: 256 }.into(),
        ),
    ];
    for (fields, fault) in table {
        let mut headers = HeaderMap::new();
        headers.insert("x-a", HeaderValue::from_static("kept"));
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        let metadata = Metadata::from_headers(&headers);
        assert_eq!(metadata.malformed(), [fault]);
        assert_eq!(metadata.to_headers().len(), 1, "{fault}");
        assert_eq!(metadata.headers()["x-a"], "kept");
        assert_grammar(&fault);
    }
}

#[test]
fn fields_that_occur_once_may_not_repeat() {
    let trace = "00-00000000000000000000000000000007-0000000000000009-01";
    for (field, value) in [("traceparent", trace), ("x-forwarded-network", "a")] {
        let mut headers = HeaderMap::new();
        headers.append(field, HeaderValue::from_static(value));
        headers.append(field, HeaderValue::from_static(value));
        let metadata = Metadata::from_headers(&headers);
        let fault = MalformedMetadata::Repeated { field };
        assert_eq!(metadata.malformed(), [fault]);
        assert!(metadata.to_headers().is_empty());
        assert_grammar(&fault);
    }
}

#[test]
fn custom_fields_cannot_touch_the_protocol() {
    let header = |name: &'static str, value: &str| {
        let name = HeaderName::from_static(name);
        Metadata::new().with_header(name, HeaderValue::from_str(value).unwrap())
    };
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    ] {
        let error = header(name, "x").unwrap_err();
        assert_eq!(
            error,
            HeaderError::ConnectionSpecific {
                name: HeaderName::from_static(name)
            }
        );
        assert_grammar(&error);
    }
    for name in [
        "baggage",
        "forwarded",
        "traceparent",
        "x-forwarded-network",
        "host",
        "content-length",
    ] {
        let error = header(name, "x").unwrap_err();
        assert_eq!(
            error,
            HeaderError::Reserved {
                name: HeaderName::from_static(name)
            }
        );
        assert_grammar(&error);
    }
    let room = 4096 - 32 - "x-a".len();
    let full = header("x-a", &"b".repeat(room)).unwrap();
    assert_eq!(header("x-a", &"b".repeat(room + 1)), Err(HeaderError::TooLarge));
    let more = full.with_header(HeaderName::from_static("x"), HeaderValue::from_static(""));
    assert_eq!(more, Err(HeaderError::TooLarge));
    assert_grammar(&HeaderError::TooLarge);
}

#[test]
fn debug_hides_the_values_of_custom_fields() {
    let name = HeaderName::from_static("authorization");
    let token = HeaderValue::from_static("Bearer s3cret");
    let metadata = Metadata::new().with_header(name, token).unwrap();
    let text = format!("{metadata:?}");
    assert!(text.contains("authorization") && !text.contains("s3cret"), "{text}");
}

proptest! {
    #[test]
    fn baggage_survives_print_and_parse(baggage in any_baggage()) {
        prop_assert_eq!(baggage.to_string().parse::<Baggage>(), Ok(baggage));
    }

    #[test]
    fn what_baggage_reads_it_prints_and_reads_again(text in "([a-z.]{0,2}|service.name|[ ,;=%a2\"\\\\]){0,20}") {
        if let Ok(baggage) = text.parse::<Baggage>() {
            prop_assert_eq!(baggage.to_string().parse::<Baggage>(), Ok(baggage));
        }
    }

    #[test]
    fn forwarded_survives_print_and_parse(forwarded in any_forwarded()) {
        prop_assert_eq!(forwarded.to_string().parse::<Forwarded>(), Ok(forwarded));
    }

    #[test]
    fn what_forwarded_reads_it_prints_and_reads_again(
        text in "((for|by|host|proto|x)=|_a|unknown|1.2.3.4|\\[::1\\]|:80|[\"\\\\,;= ]){0,16}",
    ) {
        if let Ok(forwarded) = text.parse::<Forwarded>() {
            prop_assert_eq!(forwarded.to_string().parse::<Forwarded>(), Ok(forwarded));
        }
    }

    #[test]
    fn node_survives_print_and_parse(node in any_node()) {
        prop_assert_eq!(node.to_string().parse::<Node>(), Ok(node));
    }

    #[test]
    fn traceparent_survives_print_and_parse(trace in 1_u128.., parent in 1_u64.., sampled: bool) {
        let traceparent = TraceParent::new(trace, parent).unwrap().with_sampled(sampled);
        prop_assert_eq!(traceparent.trace_id().get(), trace);
        prop_assert_eq!(traceparent.parent_id().get(), parent);
        prop_assert_eq!(traceparent.is_sampled(), sampled);
        prop_assert_eq!(traceparent.to_string().parse::<TraceParent>(), Ok(traceparent));
    }

    #[test]
    fn no_bytes_panic(lines: Vec<Vec<u8>>) {
        let _: Result<_, _> = Baggage::parse(lines.iter().map(Vec::as_slice));
        let _: Result<_, _> = Forwarded::parse(lines.iter().map(Vec::as_slice));
    }

    #[test]
    fn no_text_panics(text: String) {
        let _: Result<TraceParent, _> = text.parse();
        let _: Result<Node, _> = text.parse();
    }

    #[test]
    fn metadata_of_any_fields_is_read(fields: Vec<(u8, Vec<u8>)>) {
        const NAMES: [&str; 6] =
            ["baggage", "forwarded", "traceparent", "x-forwarded-network", "x-a", "te"];
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(NAMES[usize::from(name) % NAMES.len()], value);
            }
        }
        let metadata = Metadata::from_headers(&headers);
        prop_assert!(metadata.malformed().len() <= 4);
        let again = Metadata::from_headers(&metadata.to_headers());
        prop_assert!(again.malformed().is_empty());
        prop_assert_eq!(again.to_headers(), metadata.to_headers());
    }
}

fn any_baggage() -> impl Strategy<Value = Baggage> {
    let istio = prop::collection::vec((prop::sample::select(&KEYS[..]), "\\PC{0,12}"), 0..8);
    let others = prop::collection::vec(("[a-z!%.]{1,8}", "\\PC{0,12}"), 0..8);
    (istio, others).prop_map(|(istio, others)| {
        let baggage = istio.into_iter().fold(Baggage::new(), |baggage, (key, value)| {
            baggage.with(key, &value).unwrap()
        });
        others.into_iter().fold(baggage, |baggage, (key, value)| {
            baggage.with_other(&key, &value).unwrap()
        })
    })
}

fn any_node() -> impl Strategy<Value = Node> {
    let obfuscated = "_[A-Za-z0-9._-]{1,8}";
    let address = any::<SocketAddr>().prop_map(Node::from);
    let name = prop_oneof![
        obfuscated,
        Just("unknown".to_owned()),
        Just("[::1]".to_owned()),
        Just("10.0.0.7".to_owned()),
    ];
    let port = prop_oneof![
        Just(String::new()),
        obfuscated.prop_map(|port| format!(":{port}")),
        any::<u16>().prop_map(|port| format!(":{port}")),
    ];
    let text = (name, port).prop_map(|(name, port)| format!("{name}{port}").parse().unwrap());
    prop_oneof![address, text]
}

fn any_forwarded() -> impl Strategy<Value = Forwarded> {
    let nodes = (prop::option::of(any_node()), prop::option::of(any_node()));
    let host = prop::option::of("[a-z0-9.:\\[\\],;=]{1,12}");
    let proto = prop::option::of("[a-z][a-z0-9+.-]{0,5}");
    let extension = prop::option::of("[\t -~]{0,12}");
    let element = (nodes, host, proto, extension).prop_map(|((for_node, by), host, proto, extension)| {
        let mut element = ForwardedElement::new();
        if let Some(node) = for_node {
            element = element.with_for(node);
        }
        if let Some(node) = by {
            element = element.with_by(node);
        }
        if let Some(host) = host {
            element = element.with_host(&host).unwrap();
        }
        if let Some(proto) = proto {
            element = element.with_proto(&proto).unwrap();
        }
        if let Some(value) = extension {
            element = element.with_extension("X-Ext", &value).unwrap();
        }
        element
    });
    prop::collection::vec(element, 0..6).prop_map(|elements| {
        elements
            .into_iter()
            .fold(Forwarded::new(), |all, element| all.with(element).unwrap())
    })
}

fn assert_grammar(error: &dyn Error) {
    let text = error.to_string();
    assert!(text.starts_with(|c: char| c.is_ascii_lowercase() || c == '`'), "{text}");
    assert!(!text.ends_with('.') && !text.contains('\n'), "{text}");
}
