//! From policies to a set that decides: read under a dialect, interned, indexed.

pub use self::{
    compiler::{CompileError, Compiler, MAX_PROVIDERS},
    set::{PolicySet, RuleName},
};

mod access;
mod build;
mod compiler;
mod index;
mod lower;
pub(super) mod segment;
mod set;
pub(super) mod span;
pub(super) mod test;
mod trie;
pub(super) mod value;
