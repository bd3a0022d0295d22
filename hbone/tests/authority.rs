//! What an authority accepts, refuses, and how it prints.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::let_underscore_must_use,
    reason = "test code"
)]

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use hbone::{Authority, AuthorityError, Host};
use proptest::prelude::*;

#[test]
fn one_destination_has_one_spelling() {
    let table = [
        ("10.0.0.7:8080", "10.0.0.7:8080"),
        ("[::1]:443", "[::1]:443"),
        ("[0:0:0:0:0:0:0:1]:443", "[::1]:443"),
        ("[2001:DB8::A]:15008", "[2001:db8::a]:15008"),
        ("[::ffff:10.0.0.7]:80", "10.0.0.7:80"),
        ("[::FFFF:a00:7]:80", "10.0.0.7:80"),
        ("Echo.Default.SVC:80", "echo.default.svc:80"),
        ("localhost:1", "localhost:1"),
        ("_dns._udp.example:65535", "_dns._udp.example:65535"),
        ("xn--bcher-kva.example:80", "xn--bcher-kva.example:80"),
        ("1a.2b:80", "1a.2b:80"),
        ("10.example:80", "10.example:80"),
        ("0xg:80", "0xg:80"),
    ];
    for (text, printed) in table {
        let authority: Authority = text.parse().expect(text);
        assert_eq!(authority.to_string(), printed);
        assert_eq!(printed.parse(), Ok(authority));
    }
}

#[test]
fn refuses_what_is_no_destination() {
    use AuthorityError::*;
    let long_name = format!("{}:80", ["a".repeat(63).as_str(); 4].join("."));
    let too_long = format!("{}:65535", "a".repeat(254));
    let table = [
        ("", PortMissing),
        (":80", HostMissing),
        ("host", PortMissing),
        ("host:", PortMissing),
        ("10.0.0.7", PortMissing),
        ("[::1]", PortMissing),
        ("[::1]:", PortMissing),
        ("host:0", PortZero),
        ("[::1]:0", PortZero),
        ("host:65536", PortInvalid),
        ("host:99999999999", PortInvalid),
        ("host:080", PortInvalid),
        ("host:00", PortInvalid),
        ("host:+80", PortInvalid),
        ("host:-1", PortInvalid),
        ("host:http", PortInvalid),
        ("host:80/", PortInvalid),
        ("host:80?x", PortInvalid),
        ("user@host:80", UserInfo),
        ("user:secret@10.0.0.7:80", UserInfo),
        ("@host:80", UserInfo),
        ("host:80@", UserInfo),
        ("ho st:80", Byte { byte: b' ' }),
        ("host:80 ", Byte { byte: b' ' }),
        ("host:80\r\n", Byte { byte: b'\r' }),
        ("ho\0st:80", Byte { byte: 0 }),
        ("host\x7f:80", Byte { byte: 0x7f }),
        ("bücher.example:80", Byte { byte: 0xc3 }),
        ("host%2e:80", Label),
        ("ho/st:80", Label),
        ("*.example:80", Label),
        ("host.:80", Label),
        (".host:80", Label),
        ("a..b:80", Label),
        ("-a.b:80", Label),
        ("a-.b:80", Label),
        ("a,b:80", Label),
        ("http://host:80", Colons),
        ("::1:80", Colons),
        ("a:b:80", Colons),
        ("fe80::1%eth0:80", Colons),
        ("[fe80::1%eth0]:80", ZoneId),
        ("[fe80::1%251]:80", ZoneId),
        ("[::1", Brackets),
        ("[::1]80", Brackets),
        ("[::1]x:80", Brackets),
        ("::1]:80", Colons),
        ("host]:80", Label),
        ("[]:80", Ipv6),
        ("[10.0.0.7]:80", Ipv6),
        ("[host]:80", Ipv6),
        ("[v1.x]:80", Ipv6),
        ("[[::1]]:80", Ipv6),
        ("1.2.3:80", NumericName),
        ("1.2.3.4.5:80", NumericName),
        ("1.2.3.256:80", NumericName),
        ("010.0.0.7:80", NumericName),
        ("2130706433:80", NumericName),
        ("0x7f000001:80", NumericName),
        ("0x7f.1:80", NumericName),
        ("127.0x1:80", NumericName),
        ("127.0X1:80", NumericName),
        ("a.0x:80", NumericName),
        ("example.1:80", NumericName),
        (&format!("{}:80", "a".repeat(64)), Label),
        (&long_name, NameTooLong { len: 255 }),
        (&too_long, TooLong { len: 260 }),
    ];
    for (text, error) in table {
        assert_eq!(text.parse::<Authority>(), Err(error), "`{text}`");
        assert_grammar(&error);
    }
}

