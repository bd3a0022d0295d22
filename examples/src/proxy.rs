//! What the proxies are made of, whichever layer they work at.

pub(crate) mod access_log;
pub(crate) mod admin;
pub(crate) mod args;
pub(crate) mod chance;
pub(crate) mod config;
pub(crate) mod connect;
pub(crate) mod control_plane;
pub(crate) mod credentials;
pub(crate) mod discovery;
pub(crate) mod labels;
pub(crate) mod level;
pub(crate) mod listeners;
pub(crate) mod mesh_file;
pub(crate) mod metrics;
pub(crate) mod party;
pub(crate) mod plain;
pub(crate) mod program;
pub(crate) mod stretch;
pub(crate) mod traffic;
pub(crate) mod tunnels;
pub(crate) mod view;
