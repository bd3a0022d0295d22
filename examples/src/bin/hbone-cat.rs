//! Netcat for HBONE.

use std::hint::black_box;
use std::process::ExitCode;

/// Bytes of free memory that a busy relay keeps.
const KEPT_HEAP: usize = 8 * 1024 * 1024;

fn main() -> ExitCode {
    keep_heap();
    mesh_examples::hbone_cat::main(std::env::args_os())
}

/// Has glibc keep what a busy relay frees and needs again at once. By default it gives the top of
/// its heap back to the kernel whenever 128 KiB of it are free; once a larger block was freed, that
/// threshold is twice the block's size (`M_MMAP_THRESHOLD` in mallopt(3)).
fn keep_heap() {
    drop(black_box(Vec::<u8>::with_capacity(KEPT_HEAP)));
}
