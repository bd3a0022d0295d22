use bytes::Bytes;

use super::table::STATIC;

/// The first index of the dynamic table (RFC 7541 section 2.3.3).
const FIRST_DYNAMIC: usize = STATIC.len() + 1;

/// A header block under construction. Names and values may be any bytes; pseudo-header fields are fields like others.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Block {
    encoded: Vec<u8>,
}

impl Block {
    /// A block without fields.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The block of an honest CONNECT request (RFC 9113 section 8.5).
    #[must_use]
    pub fn connect(authority: &str) -> Self {
        Self::new().field(":method", "CONNECT").field(":authority", authority)
    }

    /// Adds fields as [`field`](Self::field) does, in this order.
    #[must_use]
    pub fn fields<N: AsRef<[u8]>, V: AsRef<[u8]>>(self, fields: impl IntoIterator<Item = (N, V)>) -> Self {
        fields
            .into_iter()
            .fold(self, |block, (name, value)| block.field(name, value))
    }

    /// Adds a literal field without indexing (section 6.2.2).
    #[must_use]
    pub fn field(self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.literal(0x00, name.as_ref(), value.as_ref())
    }

    /// Adds a literal field that the peer must put into its dynamic table (section 6.2.1).
    #[must_use]
    pub fn indexing_field(self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.literal(0x40, name.as_ref(), value.as_ref())
    }

    /// Adds a literal field that must never be indexed (section 6.2.3).
    #[must_use]
    pub fn never_indexed_field(self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.literal(0x10, name.as_ref(), value.as_ref())
    }

    /// Adds a reference into the tables (section 6.1): 1 to 61 are static, 62 is the newest dynamic entry.
    #[must_use]
    pub fn indexed(mut self, index: usize) -> Self {
        self.integer(0x80, 7, index);
        self
    }

    /// Adds a change of the size of the peer's dynamic table (section 6.3).
    #[must_use]
    pub fn table_size(mut self, bytes: usize) -> Self {
        self.integer(0x20, 5, bytes);
        self
    }

    /// Adds one field with a value of `value_len` bytes and then refers to it `references` times: a small block that
    /// swells to their product when decoded.
    #[must_use]
    pub fn bomb(self, value_len: usize, references: usize) -> Self {
        let armed = self.indexing_field("bomb", vec![b'x'; value_len]);
        (0..references).fold(armed, |block, _| block.indexed(FIRST_DYNAMIC))
    }

    /// Adds bytes as they are, well-formed or not.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.encoded.extend_from_slice(bytes);
        self
    }

    fn literal(mut self, pattern: u8, name: &[u8], value: &[u8]) -> Self {
        self.encoded.push(pattern);
        for string in [name, value] {
            self.integer(0x00, 7, string.len());
            self.encoded.extend_from_slice(string);
        }
        self
    }

    /// Section 5.1.
    fn integer(&mut self, pattern: u8, prefix_bits: u32, value: usize) {
        let max = (1_usize << prefix_bits) - 1;
        let mut rest = match value.checked_sub(max) {
            None => return self.encoded.push(pattern | u8::try_from(value).unwrap()),
            Some(rest) => rest,
        };
        self.encoded.push(pattern | u8::try_from(max).unwrap());
        while rest >= 0x80 {
            self.encoded.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
            rest >>= 7;
        }
        self.encoded.push(u8::try_from(rest).unwrap());
    }
}

impl From<Block> for Bytes {
    fn from(block: Block) -> Self {
        block.encoded.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hpack::Decoder;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decoding_undoes_encoding(list: Vec<(Vec<u8>, Vec<u8>)>) {
            for indexing in [false, true] {
                let block = list.iter().fold(Block::new(), |block, (name, value)| match indexing {
                    false => block.field(name, value),
                    true => block.indexing_field(name, value),
                });
                let decoded = Decoder::new().decode(&Bytes::from(block)).unwrap();
                let decoded: Vec<_> = decoded.iter().map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
                prop_assert_eq!(&decoded, &list);
            }
        }
    }

    #[test]
    fn integers_are_those_of_appendix_c_1() {
        let integer = |prefix, value| {
            let mut block = Block::new();
            block.integer(0, prefix, value);
            block.encoded
        };
        assert_eq!(integer(5, 10), [10]);
        assert_eq!(integer(5, 1337), [31, 154, 10]);
        assert_eq!(integer(8, 42), [42]);
    }

    #[test]
    fn literals_are_those_of_appendix_c_2() {
        let indexing = Block::new().indexing_field("custom-key", "custom-header");
        assert_eq!(indexing.encoded, b"\x40\x0acustom-key\x0dcustom-header");
        let never = Block::new().never_indexed_field("password", "secret");
        assert_eq!(never.encoded, b"\x10\x08password\x06secret");
        assert_eq!(Block::new().indexed(2).encoded, b"\x82");
    }

    #[test]
    fn a_bomb_swells() {
        let bomb = Bytes::from(Block::new().bomb(3000, 500));
        assert!(bomb.len() < 3600, "{} bytes", bomb.len());
        let fields = Decoder::new().decode(&bomb).unwrap();
        assert_eq!(fields.len(), 501);
        assert!(fields.iter().all(|(_, value)| value.len() == 3000));
    }
}
