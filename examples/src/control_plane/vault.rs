//! The folder in which the root outlives the program.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mesh_identity::TrustDomain;
use mesh_identity::source::dev_ca::{DevCa, DevCaError};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use super::replace::replace;
use crate::manifest::{self, Unreadable};

/// Only the owner may read keys.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Whoever may write to the folder can put a root of theirs into it.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The file of keys, which is JSON and not called so, lest it be taken for an object of the
/// directory; and the one that says that somebody uses the folder.
const KEYS: &str = "authority.keys";
const LOCK: &str = "lock";

/// A folder that one control plane uses at a time.
pub(super) struct Vault {
    keys: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

/// The roots of an authority with their keys.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Kept {
    pub(super) trust_domain: String,
    /// The one that signs.
    pub(super) active: KeptRoot,
    /// The one that is to sign next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) prepared: Option<KeptRoot>,
    /// The one that has signed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) retired: Option<KeptRoot>,
}

/// A root, as PEM texts.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeptRoot {
    certificate: String,
    key: String,
}

impl KeptRoot {
    pub(super) fn of(authority: &DevCa) -> Self {
        Self {
            certificate: authority.roots_pem(),
            key: authority.key_pem(),
        }
    }

    pub(super) fn authority(&self, trust_domain: &TrustDomain) -> Result<DevCa, DevCaError> {
        DevCa::from_pem(trust_domain.clone(), &self.certificate, &self.key)
    }
}

impl Vault {
    /// Takes a folder, and makes it if it is not there.
    pub(super) fn open(folder: &Path) -> Result<Self, VaultError> {
        let unusable = |path: &Path, error| VaultError::Unusable {
            path: path.to_owned(),
            error,
        };
        match DirBuilder::new().mode(FOLDER_MODE).create(folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(unusable(folder, error)),
            _ => {}
        }
        let mode = mode_of_own(folder).map_err(|error| unusable(folder, error))?;
        let mode = mode.ok_or_else(|| VaultError::Foreign(folder.to_owned()))?;
        if mode & WRITABLE_BY_OTHERS != 0 {
            let path = folder.to_owned();
            return Err(VaultError::Open { path, mode });
        }
        let path = folder.join(LOCK);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(FILE_MODE);
        let lock = options.open(&path).map_err(|error| unusable(&path, error))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(VaultError::InUse(folder.to_owned())),
            Err(error) => return Err(unusable(&path, error.into())),
        }
        Ok(Self {
            keys: folder.join(KEYS),
            _lock: lock,
        })
    }

    /// What is kept, if anything is.
    pub(super) fn load(&self, trust_domain: &TrustDomain) -> Result<Option<Kept>, VaultError> {
        let path = || self.keys.clone();
        let mode = match mode_of_own(&self.keys) {
            Ok(mode) => mode.ok_or_else(|| VaultError::Foreign(path()))?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(VaultError::Unusable { path: path(), error }),
        };
        if mode & !FILE_MODE != 0 {
            return Err(VaultError::Exposed { path: path(), mode });
        }
        let text = manifest::read(&self.keys)?;
        // Serde's own words may have a key in them.
        let kept: Kept = serde_json::from_str(&text).map_err(|error| VaultError::Malformed {
            path: path(),
            line: error.line(),
            column: error.column(),
        })?;
        if kept.trust_domain != trust_domain.as_str() {
            return Err(VaultError::TrustDomain {
                path: path(),
                found: kept.trust_domain,
                wanted: trust_domain.clone(),
            });
        }
        let roots = [
            ("active", Some(&kept.active)),
            ("prepared", kept.prepared.as_ref()),
            ("retired", kept.retired.as_ref()),
        ];
        for (field, root) in roots {
            root.map(|root| root.authority(trust_domain))
                .transpose()
                .map_err(|error| VaultError::Root {
                    path: path(),
                    field,
                    error,
                })?;
        }
        Ok(Some(kept))
    }

    pub(super) fn save(&self, kept: &Kept) -> Result<(), Unwritten> {
        let written = serde_json::to_string_pretty(kept)
            .map_err(io::Error::from)
            .and_then(|text| replace(&self.keys, FILE_MODE, &text));
        written.map_err(|error| Unwritten {
            flag: "--state",
            path: self.keys.clone(),
            error,
        })
    }
}

/// The mode of a file or folder, if it belongs to whoever runs this.
fn mode_of_own(path: &Path) -> io::Result<Option<u32>> {
    let found = fs::metadata(path)?;
    Ok((found.uid() == geteuid().as_raw()).then(|| found.mode() & 0o7777))
}

/// A file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{flag}: {}: {error}", path.display())]
pub(super) struct Unwritten {
    pub(super) flag: &'static str,
    pub(super) path: PathBuf,
    #[source]
    pub(super) error: io::Error,
}

