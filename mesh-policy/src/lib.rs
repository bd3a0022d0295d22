#![doc = include_str!("../README.md")]

pub mod authz;
mod budget;
mod chance;
pub mod facts;
mod fingerprint;
#[cfg(feature = "jwt")]
pub mod jwt;
#[cfg(feature = "k8s")]
pub mod manifest;
mod matcher;
pub mod normalize;
pub mod sample;
#[cfg(feature = "traffic")]
pub mod traffic;

pub use budget::{Budget, OverBudget, Resource};
pub use facts::{Attribute, Claim, Claims, ConnectionFacts, Facts, Headers, Known, Metadata, Peer, RequestFacts};
pub use matcher::{
    ip::{Cidr, CidrError},
    path::TemplateError,
};
pub use normalize::{NormalizedPath, OwnedPath, PathError, PathNormalization};
pub use sample::Sample;
