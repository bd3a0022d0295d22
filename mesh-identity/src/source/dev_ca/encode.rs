//! Writing DER and PEM.

use pem::{EncodeConfig, LineEnding, Pem};

use crate::der::{
    BIT_STRING, INTEGER, Malformed, OBJECT_IDENTIFIER, OCTET_STRING, Reader, SEQUENCE, constructed, value,
};

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const ELLIPTIC_CURVE: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const UTF8_STRING: u8 = 0x0c;

/// An INTEGER, which would be negative if its first bit were set.
pub(super) fn integer(number: u8) -> Vec<u8> {
    if number < 0x80 {
        value(INTEGER, &[number])
    } else {
        value(INTEGER, &[0, number])
    }
}

/// A BIT STRING of up to eight named bits, without the trailing zeros that DER forbids.
pub(super) fn bits(bits: u8) -> Vec<u8> {
    match u8::try_from(bits.trailing_zeros()) {
        Ok(unused) if bits != 0 => value(BIT_STRING, &[unused, bits]),
        _ => value(BIT_STRING, &[0]),
    }
}

/// An otherName with a UTF-8 text.
pub(super) fn other_name(id: &[u64], text: &str) -> Vec<u8> {
    let id = value(OBJECT_IDENTIFIER, &object_identifier(id));
    let text = value(constructed(0), &value(UTF8_STRING, text.as_bytes()));
    value(constructed(0), &[id, text].concat())
}

pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&Pem::new(label, der), config)
}

/// The traditional form of a PKCS#8 key, with its PEM label.
pub(super) fn traditional_key(pkcs8: &[u8]) -> Option<(&'static str, Vec<u8>)> {
    let mut key = Reader::new(pkcs8).enter(SEQUENCE).ok()?;
    key.read(INTEGER).ok()?;
    let mut algorithm = key.enter(SEQUENCE).ok()?;
    let id = algorithm.read(OBJECT_IDENTIFIER).ok()?;
    let inner = key.read(OCTET_STRING).ok()?;
    match id {
        RSA => Some(("RSA PRIVATE KEY", inner.to_vec())),
        ELLIPTIC_CURVE => {
            let curve = algorithm.whole(OBJECT_IDENTIFIER).ok()?;
            Some(("EC PRIVATE KEY", curve_key(inner, curve).ok()?))
        }
        _ => None,
    }
}

/// SEC1 keys outside of PKCS#8 have to name their curve themselves (RFC 5915 §3).
fn curve_key(inner: &[u8], curve: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut key = Reader::new(inner).enter(SEQUENCE)?;
    let version = key.whole(INTEGER)?;
    let secret = key.whole(OCTET_STRING)?;
    key.optional(constructed(0))?;
    let parameters = value(constructed(0), curve);
    let public = match key.optional(constructed(1))? {
        Some(public) => value(constructed(1), public),
        None => Vec::new(),
    };
    Ok(value(SEQUENCE, &[version, secret, &parameters, &public].concat()))
}

fn object_identifier(id: &[u64]) -> Vec<u8> {
    let (head, tail) = match id {
        [first, second, tail @ ..] => (first * 40 + second, tail),
        _ => (0, id),
    };
    std::iter::once(head)
        .chain(tail.iter().copied())
        .flat_map(base128)
        .collect()
}

fn base128(number: u64) -> Vec<u8> {
    let groups: Vec<u8> = (0..10)
        .rev()
        .map(|group| (number >> (7 * group) & 0x7f) as u8)
        .skip_while(|g| *g == 0)
        .collect();
    match groups.split_last() {
        None => vec![0],
        Some((last, rest)) => rest.iter().map(|group| group | 0x80).chain([*last]).collect(),
    }
}