/// Why a folder cannot be used, or what is kept in it.
#[derive(Debug, thiserror::Error)]
pub(super) enum VaultError {
    #[error("{}: {error}", path.display())]
    Unusable {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("{}: another control plane uses it", .0.display())]
    InUse(PathBuf),
    #[error("{}: it belongs to another user, who could put a root of theirs into it", .0.display())]
    Foreign(PathBuf),
    #[error("{}: its mode is {mode:04o} and must be 0700 or 0755: others could put a root of theirs into it", path.display())]
    Open { path: PathBuf, mode: u32 },
    #[error("{}: its mode is {mode:04o} and must be 0600: others could read the keys", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{}:{line}:{column}: this is not what a control plane has written", path.display())]
    Malformed { path: PathBuf, line: usize, column: usize },
    #[error("{}: `trustDomain` is `{found}`, and --trust-domain is `{wanted}`", path.display())]
    TrustDomain {
        path: PathBuf,
        found: String,
        wanted: TrustDomain,
    },
    #[error("{}: `{field}`: {error}", path.display())]
    Root {
        path: PathBuf,
        field: &'static str,
        #[source]
        error: DevCaError,
    },
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    fn refusal(folder: &Path, trust_domain: &str) -> String {
        let vault = Vault::open(folder).unwrap();
        let loaded = vault.load(&trust_domain.parse().unwrap());
        loaded.map(|_| ()).unwrap_err().to_string()
    }

    fn trust_domain() -> TrustDomain {
        "cluster.local".parse().unwrap()
    }

    /// A folder with the root of a trust domain.
    fn kept() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let now = rustls::pki_types::UnixTime::now();
        let active = KeptRoot::of(&DevCa::new(trust_domain(), now).unwrap());
        let vault = Vault::open(folder.path()).unwrap();
        let trust_domain = trust_domain().to_string();
        let (prepared, retired) = (None, None);
        vault
            .save(&Kept {
                trust_domain,
                active,
                prepared,
                retired,
            })
            .unwrap();
        folder
    }

    #[test]
    fn a_folder_is_used_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = Vault::open(&folder.path().join("state")).unwrap();
        let second = Vault::open(&folder.path().join("state")).map(|_| ()).unwrap_err();
        assert!(second.to_string().ends_with("state: another control plane uses it"));
        drop(first);
        Vault::open(&folder.path().join("state")).unwrap();
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let open = |mode| {
            fs::set_permissions(folder.path(), PermissionsExt::from_mode(mode)).unwrap();
            Vault::open(folder.path())
                .map(|_| ())
                .map_err(|error| error.to_string())
        };
        for mode in [0o700, 0o750, 0o755] {
            assert_eq!(open(mode), Ok(()), "{mode:o}");
        }
        for mode in [0o770, 0o707, 0o777, 0o1777] {
            let refusal = open(mode).unwrap_err();
            let says =
                format!("its mode is {mode:04o} and must be 0700 or 0755: others could put a root of theirs into it");
            assert!(refusal.ends_with(&says), "{refusal}");
        }
    }

    #[test]
    fn what_belongs_to_another_user_is_not_used() {
        let folder = kept();
        let foreign = |path: &Path| {
            // Only root can give it away.
            let is_given = chown(path, Some(geteuid().as_raw() + 1), None).is_ok();
            let vault = Vault::open(folder.path());
            let loaded = vault.and_then(|vault| vault.load(&trust_domain()).map(|_| ()));
            chown(path, Some(geteuid().as_raw()), None).unwrap();
            (is_given, loaded.map_err(|error| error.to_string()))
        };
        for path in [folder.path().to_owned(), folder.path().join(KEYS)] {
            let (is_given, loaded) = foreign(&path);
            let says = format!(
                "{}: it belongs to another user, who could put a root of theirs into it",
                path.display()
            );
            assert_eq!(loaded.err(), is_given.then_some(says));
        }
    }

    #[test]
    fn keys_are_for_their_owner_only() {
        let folder = kept();
        let file = folder.path().join(KEYS);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
        let refusal = refusal(folder.path(), "cluster.local");
        assert!(
            refusal.ends_with("its mode is 0640 and must be 0600: others could read the keys"),
            "{refusal}"
        );
    }

    #[test]
    fn what_is_kept_is_of_the_trust_domain_and_whole() {
        let folder = kept();
        let file = folder.path().join(KEYS);
        let refusals = |text: &str| {
            fs::write(&file, text).unwrap();
            refusal(folder.path(), "cluster.local")
        };
        let other = refusal(folder.path(), "elsewhere.example");
        assert!(
            other.ends_with("`trustDomain` is `cluster.local`, and --trust-domain is `elsewhere.example`"),
            "{other}"
        );
        let text = fs::read_to_string(&file).unwrap();
        let key = text.lines().find(|line| line.contains("\"key\"")).unwrap().trim();
        let misplaced = format!("{{{key}, \"trustDomain\": []}}");
        for (text, says) in [
            (text.split_at(text.len() / 2).0, ":4:"),
            (&misplaced, "this is not what a control plane has written"),
            (
                &text.replace("BEGIN PRIVATE", "BEGIN"),
                "`active`: the text holds no key",
            ),
            (
                &text.replace("BEGIN CERT", "BEGIN "),
                "`active`: the text holds no cert",
            ),
        ] {
            let refusal = refusals(text);
            assert!(refusal.contains(says) && !refusal.contains("PRIVATE"), "{refusal}");
            assert_eq!(refusal.lines().count(), 1);
        }
    }
}
