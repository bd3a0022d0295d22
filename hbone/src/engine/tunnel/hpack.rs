//! Header compression (RFC 7541).

mod decoder;
mod encoder;
mod huffman;
mod table;

pub(super) use self::decoder::Decoder;
pub(super) use self::encoder::Encoder;
