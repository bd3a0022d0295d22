//! Header compression (RFC 7541): an encoder that writes exactly what it is told, a decoder for what real peers send.
//!
//! A [`Block`] is written field by field, as literals without Huffman coding unless told otherwise, so the same fields
//! always give the same bytes and depend on no earlier block. The [`Decoder`] knows the whole format.

mod block;
mod decoder;
mod fields;
mod huffman;
mod table;

pub use self::block::Block;
pub use self::decoder::{DecodeError, Decoder};
pub use self::fields::Fields;
