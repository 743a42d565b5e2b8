//! Builds and runs the benchmark, with the servers that it needs.

use anyhow::Result;
use dynamic_flow_services::Kind;

use crate::{command::Cargo, services::Pending};

pub(crate) fn run(cargo: &Cargo, args: Vec<String>) -> Result<()> {
    let servers = Pending::begin(needed(&args), cargo.root())?;
    let bench = ["bench", "-p", "dynamic-flow", "--all-features", "--bench", "cycle"];
    let bench = bench.map(str::to_owned).into_iter();
    // What takes long is done while the servers start.
    cargo.run(bench.clone().chain(["--no-run".to_owned()]))?;
    let servers = servers.wait();
    // The benchmark says what it can't measure without them.
    servers.judge(false)?;
    let cargo = cargo.with(servers.variables());
    cargo.run(bench.chain(["--".to_owned()]).chain(args))
}

/// The kinds that the wanted sections are about; a section is called as the kind is, or begins so.
fn needed(args: &[String]) -> Vec<Kind> {
    if args.iter().any(|arg| matches!(arg.as_str(), "--help" | "-h")) {
        return Vec::new();
    }
    let sections: Vec<_> =
        args.windows(2).filter(|pair| pair[0] == "--only").map(|pair| pair[1].as_str()).collect();
    let is_wanted = |kind: &Kind| {
        sections.is_empty() || sections.iter().any(|section| section.starts_with(kind.name()))
    };
    // The cluster is there for what a cluster does otherwise, not for what it does faster.
    Kind::ALL.into_iter().filter(|kind| *kind != Kind::RedisCluster && is_wanted(kind)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_of_the_wanted_sections_are_started() {
        let needed = |line: &str| {
            let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            super::needed(&args)
        };
        assert_eq!(needed("--quick").len(), 4);
        assert_eq!(needed("--only file --only codec --parked 10"), []);
        assert_eq!(needed("--only sqlite --only redis"), [Kind::Redis]);
        assert_eq!(needed("--only postgres-parked"), [Kind::Postgres]);
        assert_eq!(needed("--only neo4j --help"), []);
    }
}
