//! The server's own keys and the document that publishes them. Invariants: a key file that anybody else may read is
//! not used, and the peer key is never the checkpoint key.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::zeroize::Zeroizing;
use serde_json::{Value, json};

use super::keys::{Curve, PublicKey};
use super::signing::SigningKey;
use super::{is_server_curve, key_tag};
use crate::types::Did;

const PEER_FILE: &str = "peer.key";
const CHECKPOINT_FILE: &str = "checkpoint.key";
/// Bytes of the longest key file that is read.
const MAX_FILE_BYTES: u64 = 256;

const PURPOSES: [&str; 2] = ["peer", "checkpoint"];
/// Published beside the key that signs: the one that will next, and the one that did before.
const BESIDE: [&str; 2] = ["next", "old"];

/// `peer` signs requests, `checkpoint` signs statements.
#[derive(Debug)]
pub struct ServerKeys {
    pub peer: SigningKey,
    pub checkpoint: SigningKey,
    /// Published and not signed with: `(purpose, key)`.
    beside: Vec<(&'static str, SigningKey)>,
}

/// Why there are no keys. Names the file, never its contents.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("KEYS_DIR {} holds no keys. Fix: run `rookery keygen` once, and keep what it writes", dir.display())]
    Absent { dir: PathBuf },
    #[error(
        "{} is missing, although {} is there: one of the two service keys was lost. Fix: put it back from your copy; \
         without one, move the other away and run `rookery keygen`: other servers then hold this one for 72 h",
        missing.display(), kept.display()
    )]
    Incomplete { missing: PathBuf, kept: PathBuf },
    #[error(
        "KEYS_DIR {} holds keys already. Fix: nothing, if they are this server's; to replace them, run \
         `rookery keygen --next`", dir.display()
    )]
    Present { dir: PathBuf },
    #[error("cannot open {}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{} may be read by others (mode {mode:04o}): make it 0600, or 0440 with another owner", path.display())]
    Permissions { path: PathBuf, mode: u32 },
    #[error("{} holds no Ed25519 or P-256 secret key in Multikey form", path.display())]
    Malformed { path: PathBuf },
    #[error("two key files hold the same key")]
    SameKey,
}

