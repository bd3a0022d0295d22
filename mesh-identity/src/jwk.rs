//! Public keys as JSON Web Keys (RFC 7517, RFC 7518 §6, RFC 8037) and as SubjectPublicKeyInfo.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    der::{BIT_STRING, INTEGER, Malformed, OBJECT_IDENTIFIER, Reader, SEQUENCE, value},
    json::{Json, Object},
};

const ELLIPTIC_CURVE: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// From 2,048 bits, below which RSA is weak, to 8,192, above which it is slow.
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// The kinds of keys that authorities of a trust domain have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    P256,
    P384,
    P521,
    Rsa,
    Ed25519,
}

/// A public key of one of the kinds.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PublicKey {
    kind: KeyKind,
    /// What a SubjectPublicKeyInfo holds in its BIT STRING.
    bits: Vec<u8>,
}

/// Why a JSON Web Key gives no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It is of a kind that is not used here.
    Kind,
    /// A member is missing or is not what it should be.
    Member(&'static str),
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo (RFC 5280 §4.1); none if the key is of another kind.
    pub(crate) fn from_spki(der: &[u8]) -> Result<Option<Self>, Malformed> {
        let mut file = Reader::new(der);
        let mut info = file.enter(SEQUENCE)?;
        file.end()?;
        let mut algorithm = info.enter(SEQUENCE)?;
        let (&unused, bits) = info.read(BIT_STRING)?.split_first().ok_or(Malformed)?;
        info.end()?;
        if unused != 0 {
            return Err(Malformed);
        }
        let kind = match algorithm.read(OBJECT_IDENTIFIER)? {
            ELLIPTIC_CURVE => match algorithm.optional(OBJECT_IDENTIFIER)? {
                Some(P256) => KeyKind::P256,
                Some(P384) => KeyKind::P384,
                Some(P521) => KeyKind::P521,
                _ => return Ok(None),
            },
            RSA => KeyKind::Rsa,
            ED25519 => KeyKind::Ed25519,
            _ => return Ok(None),
        };
        let key = Self {
            kind,
            bits: bits.to_vec(),
        };
        match key.fields() {
            Ok(_) => Ok(Some(key)),
            // A point in compressed form is rare and has no place in a JSON Web Key.
            Err(Malformed) if matches!(bits.first(), Some(2 | 3)) => Ok(None),
            Err(Malformed) => Err(Malformed),
        }
    }

    /// Reads the members of a JSON Web Key.
    pub(crate) fn from_jwk(jwk: &Object) -> Result<Self, Unusable> {
        let text = |name| jwk.get(name).and_then(Json::as_text);
        let bytes = |name| {
            text(name)
                .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
                .ok_or(Unusable::Member(name))
        };
        let (kind, size) = match (text("kty"), text("crv")) {
            (Some("RSA"), _) => {
                let (modulus, exponent) = (bytes("n")?, bytes("e")?);
                if modulus.first().is_none_or(|byte| *byte == 0) {
                    return Err(Unusable::Member("n"));
                }
                if exponent.first().is_none_or(|byte| *byte == 0) || exponent.len() > 8 {
                    return Err(Unusable::Member("e"));
                }
                let bits = value(SEQUENCE, &[integer(&modulus), integer(&exponent)].concat());
                let kind = KeyKind::Rsa;
                return Ok(Self { kind, bits });
            }
            (Some("OKP"), Some("Ed25519")) => {
                let (kind, bits) = (KeyKind::Ed25519, bytes("x")?);
                return if bits.len() == 32 {
                    Ok(Self { kind, bits })
                } else {
                    Err(Unusable::Member("x"))
                };
            }
            (Some("EC"), Some("P-256")) => (KeyKind::P256, 32),
            (Some("EC"), Some("P-384")) => (KeyKind::P384, 48),
            (Some("EC"), Some("P-521")) => (KeyKind::P521, 66),
            _ => return Err(Unusable::Kind),
        };
        let (x, y) = (bytes("x")?, bytes("y")?);
        for (name, coordinate) in [("x", &x), ("y", &y)] {
            if coordinate.len() != size {
                return Err(Unusable::Member(name));
            }
        }
        let bits = [&[4], x.as_slice(), y.as_slice()].concat();
        Ok(Self { kind, bits })
    }

    /// The members of a JSON Web Key that make up the key.
    pub(crate) fn to_jwk(&self) -> Vec<(&'static str, String)> {
        let parameters = match self.kind {
            KeyKind::P256 => [("kty", "EC"), ("crv", "P-256")].as_slice(),
            KeyKind::P384 => &[("kty", "EC"), ("crv", "P-384")],
            KeyKind::P521 => &[("kty", "EC"), ("crv", "P-521")],
            KeyKind::Rsa => &[("kty", "RSA")],
            KeyKind::Ed25519 => &[("kty", "OKP"), ("crv", "Ed25519")],
        };
        let parameters = parameters.iter().map(|&(name, text)| (name, text.to_owned()));
        // Both ways to a key have split it once.
        let fields = self.fields().unwrap_or_default();
        let fields = fields
            .into_iter()
            .map(|(name, bytes)| (name, URL_SAFE_NO_PAD.encode(bytes)));
        parameters.chain(fields).collect()
    }

    /// Whether an algorithm of JWT-SVID takes the key (JWT-SVID §2.1, RFC 7518 §3.3).
    pub(crate) fn signs_tokens(&self) -> bool {
        self.kind != KeyKind::Ed25519 && self.has_fit_size()
    }

    /// Whether an RSA key is neither weak nor slow; those of other kinds have but one size.
    pub(crate) fn has_fit_size(&self) -> bool {
        match (self.kind, self.fields().as_deref()) {
            (KeyKind::Rsa, Ok([(_, modulus), _])) => RSA_MODULUS_BYTES.contains(&modulus.len()),
            (KeyKind::Rsa, _) => false,
            (KeyKind::P256 | KeyKind::P384 | KeyKind::P521 | KeyKind::Ed25519, _) => true,
        }
    }

    #[cfg(feature = "jwt")]
    pub(crate) fn kind(&self) -> KeyKind {
        self.kind
    }

    #[cfg(feature = "jwt")]
    pub(crate) fn bits(&self) -> &[u8] {
        &self.bits
    }

    fn fields(&self) -> Result<Vec<(&'static str, &[u8])>, Malformed> {
        let size = match self.kind {
            KeyKind::P256 => 32,
            KeyKind::P384 => 48,
            KeyKind::P521 => 66,
            KeyKind::Ed25519 if self.bits.len() == 32 => return Ok(vec![("x", &self.bits)]),
            KeyKind::Ed25519 => return Err(Malformed),
            KeyKind::Rsa => {
                let mut file = Reader::new(&self.bits);
                let mut key = file.enter(SEQUENCE)?;
                file.end()?;
                let (modulus, exponent) = (unsigned(key.read(INTEGER)?)?, unsigned(key.read(INTEGER)?)?);
                key.end()?;
                return Ok(vec![("n", modulus), ("e", exponent)]);
            }
        };
        match self.bits.split_first() {
            Some((4, point)) if point.len() == 2 * size => {
                let (x, y) = point.split_at(size);
                Ok(vec![("x", x), ("y", y)])
            }
            _ => Err(Malformed),
        }
    }
}

