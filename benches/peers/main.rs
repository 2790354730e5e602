//! The programs of `make bench-peers` (`run.py`): Pingora without poolgate, the upstream that all
//! proxies are measured with, and the clients of many streams.

mod bare;
mod streams;
mod upstream;

use std::error::Error;
use std::io::{self, Write};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const USAGE: &str = "peers bare LISTEN UPSTREAM | upstream LISTEN | streams PROXY COUNT SECONDS";

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["bare", listen, upstream] => bare::run(listen, upstream.parse()?),
        ["upstream", listen] => upstream::run(listen)?,
        ["streams", proxy, count, seconds] => {
            streams::run(proxy.parse()?, count.parse()?, seconds.parse()?)?;
        }
        _ => writeln!(io::stderr(), "{USAGE}")?,
    }
    Ok(())
}
