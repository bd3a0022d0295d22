//! The Huffman code of HPACK (RFC 7541 Appendix B), decoded bit by bit.
//!
//! The code is canonical: codes of one length are consecutive numbers in the order of their symbols, and follow on from
//! the shorter ones. So the lengths alone determine it.

use super::DecodeError;

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

const END_OF_STRING: usize = 256;
const MAX_LENGTH: usize = 30;

#[derive(Clone, Debug)]
pub(super) struct Huffman {
    /// For each length: its first code, and where its symbols start and end in `symbols`.
    lengths: [(u32, usize, usize); MAX_LENGTH + 1],
    /// All symbols, by length and then by value.
    symbols: Vec<usize>,
}

impl Huffman {
    pub(super) fn new() -> Self {
        let mut lengths = [(0, 0, 0); MAX_LENGTH + 1];
        let mut symbols = Vec::with_capacity(LENGTHS.len());
        let mut code = 0;
        for (length, entry) in lengths.iter_mut().enumerate().skip(1) {
            code <<= 1;
            let start = symbols.len();
            symbols.extend((0..LENGTHS.len()).filter(|&symbol| usize::from(LENGTHS[symbol]) == length));
            *entry = (code, start, symbols.len());
            code += u32::try_from(symbols.len() - start).unwrap();
        }
        Self { lengths, symbols }
    }

    pub(super) fn decode(&self, encoded: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let mut decoded = Vec::new();
        let (mut code, mut length) = (0_u32, 0);
        for bit in encoded
            .iter()
            .flat_map(|byte| (0..8).rev().map(move |shift| byte >> shift & 1))
        {
            code = code << 1 | u32::from(bit);
            length += 1;
            let (first, start, end) = self.lengths[length];
            let Some(index) = code.checked_sub(first).and_then(|i| usize::try_from(i).ok()) else {
                continue;
            };
            if index >= end - start {
                continue;
            }
            match self.symbols[start + index] {
                END_OF_STRING => return Err(DecodeError::HuffmanEndOfString),
                symbol => decoded.push(u8::try_from(symbol).unwrap()),
            }
            (code, length) = (0, 0);
        }
        // The rest of the last byte is filled with ones, the start of the end-of-string symbol.
        if length > 7 || code != (1 << length) - 1 {
            return Err(DecodeError::HuffmanPadding);
        }
        Ok(decoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(huffman: &Huffman, plain: &[u8]) -> Vec<u8> {
        let mut bits = Vec::new();
        for &byte in plain {
            let at = huffman
                .symbols
                .iter()
                .position(|&symbol| symbol == usize::from(byte))
                .unwrap();
            let length = usize::from(LENGTHS[usize::from(byte)]);
            let (first, start, _) = huffman.lengths[length];
            let code = first + u32::try_from(at - start).unwrap();
            bits.extend((0..length).rev().map(|shift| code >> shift & 1 == 1));
        }
        bits.resize(bits.len().next_multiple_of(8), true);
        bits.chunks(8)
            .map(|byte| byte.iter().fold(0, |byte, &bit| byte << 1 | u8::from(bit)))
            .collect()
    }

    proptest! {
        #[test]
        fn decodes_every_string(plain: Vec<u8>) {
            let huffman = Huffman::new();
            prop_assert_eq!(huffman.decode(&encode(&huffman, &plain)).unwrap(), plain);
        }

        #[test]
        fn is_total(encoded: Vec<u8>) {
            drop(Huffman::new().decode(&encoded));
        }
    }

    #[test]
    fn the_longest_code_is_all_ones() {
        let huffman = Huffman::new();
        assert_eq!(huffman.symbols.last(), Some(&END_OF_STRING));
        let (first, start, end) = huffman.lengths[MAX_LENGTH];
        assert_eq!(first + u32::try_from(end - start).unwrap(), 1 << MAX_LENGTH);
    }

    #[test]
    fn refuses_the_end_of_string_symbol_and_false_padding() {
        let huffman = Huffman::new();
        assert_eq!(huffman.decode(&[0xff; 4]), Err(DecodeError::HuffmanEndOfString));
        assert_eq!(huffman.decode(&[0xff]), Err(DecodeError::HuffmanPadding));
        // `0` is 00000, here padded with zeros.
        assert_eq!(huffman.decode(&[0x00]), Err(DecodeError::HuffmanPadding));
        assert_eq!(huffman.decode(&[0x07]), Ok(b"0".to_vec()));
    }
}
