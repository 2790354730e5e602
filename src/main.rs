//! The program: the allocator, and everything else from the command line on.

/// Streams are long and small, and this one keeps them small: measurements are in DESIGN §5.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    poolgate::cli::main()
}
