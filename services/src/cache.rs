//! Where downloads are kept: between calls, and readable for whom servers run as.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::server::is_root;

/// The variable of the environment that names another folder for downloads.
pub const CACHE_VARIABLE: &str = "DFLOW_SERVICES_CACHE";

/// The folder for downloads, which is made if it is not there: what `DFLOW_SERVICES_CACHE` names,
/// or `/var/cache/dynamic-flow` for root, whose home is for nobody else, or `dynamic-flow` in the
/// user's own folder for caches.
///
/// # Errors
/// When it can't be made, or there is no home.
pub fn cache() -> Result<PathBuf> {
    let folder = chosen(is_root(), |name| env::var_os(name).map(PathBuf::from))?;
    make(&folder).with_context(|| {
        format!("{} can't be made; {CACHE_VARIABLE} names another folder", folder.display())
    })?;
    Ok(folder)
}

fn chosen(root: bool, variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf> {
    let said = |name| variable(name).filter(|path| !path.as_os_str().is_empty());
    if let Some(folder) = said(CACHE_VARIABLE) {
        return Ok(std::path::absolute(folder)?);
    }
    if root {
        return Ok("/var/cache/dynamic-flow".into());
    }
    let base = said("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    let base = base.or_else(|| said("HOME").map(|home| home.join(".cache")));
    let base = base.with_context(|| format!("there is no home; set {CACHE_VARIABLE}"))?;
    Ok(base.join("dynamic-flow"))
}

fn make(folder: &Path) -> Result<()> {
    if !folder.is_dir() {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_what_is_said_or_what_suits_the_user() {
        let home = |name: &str| (name == "HOME").then(|| "/home/me".into());
        let own = |name: &str| (name == CACHE_VARIABLE).then(|| "/data/c".into());
        let xdg = |name: &str| match name {
            "XDG_CACHE_HOME" => Some("/x".into()),
            CACHE_VARIABLE => Some("".into()),
            _ => None,
        };
        let chosen = |root, variable: &dyn Fn(&str) -> Option<PathBuf>| {
            chosen(root, variable).map(|path| path.display().to_string())
        };
        assert_eq!(chosen(true, &home).unwrap(), "/var/cache/dynamic-flow");
        assert_eq!(chosen(false, &home).unwrap(), "/home/me/.cache/dynamic-flow");
        assert_eq!(chosen(false, &xdg).unwrap(), "/x/dynamic-flow");
        assert_eq!(chosen(true, &own).unwrap(), "/data/c");
        assert!(chosen(false, &|_| None).unwrap_err().to_string().contains(CACHE_VARIABLE));
    }
}
