use super::Fields;
use super::huffman::Huffman;
use super::table::Table;

/// What RFC 7541 lets a decoder assume before it announces another size.
const DEFAULT_TABLE_SIZE: usize = 4096;

/// Why a header block is not one.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The block ends within a field.
    #[error("header block is cut short")]
    CutShort,
    /// An integer does not fit into 32 bits.
    #[error("integer is too large")]
    IntegerTooLarge,
    /// No table has this index.
    #[error("index {0} is in no table")]
    UnknownIndex(usize),
    /// The dynamic table may not become as large.
    #[error("table size {size} is above the limit of {limit}")]
    TableTooLarge {
        /// What the block asks for, in bytes.
        size: usize,
        /// What was announced, in bytes.
        limit: usize,
    },
    /// A change of the table's size stands behind a field.
    #[error("table size changes after a field")]
    LateTableSize,
    /// A Huffman string contains its own end.
    #[error("huffman string contains the end-of-string symbol")]
    HuffmanEndOfString,
    /// A Huffman string ends in something else than ones, or in more than seven of them.
    #[error("huffman string is padded wrongly")]
    HuffmanPadding,
}

/// Decodes the header blocks of one connection, in order: they share a dynamic table.
#[derive(Clone, Debug)]
pub struct Decoder {
    table: Table,
    huffman: Huffman,
    table_limit: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder with a dynamic table of at most 4,096 bytes.
    #[must_use]
    pub fn new() -> Self {
        Self {
            table: Table::new(DEFAULT_TABLE_SIZE),
            huffman: Huffman::new(),
            table_limit: DEFAULT_TABLE_SIZE,
        }
    }

    /// Allows the peer's encoder a dynamic table of this many bytes: what was announced as HEADER_TABLE_SIZE.
    pub fn allow_table_size(&mut self, bytes: usize) {
        self.table_limit = bytes;
    }

    /// Decodes one whole block.
    ///
    /// # Errors
    ///
    /// When the block is malformed. The dynamic table is then unusable, as is the connection.
    pub fn decode(&mut self, block: &[u8]) -> Result<Fields, DecodeError> {
        let mut rest = block;
        let mut fields = Fields::default();
        while let Some(&first) = rest.first() {
            match first {
                0x80.. => {
                    let index = integer(&mut rest, 7)?;
                    let (name, value) = self.table.get(index).ok_or(DecodeError::UnknownIndex(index))?;
                    fields.push(name.to_vec(), value.to_vec());
                }
                0x40.. => {
                    let (name, value) = self.literal(&mut rest, 6)?;
                    self.table.insert(name.clone(), value.clone());
                    fields.push(name, value);
                }
                0x20.. => {
                    if !fields.is_empty() {
                        return Err(DecodeError::LateTableSize);
                    }
                    let size = integer(&mut rest, 5)?;
                    if size > self.table_limit {
                        return Err(DecodeError::TableTooLarge {
                            size,
                            limit: self.table_limit,
                        });
                    }
                    self.table.resize(size);
                }
                _ => {
                    let (name, value) = self.literal(&mut rest, 4)?;
                    fields.push(name, value);
                }
            }
        }
        Ok(fields)
    }

    fn literal(&self, rest: &mut &[u8], prefix_bits: u32) -> Result<(Vec<u8>, Vec<u8>), DecodeError> {
        let name = match integer(rest, prefix_bits)? {
            0 => self.string(rest)?,
            index => self
                .table
                .get(index)
                .ok_or(DecodeError::UnknownIndex(index))?
                .0
                .to_vec(),
        };
        Ok((name, self.string(rest)?))
    }

    fn string(&self, rest: &mut &[u8]) -> Result<Vec<u8>, DecodeError> {
        let is_huffman = rest.first().ok_or(DecodeError::CutShort)? & 0x80 != 0;
        let len = integer(rest, 7)?;
        let (raw, tail) = rest.split_at_checked(len).ok_or(DecodeError::CutShort)?;
        *rest = tail;
        if is_huffman {
            self.huffman.decode(raw)
        } else {
            Ok(raw.to_vec())
        }
    }
}

/// Section 5.1.
fn integer(rest: &mut &[u8], prefix_bits: u32) -> Result<usize, DecodeError> {
    let (&first, tail) = rest.split_first().ok_or(DecodeError::CutShort)?;
    *rest = tail;
    let max = (1_u64 << prefix_bits) - 1;
    let mut value = u64::from(first) & max;
    if value == max {
        for shift in (0..).step_by(7) {
            let (&byte, tail) = rest.split_first().ok_or(DecodeError::CutShort)?;
            *rest = tail;
            if shift > 28 {
                return Err(DecodeError::IntegerTooLarge);
            }
            value += u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    u32::try_from(value)
        .ok()
        .and_then(|value| usize::try_from(value).ok())
        .ok_or(DecodeError::IntegerTooLarge)
}

#[cfg(test)]
mod tests;
