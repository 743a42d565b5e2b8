//! One cycle of run, wait, answer and resume, against what the storage alone would cost, and the
//! other numbers that the project promises. `cargo xtask bench -- --help` tells more.

#![expect(clippy::print_stdout, reason = "the table is what it is for")]

mod args;
mod calls;
mod codec;
mod cycles;
mod floor;
mod flow;
mod latency;
#[cfg(feature = "mongodb")]
mod mongodb;
#[cfg(feature = "neo4j")]
mod neo4j;
mod parked;
#[cfg(feature = "postgres")]
mod postgres;
mod program;
#[cfg(feature = "redis")]
mod redis;
mod sample;
#[cfg(any(feature = "postgres", feature = "redis", feature = "mongodb", feature = "neo4j"))]
mod server;
mod steps;
mod table;

use std::process::ExitCode;

use self::{args::Args, table::Table};

/// What the program has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Failure>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  caused by: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let Some(args) = Args::read(std::env::args().skip(1))? else { return Ok(()) };
    cycles::clear(&args.dir)?;
    let machine = sample::machine(&args.dir)?;
    eprintln!("{machine}");
    let runtime = tokio::runtime::Runtime::new()?;
    // First, so that what is weighed does not hide in memory that others have used and given back.
    let mut parked = Table::default();
    if args.wants("parked") {
        parked::measure(&args, &runtime, &mut parked)?;
    }
    let mut table = Table::default();
    cycles::measure(&args, &runtime, &mut table)?;
    #[cfg(feature = "postgres")]
    if args.wants("postgres") {
        postgres::measure(&args, &runtime, &mut table)?;
    }
    #[cfg(feature = "redis")]
    if args.wants("redis") {
        redis::measure(&args, &runtime, &mut table)?;
    }
    #[cfg(feature = "mongodb")]
    if args.wants("mongodb") {
        mongodb::measure(&args, &runtime, &mut table)?;
    }
    #[cfg(feature = "neo4j")]
    if args.wants("neo4j") {
        neo4j::measure(&args, &runtime, &mut table)?;
    }
    if args.wants("codec") {
        codec::measure(&args, &runtime, &mut table)?;
    }
    if args.wants("steps") {
        steps::measure(&args, &runtime, &mut table)?;
    }
    table.append(parked);
    if args.wants("program") {
        program::measure(&args, &mut table)?;
    }
    println!("{machine}\n");
    print!("{table}");
    println!(
        "\nA ratio is that of the medians; in parentheses the lowest and the highest of all batches. \
         Floor and cycle take turns, batch by batch.\nCPU is user and system time of all threads of \
         the process (/proc/self/stat). gzip and AES-256-GCM are on everywhere."
    );
    std::fs::remove_dir_all(&args.dir)?;
    Ok(())
}
