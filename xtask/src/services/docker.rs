//! The same servers in containers, where there is Docker: `compose.yaml`.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use dynamic_flow_services::Kind;

/// Starts containers, and waits until each is healthy; gives where the servers are.
pub(super) fn up(kinds: &[Kind], root: &Path) -> Result<Vec<(Kind, String)>> {
    if kinds.is_empty() {
        return Ok(Vec::new());
    }
    let names = kinds.iter().map(|kind| kind.name());
    compose(root, ["up", "--detach", "--wait"].into_iter().chain(names))?;
    Ok(kinds.iter().map(|kind| (*kind, url(*kind).to_owned())).collect())
}

/// Removes what is left when the last container is gone.
pub(super) fn clear(root: &Path) -> Result<()> {
    compose(root, ["down", "--volumes"])
}

/// Removes a container with what it stored.
pub(super) fn down(kind: Kind, root: &Path) -> Result<()> {
    compose(root, ["rm", "--stop", "--force", "--volumes", kind.name()])
}

fn compose<'a>(root: &Path, args: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let mut there = Command::new("docker");
    there.args(["compose", "version"]).stdout(Stdio::null()).stderr(Stdio::null());
    if !there.status().is_ok_and(|status| status.success()) {
        bail!(
            "`docker compose version` fails here: install Docker with Compose, or leave --docker"
        );
    }
    let mut command = Command::new("docker");
    command.args(["compose", "--file", "compose.yaml"]).args(args).current_dir(root);
    let status = command.status().context("docker could not be started")?;
    if !status.success() {
        bail!("docker compose failed ({status})");
    }
    Ok(())
}

/// Where `compose.yaml` has it.
fn url(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => "postgres://postgres:dflow-test@127.0.0.1:15432/postgres",
        Kind::Redis => "redis://127.0.0.1:16379",
        Kind::RedisCluster => "redis://127.0.0.1:17000/0?cluster=true",
        Kind::Mongodb => "mongodb://127.0.0.1:27117/?replicaSet=rs0",
        Kind::Neo4j => "neo4j://neo4j:dflow-test@127.0.0.1:17687",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn services() -> Value {
        let text = include_str!("../../../compose.yaml");
        let file: Value = serde_saphyr::from_str(text).unwrap();
        file["services"].clone()
    }

    #[test]
    fn each_kind_is_a_service_that_tells_when_it_is_ready() {
        let services = services();
        assert_eq!(services.as_object().unwrap().len(), Kind::ALL.len());
        for kind in Kind::ALL {
            let service = &services[kind.name()];
            assert!(service["healthcheck"]["test"].is_array(), "{kind}");
            // A version of the least number: what was tested yesterday is tested tomorrow.
            let (_, version) = service["image"].as_str().unwrap().split_once(':').unwrap();
            assert!(version.contains('.'), "{kind}: {version}");
        }
    }

    #[test]
    fn ports_are_for_this_machine_alone_and_those_of_the_urls() {
        let services = services();
        for kind in Kind::ALL {
            let ports = services[kind.name()]["ports"].as_array().unwrap();
            let [port] = ports.as_slice() else { panic!("{kind} has one port, or one range") };
            let port = port.as_str().unwrap().strip_prefix("127.0.0.1:").unwrap();
            let first = port.split([':', '-']).next().unwrap();
            assert!(url(kind).contains(&format!("127.0.0.1:{first}")), "{kind}: {port}");
        }
    }

    #[test]
    fn passwords_are_those_of_the_urls() {
        let services = services();
        let postgres = &services["postgres"]["environment"]["POSTGRES_PASSWORD"];
        assert!(url(Kind::Postgres).contains(&format!(":{}@", postgres.as_str().unwrap())));
        let neo4j = services["neo4j"]["environment"]["NEO4J_AUTH"].as_str().unwrap();
        assert!(url(Kind::Neo4j).contains(&format!("//{}@", neo4j.replace('/', ":"))));
    }
}