#[test]
fn the_longest_name_fits() {
    let label = "a".repeat(63);
    let name = [label.as_str(), &label, &label, &"b".repeat(61)].join(".");
    assert_eq!(name.len(), 253);
    let text = format!("{name}:65535");
    assert_eq!(text.len(), Authority::MAX_LEN);
    assert_eq!(text.parse::<Authority>().unwrap().host(), Host::Name(&name));
}

#[test]
fn parts_are_those_of_the_text() {
    let address: Authority = "[::1]:80".parse().unwrap();
    assert_eq!(address.host(), Host::Ip(IpAddr::V6(Ipv6Addr::LOCALHOST)));
    assert_eq!(address.port(), 80);
    assert_eq!(address.socket_addr(), Some("[::1]:80".parse().unwrap()));

    let name: Authority = "echo:81".parse().unwrap();
    assert_eq!(name.host(), Host::Name("echo"));
    assert_eq!(name.port(), 81);
    assert_eq!(name.socket_addr(), None);
}

#[test]
fn host_and_port_make_what_their_text_makes() {
    assert_eq!(Authority::new("Echo", 80), "echo:80".parse());
    assert_eq!(Authority::new("::ffff:10.0.0.7", 80), "10.0.0.7:80".parse());
    assert_eq!(Authority::new("echo", 0), Err(AuthorityError::PortZero));
    assert_eq!(Authority::new("", 80), Err(AuthorityError::HostMissing));
    assert_eq!(Authority::new("echo:80", 80), Err(AuthorityError::Label));
    assert_eq!(Authority::new("a b", 80), Err(AuthorityError::Label));
    assert_eq!(Authority::new("bücher", 80), Err(AuthorityError::Label));
}

#[test]
fn a_socket_address_loses_what_only_this_host_understands() {
    let mapped: SocketAddr = "[::ffff:10.0.0.7]:80".parse().unwrap();
    assert_eq!(Authority::try_from(mapped), "10.0.0.7:80".parse());

    let flow = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 80, 7, 0);
    assert_eq!(Authority::try_from(SocketAddr::from(flow)), "[::1]:80".parse());

    let zone = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 80, 0, 2);
    let refused = Authority::try_from(SocketAddr::from(zone));
    assert_eq!(refused, Err(AuthorityError::ZoneId));

    let unbound: SocketAddr = "10.0.0.7:0".parse().unwrap();
    assert_eq!(Authority::try_from(unbound), Err(AuthorityError::PortZero));
}

proptest! {
    #[test]
    fn address_survives_print_and_parse(ip: IpAddr, port in 1_u16..) {
        let authority = Authority::try_from(SocketAddr::new(ip, port)).unwrap();
        prop_assert_eq!(authority.to_string().parse::<Authority>(), Ok(authority));
    }

    #[test]
    fn what_parses_prints_and_parses_again(text in "[a-cxX0-9:.\\[\\]%@_-]{0,24}(:[0-9]{1,5})?") {
        if let Ok(authority) = text.parse::<Authority>() {
            prop_assert_eq!(authority.to_string().parse::<Authority>(), Ok(authority));
        }
    }

    #[test]
    fn name_survives_print_and_parse(
        name in "[a-z_][a-z0-9_]{0,20}(\\.[A-Z_][a-z0-9_]{0,20}){0,5}",
        port in 1_u16..,
    ) {
        let authority: Authority = format!("{name}:{port}").parse().unwrap();
        prop_assert_eq!(authority.host(), Host::Name(&name.to_ascii_lowercase()));
        prop_assert_eq!(authority.to_string().parse::<Authority>(), Ok(authority));
    }

    #[test]
    fn no_text_panics(text: String) {
        let _: Result<Authority, _> = text.parse();
    }

    /// Policy sees the address or the name; a resolver must not make an address of the name.
    #[test]
    fn no_name_is_an_address_to_a_lenient_resolver(text in "(0[xX])?[0-9a-f]{1,8}(\\.(0[xX])?[0-9a-f]{0,4}){0,4}:80") {
        if let Ok(authority) = text.parse::<Authority>()
            && let Host::Name(name) = authority.host()
        {
            let last = name.rsplit('.').next().unwrap();
            let digits = last.strip_prefix("0x").map(|hex| (hex, 16)).unwrap_or((last, 10));
            prop_assert!(!digits.0.is_empty());
            prop_assert!(digits.0.chars().any(|c| !c.is_digit(digits.1)), "{}", name);
        }
    }
}

fn assert_grammar(error: &AuthorityError) {
    let text = error.to_string();
    assert!(text.starts_with(|c: char| c.is_ascii_lowercase()), "{text}");
    assert!(!text.ends_with('.') && !text.contains('\n'), "{text}");
}
