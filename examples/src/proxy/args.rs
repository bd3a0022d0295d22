//! What the proxies' command lines have in common.

use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(crate) struct Launch {
    /// Configuration: TOML, as shown by --help. Paths in it are relative to its folder.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Print the ready line as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
