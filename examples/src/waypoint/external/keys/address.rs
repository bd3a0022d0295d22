use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mesh_policy::Cidr;

/// Whether an address may be called that a policy's author had a say in. This machine's own services
/// and those of its link, such as a cloud's metadata server, trust whoever can reach them; they are
/// called only if the configuration says so.
pub(super) fn is_callable(address: IpAddr, allowed: &[Cidr]) -> bool {
    let address = address.to_canonical();
    let is_public = match address {
        IpAddr::V4(address) => is_callable_v4(address),
        IpAddr::V6(address) => is_callable_v6(address),
    };
    is_public || allowed.iter().any(|block| block.contains(address))
}

fn is_callable_v4(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0
        && !address.is_loopback()
        && !address.is_link_local()
        && !address.is_multicast()
        && !address.is_broadcast()
}

fn is_callable_v6(address: Ipv6Addr) -> bool {
    // Where Amazon's metadata server is.
    const METADATA: [u16; 2] = [0xfd00, 0xec2];
    // The ways to write an IPv4 address that networks may translate: RFC 6052, 3056 and 4291.
    let translated = match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] | [0, 0, 0, 0, 0, 0, high, low] => {
            Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        _ => None,
    };
    !address.is_loopback()
        && !address.is_unspecified()
        && !address.is_unicast_link_local()
        && !address.is_multicast()
        && !address.segments().starts_with(&METADATA)
        && translated.is_none_or(is_callable_v4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_this_machine_nor_its_link_is_called_unasked() {
        for (address, is_called) in [
            ("10.0.0.7", true),
            ("192.168.0.1", true),
            ("93.184.216.34", true),
            ("fd12::1", true),
            ("2606:4700::1", true),
            ("127.0.0.1", false),
            ("127.9.9.9", false),
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("169.254.169.254", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("fe80::1", false),
            ("ff02::1", false),
            ("fd00:ec2::254", false),
            ("::ffff:127.0.0.1", false),
            ("::127.0.0.1", false),
            ("64:ff9b::a9fe:a9fe", false),
            ("64:ff9b::a00:7", true),
            ("2002:7f00:1::", false),
        ] {
            assert_eq!(is_callable(address.parse().unwrap(), &[]), is_called, "{address}");
        }
    }

    #[test]
    fn blocks_of_the_configuration_are_called() {
        let blocks = ["127.0.0.0/30", "::1", "::ffff:169.254.0.0/112"].map(|text| text.parse().unwrap());
        for (address, is_called) in [
            ("127.0.0.1", true),
            ("127.0.0.3", true),
            ("127.0.0.4", false),
            ("::ffff:127.0.0.1", true),
            ("::1", true),
            ("::2", false),
            ("169.254.169.254", true),
        ] {
            assert_eq!(is_callable(address.parse().unwrap(), &blocks), is_called, "{address}");
        }
        let all = ["0.0.0.0/0".parse().unwrap()];
        assert!(is_callable("127.0.0.1".parse().unwrap(), &all) && !is_callable("::1".parse().unwrap(), &all));
    }
}
