//! The PROXY protocol, version 2, as far as it is sent: who a connection is from, told before its
//! first byte (haproxy's specification, section 2.2).

use std::net::{IpAddr, SocketAddr};

use mesh_identity::SpiffeId;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2, command PROXY.
const VERSION_AND_COMMAND: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// Istio's type for the identity that the source showed, as a text.
const IDENTITY: u8 = 0xd0;

/// What goes before the bytes of a connection. Addresses of two families are both written as IPv6.
///
/// Nothing if the identity is longer than the header can say.
pub(super) fn header(source: SocketAddr, destination: SocketAddr, identity: Option<&SpiffeId>) -> Option<Vec<u8>> {
    let (kind, mut body) = match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            (TCP_OVER_IPV4, [source.octets(), destination.octets()].concat())
        }
        (source, destination) => (TCP_OVER_IPV6, [v6(source), v6(destination)].concat()),
    };
    body.extend(source.port().to_be_bytes());
    body.extend(destination.port().to_be_bytes());
    if let Some(identity) = identity {
        let identity = identity.to_string();
        body.push(IDENTITY);
        body.extend(u16::try_from(identity.len()).ok()?.to_be_bytes());
        body.extend(identity.as_bytes());
    }
    let mut header = SIGNATURE.to_vec();
    header.extend([VERSION_AND_COMMAND, kind]);
    header.extend(u16::try_from(body.len()).ok()?.to_be_bytes());
    header.extend(body);
    Some(header)
}

fn v6(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_from_where_to_where_and_who() {
        let id = "spiffe://td/a".parse().unwrap();
        let [source, destination] = ["10.0.0.1:258", "10.0.0.2:80"].map(|addr| addr.parse().unwrap());
        let expected = [
            &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x1c\x0a\0\0\x01\x0a\0\0\x02\x01\x02\0\x50\xd0\0\x0d"[..],
            b"spiffe://td/a",
        ];
        assert_eq!(header(source, destination, Some(&id)).unwrap(), expected.concat());
    }

    #[test]
    fn two_families_become_one() {
        let [source, destination] = ["[fd00::1]:1", "10.0.0.2:2"].map(|addr| addr.parse().unwrap());
        let header = header(source, destination, None).unwrap();
        assert_eq!(header[13..16], [TCP_OVER_IPV6, 0, 36]);
        assert_eq!(header[42..48], [0xff, 0xff, 10, 0, 0, 2]);
        assert_eq!(header.len(), 52);
    }
}
