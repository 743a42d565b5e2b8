//! The lower half alone: an engine of one's own stores its state, and gets it back with an input.
//!
//! ```console
//! $ cargo run --example lower_half -- start
//! $ cargo run --example lower_half -- resume KEY '"Ada Lovelace"'
//! ```
#![allow(clippy::print_stdout, reason = "what it prints is for whoever runs it")]

use std::{env, error::Error, process};

use dynamic_flow::{
    Schema, SuspensionKey, days,
    hub::{PersistenceHub, SuspensionRequest},
    store,
};
use serde::{Deserialize, Serialize};

/// Whatever the engine needs to go on.
#[derive(Serialize, Deserialize)]
struct Contract {
    number: u32,
    next_page: u32,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = store::open("file:./.suspended-flows")?;
    let hub = PersistenceHub::builder(store).plaintext().build().await?;

    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["start"] => {
            let state = Contract { number: 17, next_page: 4 };
            let request = SuspensionRequest::new("signature", Schema::of::<String>()?)
                .prompt("Who signs contract 17?")
                .timeout(days(7))
                .metadata("contract", 17);
            let suspended = hub.suspend(&state, request).await?;
            println!("Key: {}", suspended.key.expose());
        }
        ["resume", key, input] => {
            let input: serde_json::Value = serde_json::from_str(input)?;
            let claim = hub.resume_state::<Contract>(&key.parse::<SuspensionKey>()?, input).await?;
            let Contract { number, next_page } = claim.state;
            println!("contract {number} goes on at page {next_page}, signed by {}", claim.input);
            claim.complete().await?; // until then a crash gives it to the next caller
        }
        _ => {
            eprintln!("usage: lower_half start | resume KEY INPUT");
            process::exit(2);
        }
    }
    Ok(())
}
