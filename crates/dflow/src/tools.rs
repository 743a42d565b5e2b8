//! The tools that documents may call, with the powers that the settings give them.

use std::env;

use dynamic_flow::{
    Error, ErrorKind, Result,
    tool::{HttpPolicy, Secret, ToolRegistry},
};

use crate::config::{Config, HttpSection, SecretSource};

/// The tools of this program.
pub(crate) fn registry(config: &Config) -> ToolRegistry {
    ToolRegistry::for_documents_with_http(policy(&config.http))
}

fn policy(section: &HttpSection) -> HttpPolicy {
    let mut policy = HttpPolicy::default();
    policy.allowed_hosts.clone_from(&section.allowed_hosts);
    policy.allow_private = section.allow_private;
    policy.max_body = section.max_body.unwrap_or(policy.max_body);
    for (name, SecretSource { env, hosts }) in &section.secrets {
        // Without a value it is refused to the flow that asks for it, and to nobody else.
        let Ok(value) = env::var(env) else { continue };
        let secret = Secret::new(value);
        let secret = match hosts {
            Some(hosts) => secret.hosts(hosts.iter().cloned()),
            None => secret,
        };
        policy.secrets.insert(name.clone(), secret);
    }
    policy
}

/// Makes sure that every secret has a value.
///
/// # Errors
/// `InvalidConfig`, with the first that has none.
pub(crate) fn need_all_secrets(section: &HttpSection) -> Result<()> {
    let Some((name, variable)) = section.unset_secrets().next() else { return Ok(()) };
    Err(Error::new(
        ErrorKind::InvalidConfig,
        "the environment variable of a secret is not set; set it, or take the secret out of [http]",
    )
    .with("secret", name)
    .with("variable", variable))
}
