//! The little of X.690 that certificates and keys take, in its distinguished form only.

/// The bytes are not DER, or not of the type that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;

/// The tag `[number]`, primitive. `number` is below 31.
pub(crate) const fn context(number: u8) -> u8 {
    0x80 | number
}

/// The tag `[number]`, constructed. `number` is below 31.
pub(crate) const fn constructed(number: u8) -> u8 {
    0xa0 | number
}

/// Takes one value after the other off the front of a run of DER values.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next value, whatever it is: its tag and its contents.
    pub(crate) fn any(&mut self) -> Result<(u8, &'a [u8]), Malformed> {
        let (&tag, rest) = self.rest.split_first().ok_or(Malformed)?;
        // Tag numbers from 31 take more bytes; no part of a certificate that is read here has one.
        if tag & 0x1f == 0x1f {
            return Err(Malformed);
        }
        let (length, rest) = length(rest)?;
        let (contents, rest) = rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok((tag, contents))
    }

    /// The contents of the next value, which has this tag.
    pub(crate) fn read(&mut self, tag: u8) -> Result<&'a [u8], Malformed> {
        match self.any()? {
            (found, contents) if found == tag => Ok(contents),
            _ => Err(Malformed),
        }
    }

    /// The values inside the next value, which has this tag.
    pub(crate) fn enter(&mut self, tag: u8) -> Result<Self, Malformed> {
        self.read(tag).map(Self::new)
    }

    /// The contents of the next value if it has this tag; otherwise nothing is taken.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, Malformed> {
        if self.rest.first() == Some(&tag) {
            self.read(tag).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The next value with its tag and length, which has this tag.
    pub(crate) fn whole(&mut self, tag: u8) -> Result<&'a [u8], Malformed> {
        let before = self.rest;
        self.read(tag)?;
        before.get(..before.len() - self.rest.len()).ok_or(Malformed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

/// One DER value.
#[cfg(any(feature = "dev-ca", feature = "bundle-document"))]
pub(crate) fn value(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len().to_be_bytes();
    let significant: Vec<u8> = length.iter().copied().skip_while(|byte| *byte == 0).collect();
    let mut der = vec![tag];
    match *significant.as_slice() {
        [] => der.push(0),
        [short] if short < 0x80 => der.push(short),
        // A `usize` has at most eight bytes.
        _ => {
            der.push(0x80 | u8::try_from(significant.len()).unwrap_or(8));
            der.extend(significant);
        }
    }
    der.extend_from_slice(contents);
    der
}

/// A BOOLEAN's contents: DER knows one byte for each of the two values.
pub(crate) fn boolean(contents: &[u8]) -> Result<bool, Malformed> {
    match contents {
        [0x00] => Ok(false),
        [0xff] => Ok(true),
        _ => Err(Malformed),
    }
}

/// The first sixteen bits of a BIT STRING's contents, bit 0 of ASN.1 being the highest.
pub(crate) fn bits(contents: &[u8]) -> Result<u16, Malformed> {
    let (&unused, data) = contents.split_first().ok_or(Malformed)?;
    let last = data.last().copied().unwrap_or(0);
    let padding = match unused {
        0 => 0,
        1..=7 if !data.is_empty() => last & ((1 << unused) - 1),
        _ => return Err(Malformed),
    };
    if padding != 0 {
        return Err(Malformed);
    }
    let byte = |index| u16::from(data.get(index).copied().unwrap_or(0));
    Ok(byte(0) << 8 | byte(1))
}

/// The octets of a BIT STRING's contents, which has whole ones only.
#[cfg(any(feature = "dev-ca", feature = "workload-api"))]
pub(crate) fn octets(contents: &[u8]) -> Result<&[u8], Malformed> {
    match contents.split_first() {
        Some((0, octets)) => Ok(octets),
        _ => Err(Malformed),
    }
}

/// One to three bytes of definite length; nothing that is read here is longer than 16 MiB.
fn length(bytes: &[u8]) -> Result<(usize, &[u8]), Malformed> {
    match bytes {
        [short, rest @ ..] if *short < 0x80 => Ok((usize::from(*short), rest)),
        [0x81, a, rest @ ..] if *a >= 0x80 => Ok((usize::from(*a), rest)),
        [0x82, a, b, rest @ ..] if *a != 0 => Ok((usize::from(*a) << 8 | usize::from(*b), rest)),
        [0x83, a, b, c, rest @ ..] if *a != 0 => {
            Ok((usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c), rest))
        }
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_values_in_order() {
        let mut reader = Reader::new(&[0x02, 0x01, 0x05, 0x30, 0x02, 0x05, 0x00]);
        assert_eq!(reader.optional(BOOLEAN), Ok(None));
        assert_eq!(reader.read(INTEGER), Ok(&[0x05][..]));
        assert_eq!(reader.whole(SEQUENCE), Ok(&[0x30, 0x02, 0x05, 0x00][..]));
        assert_eq!(reader.end(), Ok(()));
    }

    #[test]
    fn rejects_lengths_that_are_not_the_shortest_or_run_over() {
        for bytes in [
            &[0x02][..],
            &[0x02, 0x02, 0x05],
            &[0x02, 0x81, 0x01, 0x05],
            &[0x02, 0x82, 0x00, 0x01, 0x05],
            &[0x02, 0x80, 0x05, 0x00, 0x00],
            &[0x02, 0x84, 0x00, 0x00, 0x00, 0x01, 0x05],
            &[0x1f, 0x01, 0x05],
        ] {
            assert_eq!(Reader::new(bytes).any(), Err(Malformed), "{bytes:?}");
        }
    }

    #[test]
    fn reads_bit_strings_of_up_to_sixteen_bits() {
        assert_eq!(bits(&[0x00]), Ok(0));
        assert_eq!(bits(&[0x07, 0x80]), Ok(0x8000));
        assert_eq!(bits(&[0x07, 0x00, 0x80]), Ok(0x0080));
        for contents in [&[][..], &[0x01], &[0x08, 0x00], &[0x07, 0x81]] {
            assert_eq!(bits(contents), Err(Malformed), "{contents:?}");
        }
    }

    #[test]
    #[cfg(any(feature = "dev-ca", feature = "workload-api"))]
    fn reads_bit_strings_of_whole_octets() {
        assert_eq!(octets(&[0]), Ok(&[][..]));
        assert_eq!(octets(&[0, 1, 2]), Ok(&[1, 2][..]));
        for contents in [&[][..], &[1, 2], &[8, 0]] {
            assert_eq!(octets(contents), Err(Malformed), "{contents:?}");
        }
    }

    #[test]
    fn knows_two_booleans() {
        assert_eq!(boolean(&[0xff]), Ok(true));
        assert_eq!(boolean(&[0x00]), Ok(false));
        assert_eq!(boolean(&[0x01]), Err(Malformed));
    }
}
