//! The whole-process benchmark: an application, two relay processes in a row, an application.
//!
//! Only the relays' CPU and memory count. Designs are interleaved within each round and medians
//! of the rounds compared, since machines are noisy and drift.

pub mod design;
pub mod load;
pub mod measure;
pub mod relay;
