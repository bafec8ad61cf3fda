//! `lychgate-gateway`: a wiring list.

use std::process::ExitCode;

use gateway::{cli, commands};

/// Requests are begun on one thread and ended on another, around the store's writer, which is what the C library's allocator
/// is slowest at: with this one a renewal costs a fifth less and an idle connection is a fifth smaller. On other systems the
/// allocator is the system's.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    commands::run(cli::read().unwrap_or_else(|error| error.exit()))
}
