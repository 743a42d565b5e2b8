//! What a file or folder lies on, and whether that survives a power failure.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// Whether what is written there survives a power failure, and what an operator should know of the
/// disk.
pub(super) fn disk_under(path: &Path) -> (bool, Option<String>) {
    match file_system(path) {
        Some(kind) => judge(&kind),
        None => {
            let warning = "It is not known on which file system the folder is: use a local disk.";
            (true, Some(warning.into()))
        }
    }
}

/// Whether what is on a file system of that kind survives a power failure, and what to know of it.
fn judge(kind: &str) -> (bool, Option<String>) {
    const IN_MEMORY: [&str; 3] = ["tmpfs", "ramfs", "rootfs"];
    const REMOTE: [&str; 15] = [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "ceph",
        "glusterfs",
        "fuse.sshfs",
        "fuse.glusterfs",
        "fuse.juicefs",
        "afs",
        "lustre",
        "beegfs",
        "virtiofs",
    ];
    if IN_MEMORY.contains(&kind) {
        let warning = format!(
            "The folder is on {kind}, which is in memory: all runs are gone when the machine \
             stops. Use a folder on a disk."
        );
        (false, Some(warning))
    } else if kind == "overlay" {
        let warning = "The folder is in a container's own layer (overlay): all runs are gone when \
                       the container is removed. Mount a volume.";
        (true, Some(warning.into()))
    } else if REMOTE.contains(&kind) {
        let warning = format!(
            "The folder is on a network file system ({kind}): it is only as safe as that one's \
             locks and syncs are. For several machines use a database."
        );
        (true, Some(warning))
    } else {
        (true, None)
    }
}

/// Says so where another record can't be written, such as on a full disk, and what to do: what is about as large is written into a
/// file of that name, which is there for nothing else, and removed.
pub(super) fn cramped(probe: &Path) -> Option<String> {
    const BYTES: usize = 64 << 10;
    let mut options = fs::OpenOptions::new();
    // Never through a link that somebody planted.
    options.write(true).create_new(true);
    let filled = options.open(probe).and_then(|mut file| {
        let filled = file.write_all(&[b'.'; BYTES]).and_then(|()| file.sync_all());
        filled.and(fs::remove_file(probe))
    });
    let error = filled.err()?;
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => "let this user write to that folder",
        io::ErrorKind::ReadOnlyFilesystem => "mount it writable, or choose another place",
        io::ErrorKind::StorageFull => "make room",
        io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "make room, or raise the limit of this user"
        }
        _ => "check the disk and the system's log",
    };
    Some(format!(
        "{} KiB could not be written there ({error}): {advice}; runs and answers fail until then.",
        BYTES >> 10
    ))
}

/// Whether a file that changes names with another, or takes its place, is found where that was by
/// who lists the folder meanwhile: so its name is seen, whatever becomes of the file.
///
/// ext4 writes the file's number into the entry that is there. Others make a new entry behind all
/// that there are (btrfs and tmpfs), or have not been looked at.
#[cfg(feature = "file")]
pub(super) fn keeps_names(path: &Path) -> bool {
    file_system(path).is_some_and(|kind| kind == "ext4")
}

/// The kind of file system that a folder is on, where the system tells.
fn file_system(path: &Path) -> Option<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    kind_in(&table, &fs::canonicalize(path).ok()?)
}

/// Of the mounts around a path, the innermost; of several at one place, the last hides the others.
fn kind_in(table: &str, path: &Path) -> Option<String> {
    let mounts = table.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let place = PathBuf::from(unescape(left.split(' ').nth(4)?));
        let kind = right.split(' ').next()?;
        path.starts_with(&place).then(|| (place.components().count(), kind))
    });
    mounts.max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind.to_owned())
}

/// Undoes the octal escapes of space, tab, newline and backslash.
fn unescape(text: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
24 30 0:22 / / rw - ext4 /dev/vda rw
25 24 0:23 / /data rw,relatime shared:2 master:1 - nfs4 server:/x rw
26 24 0:24 / /data/with\\040space rw - overlay overlay rw
27 24 0:25 / /tmp rw - ext4 /dev/vda rw
28 24 0:26 / /tmp rw - tmpfs tmpfs rw
";

    #[test]
    fn the_innermost_mount_tells_the_file_system() {
        let kind = |path: &str| kind_in(TABLE, Path::new(path)).unwrap();
        assert_eq!(kind("/home/flows"), "ext4");
        assert_eq!(kind("/data/flows"), "nfs4");
        assert_eq!(kind("/database"), "ext4");
        assert_eq!(kind("/data/with space/flows"), "overlay");
        assert_eq!(kind("/tmp/flows"), "tmpfs");
        assert_eq!(kind_in("garbage", Path::new("/")), None);
    }

    #[test]
    fn what_an_operator_should_know_is_said() {
        assert_eq!(judge("ext4"), (true, None));
        for (kind, durable, words) in [
            ("tmpfs", false, "in memory"),
            ("nfs", true, "network file system (nfs)"),
            ("overlay", true, "Mount a volume"),
        ] {
            let (survives, warning) = judge(kind);
            assert_eq!(survives, durable, "{kind}");
            assert!(warning.unwrap().contains(words), "{kind}");
        }
    }
}