impl ServerKeys {
    /// Reads `peer.key` and `checkpoint.key` from `dir` (`KEYS_DIR`): one line each, `secretKeyMultibase`, mode 0600
    /// or 0400; of another owner also 0640 or 0440, as a Kubernetes Secret with an fsGroup is mounted.
    pub fn load(dir: &Path) -> Result<Self, KeysError> {
        if !Self::complete(dir)? {
            return Err(KeysError::Absent { dir: dir.to_owned() });
        }
        let mut beside = Vec::new();
        for purpose in PURPOSES {
            for which in BESIDE {
                match read(&beside_path(dir, purpose, which)) {
                    Ok(key) => beside.push((purpose, key)),
                    Err(KeysError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let keys = Self { peer: read(&dir.join(PEER_FILE))?, checkpoint: read(&dir.join(CHECKPOINT_FILE))?, beside };
        let mut all: Vec<Vec<u8>> =
            PURPOSES.iter().flat_map(|purpose| keys.published(purpose)).map(|key| key.public().raw()).collect();
        let several = all.len();
        all.sort_unstable();
        all.dedup();
        if all.len() == several { Ok(keys) } else { Err(KeysError::SameKey) }
    }

    /// The keys of `peer` or `checkpoint` that the document lists: the one that signs comes first.
    pub fn published(&self, purpose: &str) -> Vec<&SigningKey> {
        let current = if purpose == "peer" { &self.peer } else { &self.checkpoint };
        let beside = self.beside.iter().filter(|(of, _)| *of == purpose).map(|(_, key)| key);
        std::iter::once(current).chain(beside).collect()
    }

    /// Whether both signing keys exist. One key alone is an error: the other was lost.
    fn complete(dir: &Path) -> Result<bool, KeysError> {
        let [peer, checkpoint] = [PEER_FILE, CHECKPOINT_FILE].map(|file| dir.join(file));
        let is_missing = |path: &Path| {
            std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        };
        match (is_missing(&peer), is_missing(&checkpoint)) {
            (false, false) => Ok(true),
            (true, true) => Ok(false),
            (true, false) => Err(KeysError::Incomplete { missing: peer, kept: checkpoint }),
            (false, true) => Err(KeysError::Incomplete { missing: checkpoint, kept: peer }),
        }
    }

    /// Makes two Ed25519 keys and writes them to `dir`. Never overwrites a file.
    pub fn generate(dir: &Path) -> Result<Self, KeysError> {
        if Self::complete(dir)? {
            return Err(KeysError::Present { dir: dir.to_owned() });
        }
        let io = |source| KeysError::Io { path: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        let keys = Self {
            peer: SigningKey::generate(Curve::Ed25519),
            checkpoint: SigningKey::generate(Curve::Ed25519),
            beside: Vec::new(),
        };
        write(&dir.join(PEER_FILE), &keys.peer)?;
        write(&dir.join(CHECKPOINT_FILE), &keys.checkpoint)?;
        sync(dir)?;
        Ok(keys)
    }

    /// Makes the keys that will sign next, to be published beside those that sign now. Never overwrites a file.
    pub fn generate_next(dir: &Path) -> Result<(), KeysError> {
        for purpose in PURPOSES {
            write(&beside_path(dir, purpose, "next"), &SigningKey::generate(Curve::Ed25519))?;
        }
        sync(dir)
    }

    /// How long the next keys have been there, by their files; none if there are none.
    pub fn age_of_next(dir: &Path) -> Option<Duration> {
        let ages = PURPOSES.map(|purpose| std::fs::metadata(beside_path(dir, purpose, "next")).ok()?.modified().ok());
        ages.into_iter().map(|made| made?.elapsed().ok()).min().flatten()
    }

    /// The next keys sign from the next start on; those that signed until now stay published as the old ones.
    pub fn rotate(dir: &Path) -> Result<(), KeysError> {
        for purpose in PURPOSES {
            let (current, next) = (dir.join(format!("{purpose}.key")), beside_path(dir, purpose, "next"));
            read(&next)?;
            for (from, to) in [(&current, &beside_path(dir, purpose, "old")), (&next, &current)] {
                std::fs::rename(from, to).map_err(|source| KeysError::Io { path: from.clone(), source })?;
            }
        }
        sync(dir)
    }

    /// The old keys are not published any more.
    pub fn forget_old(dir: &Path) -> Result<(), KeysError> {
        for purpose in PURPOSES {
            let path = beside_path(dir, purpose, "old");
            std::fs::remove_file(&path).map_err(|source| KeysError::Io { path, source })?;
        }
        sync(dir)
    }

    /// `#peer-<tag>`.
    pub fn peer_id(&self) -> String {
        id("peer", &self.peer.public())
    }

    /// `#checkpoint-<tag>`.
    pub fn checkpoint_id(&self) -> String {
        id("checkpoint", &self.checkpoint.public())
    }
}

fn beside_path(dir: &Path, purpose: &str, which: &str) -> PathBuf {
    dir.join(format!("{purpose}.{which}.key"))
}

/// The names are as durable as the keys: what was signed with them outlives a crash.
fn sync(dir: &Path) -> Result<(), KeysError> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|source| KeysError::Io { path: dir.to_owned(), source })
}

fn id(usage: &str, key: &PublicKey) -> String {
    format!("#{usage}-{}", key_tag(key))
}

/// The server's `/.well-known/did.json` (FEDERATION sections 1 and 2). `endpoint` is `https://<host>`, without a path.
pub fn server_document(service_did: &Did, endpoint: &str, keys: &ServerKeys) -> Value {
    let method = |purpose: &str, key: &SigningKey| {
        let id = id(purpose, &key.public());
        json!({
            "id": format!("{service_did}{id}"),
            "type": "Multikey",
            "controller": service_did,
            "publicKeyMultibase": key.public().multikey(),
        })
    };
    let methods: Vec<Value> = PURPOSES
        .iter()
        .flat_map(|purpose| keys.published(purpose).into_iter().map(|key| method(purpose, key)))
        .collect();
    json!({
        "@context": ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"],
        "id": service_did,
        "verificationMethod": methods,
        "service": [{ "id": "#atproto_mls", "type": "AtprotoMlsService", "serviceEndpoint": endpoint }],
    })
}

fn read(path: &Path) -> Result<SigningKey, KeysError> {
    let io = |source| KeysError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    // Checks the open file, which is the file that is read.
    let metadata = file.metadata().map_err(io)?;
    let mode = metadata.mode() & 0o7777;
    if !is_ours_alone(mode, metadata.uid() == nix::unistd::geteuid().as_raw()) {
        return Err(KeysError::Permissions { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(MAX_FILE_BYTES).unwrap_or_default()));
    let malformed = || KeysError::Malformed { path: path.to_owned() };
    file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(|_| malformed())?;
    let key = SigningKey::from_secret_multibase(text.trim()).map_err(|_| malformed())?;
    if is_server_curve(key.curve()) { Ok(key) } else { Err(malformed()) }
}

/// A file that is not ours can be read through its group alone; then the group is how it was meant for us.
const fn is_ours_alone(mode: u32, own: bool) -> bool {
    let closed = if own { 0o177 } else { 0o137 };
    mode & closed == 0
}

fn write(path: &Path, key: &SigningKey) -> Result<(), KeysError> {
    let io = |source| KeysError::Io { path: path.to_owned(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    file.write_all(key.secret_multibase().as_bytes()).map_err(io)?;
    file.write_all(b"\n").map_err(io)?;
    file.sync_all().map_err(io)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{KeysError, ServerKeys, server_document};
    use crate::identity::document::DidDocument;
    use crate::identity::keys::Curve;
    use crate::identity::signing::SigningKey;
    use crate::types::Did;

    fn chmod(path: &std::path::Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn keys_survive_a_restart_and_are_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let keys_dir = dir.path().join("keys");
        assert!(matches!(ServerKeys::load(&keys_dir), Err(KeysError::Absent { .. })));
        let made = ServerKeys::generate(&keys_dir).unwrap();
        let loaded = ServerKeys::load(&keys_dir).unwrap();
        assert_eq!((made.peer_id(), made.checkpoint_id()), (loaded.peer_id(), loaded.checkpoint_id()));
        assert!(matches!(ServerKeys::generate(&keys_dir), Err(KeysError::Present { .. })));
        assert_eq!(ServerKeys::load(&keys_dir).unwrap().peer_id(), made.peer_id());
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused_with_its_name_and_mode() {
        let dir = tempfile::tempdir().unwrap();
        ServerKeys::generate(dir.path()).unwrap();
        let file = dir.path().join("checkpoint.key");
        for mode in [0o644, 0o640, 0o604, 0o660, 0o700, 0o602] {
            chmod(&file, mode);
            let message = ServerKeys::load(dir.path()).unwrap_err().to_string();
            assert!(message.contains("checkpoint.key") && message.contains(&format!("{mode:04o}")), "{message}");
        }
        for mode in [0o600, 0o400] {
            chmod(&file, mode);
            assert!(ServerKeys::load(dir.path()).is_ok(), "{mode:o}");
        }
    }

    #[test]
    fn a_file_of_another_owner_may_be_read_through_its_group() {
        for (mode, own, anothers) in [
            (0o600, true, true),
            (0o400, true, true),
            (0o640, false, true),
            (0o440, false, true),
            (0o660, false, false),
            (0o620, false, false),
            (0o644, false, false),
            (0o444, false, false),
            (0o602, false, false),
            (0o750, false, false),
            (0o4440, false, true),
        ] {
            assert_eq!(super::is_ours_alone(mode, true), own, "{mode:o}");
            assert_eq!(super::is_ours_alone(mode, false), anothers, "{mode:o}");
        }
        let dir = tempfile::tempdir().unwrap();
        ServerKeys::generate(dir.path()).unwrap();
        // Only root can give a file away.
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        for name in ["peer.key", "checkpoint.key"] {
            let file = dir.path().join(name);
            std::os::unix::fs::chown(&file, Some(65_533), None).unwrap();
            chmod(&file, 0o440);
        }
        assert!(ServerKeys::load(dir.path()).is_ok());
        chmod(&dir.path().join("peer.key"), 0o444);
        assert!(matches!(ServerKeys::load(dir.path()), Err(KeysError::Permissions { mode: 0o444, .. })));
    }

    #[test]
    fn a_file_without_a_server_key_and_the_same_key_twice_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        ServerKeys::generate(dir.path()).unwrap();
        let file = dir.path().join("peer.key");
        let k256 = SigningKey::generate(Curve::K256).secret_multibase();
        for text in ["", "hunter2", k256.as_str(), &"z".repeat(1000)] {
            std::fs::write(&file, text).unwrap();
            let error = ServerKeys::load(dir.path()).unwrap_err();
            assert!(matches!(error, KeysError::Malformed { .. }));
            assert!(text.is_empty() || !error.to_string().contains(text));
        }
        std::fs::copy(dir.path().join("checkpoint.key"), &file).unwrap();
        assert!(matches!(ServerKeys::load(dir.path()), Err(KeysError::SameKey)));
    }

    #[test]
    fn the_own_document_is_one_that_a_peer_can_read() {
        let dir = tempfile::tempdir().unwrap();
        let keys = ServerKeys::generate(dir.path()).unwrap();
        let did = Did::parse("did:web:a.example").unwrap();
        let json = server_document(&did, "https://a.example", &keys).to_string();
        let document = DidDocument::parse(&did, json.as_bytes()).unwrap();
        assert_eq!(document.server_key(&keys.peer_id()), Some(&keys.peer.public()));
        assert_eq!(document.server_key(&keys.checkpoint_id()), Some(&keys.checkpoint.public()));
        let service = document.services("#atproto_mls").collect::<Vec<_>>();
        assert_eq!(service.len(), 1);
        assert_eq!(service[0].kind.as_deref(), Some("AtprotoMlsService"));
        assert_eq!(service[0].endpoint.as_deref(), Some("https://a.example"));
    }
}
