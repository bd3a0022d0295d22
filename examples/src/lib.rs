//! The binaries of the workspace. Each is a module here, so that it can use what another has.

mod admission;
mod forward;
pub mod hbone_cat;
mod manifest;
pub mod mesh_policy;
pub mod quickstart;
mod relay;
mod usage;

/// The README's example, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
