//! Messages by hand.

use prost::{DecodeError, Message};

/// A field of wire type 2: the tag for `number`, the length, the content.
pub(crate) fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = varint(number << 3 | 2);
    bytes.extend(varint(u32::try_from(content.len()).unwrap()));
    bytes.extend(content);
    bytes
}

/// A field of wire type 0.
pub(crate) fn number(number: u32, value: u32) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

fn varint(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// The message that these fields make.
pub(crate) fn read<M: Message + Default>(parts: &[Vec<u8>]) -> Result<M, DecodeError> {
    M::decode(parts.concat().as_slice())
}
