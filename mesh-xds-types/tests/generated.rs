//! The checked-in code is what the `.proto` files generate. To write it anew:
//!
//! ```text
//! REGENERATE=1 cargo test -p mesh-xds-types --test generated
//! ```
#![allow(clippy::unwrap_used, missing_docs, reason = "test code")]

use std::path::{Path, PathBuf};
use std::{env, fs};

const FILES: [&str; 11] = [
    "envoy/auth.proto",
    "envoy/core.proto",
    "envoy/descriptor.proto",
    "envoy/discovery.proto",
    "envoy/limit.proto",
    "envoy/type.proto",
    "google/status.proto",
    "istio/authorization.proto",
    "istio/ca.proto",
    "istio/workload.proto",
    "mesh/traffic.proto",
];

#[test]
fn generated_code_is_that_of_the_proto_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fresh = tempfile::tempdir().unwrap();
    generate(&folder.join("proto"), fresh.path());

    let checked_in = folder.join("generated");
    if env::var_os("REGENERATE").is_some() {
        for file in rust_files(fresh.path()) {
            fs::copy(fresh.path().join(&file), checked_in.join(&file)).unwrap();
        }
    }
    assert_eq!(rust_files(&checked_in), rust_files(fresh.path()));
    for file in rust_files(fresh.path()) {
        assert!(
            fs::read(checked_in.join(&file)).unwrap() == fs::read(fresh.path().join(&file)).unwrap(),
            "{} is out of date",
            file.display()
        );
    }
}

fn generate(protos: &Path, out: &Path) {
    let descriptors = protox::compile(FILES, [protos]).unwrap();
    tonic_prost_build::configure()
        .out_dir(out)
        // The stubs leave the choice of transport to their user.
        .build_transport(false)
        .client_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .compile_fds(descriptors)
        .unwrap();
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into())
        .collect();
    files.sort();
    files
}
