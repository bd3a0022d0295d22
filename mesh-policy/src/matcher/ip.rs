use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A block of addresses, as the `ipBlocks` of policies have them.
///
/// IPv4 and IPv6 addresses are never in the same one. IPv4 addresses that are written as IPv6 ones
/// (`::ffff:10.0.0.1`), and blocks of such, are taken for what they are.
///
/// ```
/// use mesh_policy::Cidr;
///
/// let block: Cidr = "10.1.2.3/8".parse()?;
/// assert!(block.contains("10.200.0.1".parse()?));
/// assert_eq!(block.to_string(), "10.0.0.0/8");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    first: IpAddr,
    bits: u8,
}

impl Cidr {
    fn new(address: IpAddr, bits: u8) -> Self {
        Self {
            first: mask(address, bits),
            bits,
        }
    }

    /// Whether an address is in this block.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
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

impl FromStr for Cidr {
    type Err = CidrError;

    /// Parses an address or `ADDRESS/BITS`; bits past the prefix are cleared.
    ///
    /// # Errors
    ///
    /// See [`CidrError`].
    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, bits) = match text.split_once('/') {
            None => (text, None),
            Some((address, bits)) => (address, Some(bits)),
        };
        let address: IpAddr = address.parse().map_err(|_| CidrError::Address)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(most), decimal).filter(|bits| *bits <= most);
        let bits = bits.ok_or(CidrError::Bits { most })?;
        Ok(match address {
            IpAddr::V6(v6) if bits >= 96 => match v6.to_ipv4_mapped() {
                Some(v4) => Self::new(v4.into(), bits - 96),
                None => Self::new(address, bits),
            },
            _ => Self::new(address, bits),
        })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

/// Why a text is no block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CidrError {
    /// There is no address before the slash, or in the place of it all.
    #[error("not an IP address, or one with the length of a prefix")]
    Address,
    /// What follows the slash is no decimal number, or too large a one.
    #[error("the length of the prefix is not from 0 to {most}")]
    Bits {
        /// The most that it may be for such an address.
        most: u8,
    },
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
    use proptest::prelude::*;

    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn contains(block: &str, address: &str) -> bool {
        cidr(block).contains(address.parse().unwrap())
    }

    #[test]
    fn masks_host_bits() {
        assert_eq!(cidr("10.1.2.3/16"), cidr("10.1.0.0/16"));
        assert!(contains("10.1.2.3/16", "10.1.255.255") && !contains("10.1.2.3/16", "10.2.0.0"));
        assert!(contains("10.0.0.1", "10.0.0.1") && !contains("10.0.0.1/32", "10.0.0.2"));
        assert!(contains("::1/128", "::1") && !contains("::1", "::2"));
    }

    #[test]
    fn families_stay_apart() {
        assert!(contains("0.0.0.0/0", "255.255.255.255") && !contains("0.0.0.0/0", "::1"));
        assert!(contains("::/0", "fe80::1") && !contains("::/0", "10.0.0.1"));
        assert!(contains("10.0.0.0/8", "::ffff:10.0.0.1") && !contains("::/0", "::ffff:10.0.0.1"));
        assert_eq!(cidr("::ffff:10.0.0.0/104"), cidr("10.0.0.0/8"));
    }

    #[test]
    fn blocks_lie_in_one_another_or_apart() {
        for (one, other, implies, excludes) in [
            ("10.1.0.0/16", "10.0.0.0/8", true, false),
            ("10.0.0.0/8", "10.1.0.0/16", false, false),
            ("10.0.0.0/8", "11.0.0.0/8", false, true),
            ("10.0.0.0/8", "::/0", false, true),
            ("::1", "::/0", true, false),
        ] {
            assert_eq!(cidr(one).implies(&cidr(other)), implies, "{one} {other}");
            assert_eq!(cidr(one).excludes(&cidr(other)), excludes, "{one} {other}");
        }
        assert_eq!(cidr("10.0.0.0/8").last().to_string(), "10.255.255.255");
        assert_eq!(cidr("10.0.0.1").last().to_string(), "10.0.0.1");
        assert_eq!(cidr("0.0.0.0/0").last().to_string(), "255.255.255.255");
    }

    #[test]
    fn refuses_what_is_no_block() {
        for bad in [
            "",
            "10.0.0",
            "a",
            "/8",
            "010.0.0.1",
            "10.0.0.0-10.0.0.9",
            "[::1]",
            " 10.0.0.1",
        ] {
            assert_eq!(bad.parse::<Cidr>(), Err(CidrError::Address), "{bad}");
        }
        for (bad, most) in [
            ("10.0.0.1/33", 32),
            ("::/129", 128),
            ("::ffff:10.0.0.1/129", 128),
            ("10.0.0.1/", 32),
            ("10.0.0.1/+8", 32),
            ("10.0.0.1/08", 32),
            ("10.0.0.1/-1", 32),
            ("10.0.0.1/8/8", 32),
            ("10.0.0.1/256", 32),
        ] {
            assert_eq!(bad.parse::<Cidr>(), Err(CidrError::Bits { most }), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_the_same_block(bytes in any::<u128>(), bits in 0_u8..=128) {
            for address in [
                IpAddr::from(Ipv6Addr::from_bits(bytes)),
                Ipv6Addr::from_bits(bytes & u128::from(u32::MAX) | 0xffff << 32).into(),
                Ipv4Addr::from_bits(bytes as u32).into(),
            ] {
                let bits = if address.is_ipv4() { bits.min(32) } else { bits };
                let block = cidr(&format!("{address}/{bits}"));
                prop_assert_eq!(cidr(&block.to_string()), block);
                // A larger block of IPv6 addresses has none of IPv4's.
                let is_shown = address.is_ipv4() || address.to_canonical().is_ipv6() || bits >= 96;
                prop_assert_eq!(block.contains(address), is_shown);
            }
        }
    }
}
