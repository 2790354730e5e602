//! Temporary.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args[1] == "mock" {
        use clap::Parser;
        #[derive(Parser)]
        struct M {
            #[command(flatten)]
            o: poolgate::mock::Options,
        }
        let o = M::parse_from(&args[1..]);
        tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .init();
        tokio::runtime::Runtime::new()
            .unwrap()
            .block_on(poolgate::mock::run(o.o))
            .unwrap();
        return;
    }
    let path = std::path::PathBuf::from(&args[2]);
    let loaded = poolgate::config::load(&path, &poolgate::config::process_env)
        .unwrap_or_else(|e| panic!("{e}"));
    poolgate::app::run(poolgate::app::Options {
        config: loaded.config,
        config_path: Some(path),
        env_file: None,
        announce: true,
    })
    .unwrap();
}
