//! The Huffman code of HPACK (RFC 7541 §5.2 and Appendix B), decoded.
//!
//! The code is canonical: codes of one length are consecutive numbers in the order of their
//! symbols and follow on from the shorter ones, so the lengths alone determine it.

/// The string is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Decodes a string.
pub(super) fn decode(encoded: &[u8]) -> Result<Vec<u8>, Malformed> {
    // No code is shorter than five bits.
    let mut decoded = Vec::with_capacity(encoded.len() * 8 / 5);
    let mut rest = encoded.iter();
    // Bits that are not decoded yet, at the top.
    let (mut bits, mut filled) = (0_u64, 0_u32);
    loop {
        while filled <= 56 {
            let Some(byte) = rest.next() else { break };
            bits |= u64::from(*byte) << (56 - filled);
            filled += 8;
        }
        match symbol(bits) {
            Some((symbol, length)) if length <= filled => {
                decoded.push(symbol);
                bits <<= length;
                filled -= length;
            }
            // What is left of the last byte is the start of the end-of-string symbol, all ones.
            _ if filled < 8 && bits == !(u64::MAX.checked_shr(filled).unwrap_or(0)) => return Ok(decoded),
            _ => return Err(Malformed),
        }
    }
}

/// The byte that the bits begin with, and the length of its code; `None` is the end of string.
fn symbol(bits: u64) -> Option<(u8, u32)> {
    let code = (bits >> 32) as u32;
    for group in &CODE.groups {
        if code < group.end || group.end == 0 {
            let offset = (code - group.first) >> (32 - group.length);
            let symbol = CODE.symbols.get(group.start + offset as usize)?;
            return Some((u8::try_from(*symbol).ok()?, group.length));
        }
    }
    None
}

/// Codes of one length, aligned to the left of 32 bits.
#[derive(Clone, Copy)]
struct Group {
    first: u32,
    /// The code behind the last; 0 if that is beyond 32 bits.
    end: u32,
    length: u32,
    /// Where their symbols start.
    start: usize,
}

struct Code {
    groups: [Group; LONGEST as usize - SHORTEST as usize + 1],
    /// By length, and then by value.
    symbols: [u16; 257],
}

const SHORTEST: u8 = 5;
const LONGEST: u8 = 30;

const CODE: Code = code();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn code() -> Code {
    let mut symbols = [0; 257];
    let mut groups = [Group {
        first: 0,
        end: 0,
        length: 0,
        start: 0,
    }; LONGEST as usize - SHORTEST as usize + 1];
    let (mut length, mut filled, mut next) = (SHORTEST, 0, 0_u64);
    while length <= LONGEST {
        let (start, first) = (filled, next);
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] == length {
                symbols[filled] = symbol as u16;
                filled += 1;
                next += 1 << (32 - length);
            }
            symbol += 1;
        }
        groups[(length - SHORTEST) as usize] = Group {
            first: first as u32,
            end: next as u32,
            length: length as u32,
            start,
        };
        length += 1;
    }
    Code { groups, symbols }
}

/// The length in bits of the code of each byte, and of the end-of-string symbol behind them.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bit by bit, with codes counted up as Appendix B prints them.
    fn encode(plain: &[u8]) -> Vec<u8> {
        let mut bits = Vec::new();
        for byte in plain {
            let length = u32::from(LENGTHS[usize::from(*byte)]);
            let shorter: u64 = LENGTHS
                .iter()
                .filter(|other| u32::from(**other) < length)
                .map(|other| 1 << (30 - other))
                .sum();
            let before = LENGTHS[..usize::from(*byte)].iter();
            let before = before.filter(|other| u32::from(**other) == length).count() as u64;
            let code = (shorter >> (30 - length)) + before;
            bits.extend((0..length).rev().map(|shift| (code >> shift & 1) as u8));
        }
        bits.resize(bits.len().next_multiple_of(8), 1);
        bits.chunks(8)
            .map(|byte| byte.iter().fold(0, |byte, bit| byte << 1 | bit))
            .collect()
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(plain: Vec<u8>) {
            prop_assert_eq!(decode(&encode(&plain)), Ok(plain));
        }

        #[test]
        fn a_string_has_one_spelling(encoded: Vec<u8>) {
            if let Ok(plain) = decode(&encoded) {
                prop_assert_eq!(encode(&plain), encoded);
            }
        }
    }

    /// RFC 7541 Appendix C.4.1.
    #[test]
    fn decodes_the_example_of_the_standard() {
        let encoded = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decode(&encoded), Ok(b"www.example.com".to_vec()));
    }

    #[test]
    fn refuses_the_end_of_string_and_false_padding() {
        assert_eq!(decode(&[0xff; 4]), Err(Malformed));
        assert_eq!(decode(&[0xff]), Err(Malformed));
        // `0` is 00000, here padded with zeros and then with ones.
        assert_eq!(decode(&[0x00]), Err(Malformed));
        assert_eq!(decode(&[0x07]), Ok(b"0".to_vec()));
        assert_eq!(decode(&[0x07, 0xff]), Err(Malformed));
    }
}
