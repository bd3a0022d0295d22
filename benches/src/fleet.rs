//! Many workloads that call one another, with node proxies or with sidecars between them.
//!
//! Every workload has an address of its own on loopback, an application there, and an identity. It
//! calls services whose workloads are on the other of two nodes. Only what is between the
//! applications counts: they are tasks of the benchmark itself.

pub mod app;
pub mod design;
pub mod measure;
pub mod nodes;
pub mod sidecars;
pub mod wire;
pub mod world;
