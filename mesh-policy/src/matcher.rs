//! What policies compare attributes with, each kind of value by itself.

pub(crate) mod header;
pub(crate) mod ip;
pub(crate) mod path;
pub(crate) mod port;
pub(crate) mod principal;
pub(crate) mod text;
