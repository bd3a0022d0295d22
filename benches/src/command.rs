//! What the commands have in common.

use std::io::{self, Write};
use std::path::PathBuf;

use crate::envoy;
use crate::plot::Plot;
use crate::report::{Quantity, Report};

/// Where a report goes.
#[derive(Clone, Debug, clap::Args)]
pub struct Output {
    /// Also draw the ratios into this file, as an SVG picture
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl Output {
    /// Prints a report, and draws it under a title with ratios up to `longest`.
    pub fn show<Q: Quantity>(&self, report: &Report<Q>, title: &str, longest: f64) -> io::Result<()> {
        if let Some(file) = &self.plot {
            let plot = Plot { report, title, longest };
            std::fs::write(file, plot.to_string())?;
        }
        match self.json {
            true => writeln!(io::stdout(), "{}", report.to_json()),
            false => write!(io::stdout(), "{report}"),
        }
    }
}

/// The Envoy that is compared with.
#[derive(Clone, Debug, clap::Args)]
pub struct Peer {
    /// The Envoy binary; by default the one that is installed for the tests
    #[arg(long)]
    envoy: Option<PathBuf>,
}

impl Peer {
    /// The program, and its version said on stderr.
    pub fn program(&self) -> io::Result<PathBuf> {
        let program = self.envoy.clone().unwrap_or_else(envoy::installed);
        writeln!(io::stderr(), "Envoy {}", envoy::version(&program)?)?;
        Ok(program)
    }
}

/// The program that was named, or else the one beside this.
pub fn program(named: Option<PathBuf>, name: &str) -> io::Result<PathBuf> {
    match named {
        Some(path) => Ok(path),
        None => Ok(std::env::current_exe()?.with_file_name(name)),
    }
}
