//! The files that every process of a cluster has alike.

use crate::auth::{Issuer, IssuerError};
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Bytes of the cluster's secret.
const SECRET_BYTES: usize = 32;

/// Why they cannot be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeysFailure {
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no random bytes for a new secret")]
    NoRandomness,
}

/// Makes what is missing; what to write into a configuration.
pub(super) fn make(dir: &Path) -> Result<String, KeysFailure> {
    std::fs::create_dir_all(dir)?;
    let issuer = Issuer::open(dir)?;
    let jwks = dir.join("jwks.json");
    std::fs::write(&jwks, issuer.jwks() + "\n")?;
    let secret = dir.join("cluster.secret");
    let mut options = OpenOptions::new();
    match options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&secret)
    {
        Ok(mut file) => {
            let mut bytes = [0; SECRET_BYTES];
            aws_lc_rs::rand::fill(&mut bytes).map_err(|_| KeysFailure::NoRandomness)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
        }
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        Err(e) => return Err(e.into()),
    }
    Ok(format!(
        "[auth]\n# Of those that sign tokens: API processes with auth.demo, and the command line.\nissuer_key = {:?}\n\
         # Enough for those that only verify.\n# jwks = {jwks:?}\n# Of every gateway.\ncluster_secret = {secret:?}\n",
        Issuer::file(dir)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_there_stay_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        let said = make(&keys).unwrap();
        let read = |name: &str| std::fs::read(keys.join(name)).unwrap();
        let before = (read("issuer-ed25519.p8"), read("cluster.secret"));
        assert_eq!(make(&keys).unwrap(), said);
        assert_eq!(before, (read("issuer-ed25519.p8"), read("cluster.secret")));
        assert_eq!(before.1.len(), SECRET_BYTES);
        let text: toml::Table = said.parse().unwrap();
        assert!(text["auth"]["issuer_key"].as_str().is_some());
    }
}
