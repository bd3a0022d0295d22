//! Header blocks, read.

use bytes::Bytes;

use super::huffman;
use super::table::{OVERHEAD, Table};

/// Size of the dynamic table: what a peer may assume, and is never told otherwise.
const TABLE: usize = 4_096;

/// A block is not one: what later blocks mean is lost with it (RFC 9113 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine::tunnel) struct Malformed;

/// Reads the blocks of one connection, in order: they share a dynamic table.
#[derive(Debug)]
pub(in crate::engine::tunnel) struct Decoder {
    table: Table,
}

impl Decoder {
    pub(in crate::engine::tunnel) fn new() -> Self {
        Self {
            table: Table::new(TABLE),
        }
    }

    /// Reads a whole block and calls `field` for each field, with name, value and the size of the
    /// list so far (RFC 9113 §6.5.2), until it answers that this is enough.
    pub(in crate::engine::tunnel) fn decode(
        &mut self,
        block: &[u8],
        mut field: impl FnMut(Bytes, Bytes, usize) -> bool,
    ) -> Result<(), Malformed> {
        let mut rest = block;
        let mut size = 0;
        while let Some(&first) = rest.first() {
            let (name, value) = match first {
                0x80.. => {
                    let index = integer(&mut rest, 7)?;
                    self.table.get(index).ok_or(Malformed)?
                }
                0x40.. => {
                    let (name, value) = self.literal(&mut rest, 6)?;
                    self.table.insert(name.clone(), value.clone());
                    (name, value)
                }
                0x20.. => {
                    // Changes of size stand before all fields (RFC 7541 §4.2).
                    let limit = integer(&mut rest, 5)?;
                    if size > 0 || limit > TABLE {
                        return Err(Malformed);
                    }
                    self.table.resize(limit);
                    continue;
                }
                _ => self.literal(&mut rest, 4)?,
            };
            size += name.len() + value.len() + OVERHEAD;
            if !field(name, value, size) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn literal(&self, rest: &mut &[u8], prefix: u32) -> Result<(Bytes, Bytes), Malformed> {
        let name = match integer(rest, prefix)? {
            0 => string(rest)?,
            index => self.table.get(index).ok_or(Malformed)?.0,
        };
        Ok((name, string(rest)?))
    }
}

/// A string (RFC 7541 §5.2). It lies within the block, whose length is limited.
fn string(rest: &mut &[u8]) -> Result<Bytes, Malformed> {
    let is_huffman = rest.first().ok_or(Malformed)? & 0x80 != 0;
    let len = integer(rest, 7)?;
    let (raw, tail) = rest.split_at_checked(len).ok_or(Malformed)?;
    *rest = tail;
    if is_huffman {
        let plain = huffman::decode(raw).map_err(|huffman::Malformed| Malformed)?;
        return Ok(plain.into());
    }
    Ok(Bytes::copy_from_slice(raw))
}

/// An integer (RFC 7541 §5.1); none that is allowed needs more than four bytes behind its prefix.
fn integer(rest: &mut &[u8], prefix: u32) -> Result<usize, Malformed> {
    let (&first, mut tail) = rest.split_first().ok_or(Malformed)?;
    let max = (1_usize << prefix) - 1;
    let mut value = usize::from(first) & max;
    if value == max {
        for shift in [0, 7, 14, 21, 28] {
            let (&byte, behind) = tail.split_first().ok_or(Malformed)?;
            if shift == 28 {
                return Err(Malformed);
            }
            tail = behind;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *rest = tail;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use mesh_testkit::hpack::{Block, Decoder as Oracle};
    use proptest::prelude::*;

    use super::*;

    type Fields = Vec<(Vec<u8>, Vec<u8>)>;

    fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Fields, Malformed> {
        let mut fields = Vec::new();
        decoder.decode(block, |name, value, _| {
            fields.push((name.to_vec(), value.to_vec()));
            true
        })?;
        Ok(fields)
    }

    fn judge(decoder: &mut Oracle, block: &[u8]) -> Option<Fields> {
        let fields = decoder.decode(block).ok()?;
        Some(
            fields
                .iter()
                .map(|(name, value)| (name.to_vec(), value.to_vec()))
                .collect(),
        )
    }

    #[derive(Clone, Debug)]
    enum Step {
        Field(u8, Vec<u8>, Vec<u8>),
        Indexed(usize),
        TableSize(usize),
        Raw(Vec<u8>),
    }

    fn step() -> impl Strategy<Value = Step> {
        let text = || prop::collection::vec(any::<u8>(), 0..40);
        prop_oneof![
            6 => (0_u8..3, text(), text()).prop_map(|(kind, name, value)| Step::Field(kind, name, value)),
            4 => (1_usize..70).prop_map(Step::Indexed),
            1 => (0_usize..5_000).prop_map(Step::TableSize),
            1 => prop::collection::vec(any::<u8>(), 0..6).prop_map(Step::Raw),
        ]
    }

    fn spell(steps: Vec<Step>) -> Bytes {
        let block = steps.into_iter().fold(Block::new(), |block, step| match step {
            Step::Field(0, name, value) => block.field(name, value),
            Step::Field(1, name, value) => block.never_indexed_field(name, value),
            Step::Field(_, name, value) => block.indexing_field(name, value),
            Step::Indexed(index) => block.indexed(index),
            Step::TableSize(size) => block.table_size(size),
            Step::Raw(bytes) => block.raw(&bytes),
        });
        block.into()
    }

    proptest! {
        /// Several blocks share one table, and what one reads in them the other does.
        #[test]
        fn agrees_with_the_slow_decoder(blocks in prop::collection::vec(prop::collection::vec(step(), 0..12), 0..5)) {
            let (mut decoder, mut oracle) = (Decoder::new(), Oracle::new());
            for steps in blocks {
                let block = spell(steps);
                let expected = judge(&mut oracle, &block);
                prop_assert_eq!(decode(&mut decoder, &block).ok(), expected.clone());
                if expected.is_none() {
                    break;
                }
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(block: Vec<u8>) {
            let expected = judge(&mut Oracle::new(), &block);
            prop_assert_eq!(decode(&mut Decoder::new(), &block).ok(), expected);
        }
    }

    /// RFC 7541 Appendix C.4: three requests with Huffman strings and a shared table.
    #[test]
    fn decodes_the_examples_of_the_standard() {
        let blocks: [&[u8]; 3] = [
            &[
                0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
            ],
            &[0x82, 0x86, 0x84, 0xbe, 0x58, 0x86, 0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf],
            &[
                0x82, 0x87, 0x85, 0xbf, 0x40, 0x88, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f, 0x89, 0x25, 0xa8,
                0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf,
            ],
        ];
        let mut decoder = Decoder::new();
        let [_, _, last] = blocks.map(|block| decode(&mut decoder, block).unwrap());
        let expected = [
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            (":authority", "www.example.com"),
            ("custom-key", "custom-value"),
        ];
        assert_eq!(last, expected.map(|(name, value)| (name.into(), value.into())));
    }

    #[test]
    fn a_bomb_stops_when_it_is_enough() {
        let block = Bytes::from(Block::new().bomb(3_000, 10_000));
        let mut seen = 0;
        let stopped = Decoder::new().decode(&block, |_, _, size| {
            seen += 1;
            size < 16_384
        });
        assert_eq!((stopped, seen), (Ok(()), 6));
    }
}
