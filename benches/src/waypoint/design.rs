//! The waypoints that are compared.

use std::io;
use std::path::PathBuf;

use super::world::World;
use super::{envoy, ours};
use crate::envoy as program;
use crate::process::{Process, free_addr};

/// A waypoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Design {
    /// Envoy.
    Envoy,
    /// The workspace's own.
    Waypoint,
}

/// The programs, and how they are run.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `waypoint`.
    pub waypoint: PathBuf,
    /// Envoy.
    pub envoy: PathBuf,
    /// Worker threads of each.
    pub threads: u16,
}

impl Design {
    /// The column's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Envoy => "envoy",
            Self::Waypoint => "waypoint",
        }
    }

    /// Starts it with so many services, and waits until it is ready.
    pub async fn start(self, world: &World, services: u16, programs: &Programs) -> io::Result<Process> {
        let admin = free_addr()?;
        let (process, path) = match self {
            Self::Envoy => {
                let config = envoy::configure(world, services, admin)?;
                (program::spawn(&programs.envoy, config, programs.threads)?, "/ready")
            }
            Self::Waypoint => {
                let config = ours::configure(world, services, programs.threads, admin)?;
                let args = ["--config".into(), config.into()];
                (Process::spawn(&programs.waypoint, args)?, "/healthz/ready")
            }
        };
        process.wait_until_ready(admin, path).await?;
        Ok(process)
    }
}
