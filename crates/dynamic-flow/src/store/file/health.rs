//! How the folder is, in plain words: what it lies on, who may read it, and whether it works.

use std::{fs, time::Instant};

use super::{
    disk::{self, At as _, Sync},
    exchange::read_settled,
    folder::Folder,
    provision::random,
};
use crate::{
    Result,
    id::RunId,
    store::{
        Health,
        place::{cramped, disk_under},
    },
};

impl Folder {
    pub(super) fn health(&self) -> Result<Health> {
        self.check_present()?;
        let root = self.layout.root();
        let started = Instant::now();
        // That nothing can be written keeps nobody from hearing of the rest.
        let problem = match self.probe() {
            Ok(cramped) => cramped,
            Err(error) => Some(format!("Nothing can be written there: {error}.")),
        };
        let latency = started.elapsed();

        let (durable, warning) = disk_under(root);
        let warnings = warning.into_iter().chain(self.permissions_warning()).collect();
        Ok(Health {
            backend: "file".into(),
            location: root.display().to_string(),
            latency,
            durable,
            warnings,
            problem,
        })
    }

    /// What writes do: lock, write, sync, rename or change names, sync the folder. Tells
    /// where there is no room for what is as large as a record may well be.
    fn probe(&self) -> Result<Option<String>> {
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&random()?.to_ne_bytes());
        // Named as a run that does not exist, so that it is tidied up as runs are.
        let id = RunId::from_bytes(bytes);
        let _lock = self.lock(id)?;
        let (path, temp) = (self.layout.temp(id, ".probe"), self.layout.temp(id, ".new"));
        self.mode.replace(&path, &temp, b"probe\n", Sync::Contents).at("write a file", &temp)?;
        let spare = self.layout.temp(id, ".old");
        let again = self.mode.exchange(&path, &temp, &spare, b"again\n");
        drop(again.at("write over a file", &path)?);
        let _ = fs::remove_file(&temp);
        read_settled(&path, self.patience).at("read a file", &path)?;
        let folder = disk::parent(&path);
        let synced = disk::sync_dir(folder).at("sync a folder", folder);
        fs::remove_file(&path).at("remove a file", &path)?;
        synced?;
        Ok(cramped(&self.layout.temp(id, ".room")))
    }

    #[cfg(unix)]
    fn permissions_warning(&self) -> Option<String> {
        use std::os::unix::fs::PermissionsExt as _;
        let runs = self.layout.runs();
        let allowed = self.mode.of_folders();
        let bits = fs::metadata(&runs).ok()?.permissions().mode() & 0o777;
        (bits & !allowed != 0).then(|| {
            format!(
                "The folder {} is open to others ({bits:o}): `chmod -R go-rwx` it, or ask for \
                 wider permissions on purpose.",
                runs.display()
            )
        })
    }

    #[cfg(not(unix))]
    fn permissions_warning(&self) -> Option<String> {
        None
    }
}
