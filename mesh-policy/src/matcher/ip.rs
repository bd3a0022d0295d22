use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A block of addresses. IPv4 and IPv6 addresses are never in the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Cidr {
    first: IpAddr,
    bits: u8,
}

impl Cidr {
    /// Parses an address or `ADDRESS/BITS`; bits past the prefix are cleared. A block of IPv4
    /// addresses written as IPv6 ones is one of IPv4 addresses.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let (address, bits) = match value.split_once('/') {
            None => (value, None),
            Some((address, bits)) => (address, Some(decimal(bits)?)),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        if bits > most {
            return None;
        }
        match address {
            IpAddr::V6(v6) if bits >= 96 => match v6.to_ipv4_mapped() {
                Some(v4) => Some(Self::new(v4.into(), bits - 96)),
                None => Some(Self::new(address, bits)),
            },
            _ => Some(Self::new(address, bits)),
        }
    }

    fn new(address: IpAddr, bits: u8) -> Self {
        Self {
            first: mask(address, bits),
            bits,
        }
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && mask(address, self.bits) == self.first
    }

    /// Whether every address of this block is in the other.
    pub(crate) fn implies(&self, other: &Self) -> bool {
        self.bits >= other.bits && other.contains(self.first)
    }

    /// Whether no address is in both: blocks do not overlap in part.
    pub(crate) fn excludes(&self, other: &Self) -> bool {
        !self.implies(other) && !other.implies(self)
    }

    pub(crate) fn first(&self) -> IpAddr {
        self.first
    }

    pub(crate) fn last(&self) -> IpAddr {
        match self.first {
            IpAddr::V4(v4) => {
                let hosts = u32::MAX.checked_shr(u32::from(self.bits)).unwrap_or(0);
                Ipv4Addr::from_bits(v4.to_bits() | hosts).into()
            }
            IpAddr::V6(v6) => {
                let hosts = u128::MAX.checked_shr(u32::from(self.bits)).unwrap_or(0);
                Ipv6Addr::from_bits(v6.to_bits() | hosts).into()
            }
        }
    }

    pub(crate) fn bits(&self) -> u8 {
        self.bits
    }
}

/// The address with everything past the first `bits` bits cleared.
pub(crate) fn mask(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

/// As Go's parser reads a prefix length: no sign, no leading zero.
fn decimal(bits: &str) -> Option<u8> {
    let canonical = bits.bytes().all(|byte| byte.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
    if canonical { bits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(block: &str, address: &str) -> bool {
        Cidr::parse(block).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn masks_host_bits() {
        assert_eq!(Cidr::parse("10.1.2.3/16"), Cidr::parse("10.1.0.0/16"));
        assert!(contains("10.1.2.3/16", "10.1.255.255") && !contains("10.1.2.3/16", "10.2.0.0"));
        assert!(contains("10.0.0.1", "10.0.0.1") && !contains("10.0.0.1/32", "10.0.0.2"));
        assert!(contains("::1/128", "::1") && !contains("::1", "::2"));
    }

    #[test]
    fn families_stay_apart() {
        assert!(contains("0.0.0.0/0", "255.255.255.255") && !contains("0.0.0.0/0", "::1"));
        assert!(contains("::/0", "fe80::1") && !contains("::/0", "10.0.0.1"));
        assert_eq!(Cidr::parse("::ffff:10.0.0.0/104"), Cidr::parse("10.0.0.0/8"));
    }

    #[test]
    fn blocks_lie_in_one_another_or_apart() {
        let block = |value: &str| Cidr::parse(value).unwrap();
        for (one, other, implies, excludes) in [
            ("10.1.0.0/16", "10.0.0.0/8", true, false),
            ("10.0.0.0/8", "10.1.0.0/16", false, false),
            ("10.0.0.0/8", "11.0.0.0/8", false, true),
            ("10.0.0.0/8", "::/0", false, true),
            ("::1", "::/0", true, false),
        ] {
            assert_eq!(block(one).implies(&block(other)), implies, "{one} {other}");
            assert_eq!(block(one).excludes(&block(other)), excludes, "{one} {other}");
        }
        assert_eq!(block("10.0.0.0/8").last().to_string(), "10.255.255.255");
        assert_eq!(block("10.0.0.1").last().to_string(), "10.0.0.1");
        assert_eq!(block("0.0.0.0/0").last().to_string(), "255.255.255.255");
    }

    #[test]
    fn refuses_what_is_no_block() {
        for bad in [
            "",
            "10.0.0",
            "10.0.0.1/33",
            "::/129",
            "10.0.0.1/",
            "10.0.0.1/+8",
            "10.0.0.1/08",
            "a",
            "10.0.0.1/8/8",
            "010.0.0.1",
            "10.0.0.0-10.0.0.9",
            "[::1]",
        ] {
            assert_eq!(Cidr::parse(bad), None, "{bad}");
        }
    }
}
