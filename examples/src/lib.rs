//! The binaries of the workspace. Each is a module here, so that it can use what another has.

mod accept;
mod admission;
pub mod control_plane;
mod events;
mod folder;
mod forward;
pub mod hbone_cat;
mod labels;
mod logging;
mod manifest;
pub mod mesh_policy;
pub mod node_proxy;
mod operator;
mod proxy;
pub mod quickstart;
mod relay;
mod settle;
mod sockets;
mod topology;
mod usage;
pub mod waypoint;
mod workers;

/// The README's example, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