/// An INTEGER of a number without sign and without leading zeros.
fn integer(number: &[u8]) -> Vec<u8> {
    match number {
        [0x80..=0xff, ..] => value(INTEGER, &[&[0], number].concat()),
        _ => value(INTEGER, number),
    }
}

/// The number in the contents of an INTEGER, if it is above zero.
fn unsigned(contents: &[u8]) -> Result<&[u8], Malformed> {
    match contents {
        [0, number @ ..] if number.first().is_some_and(|byte| *byte >= 0x80) => Ok(number),
        [1..=0x7f, ..] => Ok(contents),
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn object(members: &[(&'static str, String)]) -> Object {
        let members = members.iter().cloned();
        members
            .map(|(name, text)| (name.to_owned(), Json::Text(text)))
            .collect()
    }

    fn bytes(len: usize) -> impl Strategy<Value = String> {
        proptest::collection::vec(1..=255u8, len).prop_map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
    }

    fn members() -> impl Strategy<Value = Vec<(&'static str, String)>> {
        let curve = |curve: &'static str, size| {
            (bytes(size), bytes(size))
                .prop_map(move |(x, y)| vec![("kty", "EC".to_owned()), ("crv", curve.to_owned()), ("x", x), ("y", y)])
        };
        let rsa = (bytes(256), bytes(3)).prop_map(|(n, e)| vec![("kty", "RSA".to_owned()), ("n", n), ("e", e)]);
        prop_oneof![curve("P-256", 32), curve("P-384", 48), curve("P-521", 66), rsa]
    }

    #[test]
    fn keys_have_the_size_of_their_kind() {
        let zeros = |len| URL_SAFE_NO_PAD.encode(vec![0u8; len]);
        let ones = |len| URL_SAFE_NO_PAD.encode(vec![1u8; len]);
        let curve = |crv: &str, x, y| {
            let members = [("kty", "EC".to_owned()), ("crv", crv.to_owned()), ("x", x), ("y", y)];
            PublicKey::from_jwk(&object(&members)).err()
        };
        assert_eq!(curve("P-256", ones(32), ones(32)), None);
        assert_eq!(curve("P-256", ones(31), ones(32)), Some(Unusable::Member("x")));
        assert_eq!(curve("P-256", ones(32), ones(33)), Some(Unusable::Member("y")));
        assert_eq!(curve("P-384", ones(32), ones(32)), Some(Unusable::Member("x")));
        assert_eq!(curve("secp256k1", ones(32), ones(32)), Some(Unusable::Kind));
        let padded = format!("{}=", ones(32));
        assert_eq!(curve("P-256", padded, ones(32)), Some(Unusable::Member("x")));
        let rsa = |n, e| {
            let members = [("kty", "RSA".to_owned()), ("n", n), ("e", e)];
            PublicKey::from_jwk(&object(&members)).map(|key| key.signs_tokens())
        };
        assert_eq!(rsa(ones(256), ones(3)), Ok(true));
        assert_eq!(rsa(ones(255), ones(3)), Ok(false));
        assert_eq!(rsa(ones(1025), ones(3)), Ok(false));
        assert_eq!(rsa(zeros(256), ones(3)), Err(Unusable::Member("n")));
        assert_eq!(rsa(ones(256), ones(9)), Err(Unusable::Member("e")));
        assert_eq!(rsa(ones(256), String::new()), Err(Unusable::Member("e")));
    }

    proptest! {
        #[test]
        fn reading_then_writing_is_identity(members in members()) {
            let key = PublicKey::from_jwk(&object(&members)).ok().unwrap();
            prop_assert_eq!(object(&key.to_jwk()), object(&members));
        }

        #[test]
        fn any_bytes_are_a_key_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _key = PublicKey::from_spki(&bytes);
        }
    }
}
