//! Requests to applications behind streams in memory, in virtual time.

mod attempts;
mod bodies;
mod connections;
mod limits;
mod outliers;
mod places;
mod simulation;
mod world;
