//! The token that a coordinator and its workers share: each proves to the other that it knows it, and neither sends it.

use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use aws_lc_rs::rand;
use base64::prelude::{BASE64_STANDARD, Engine as _};

/// Bytes of a token: fewer can be guessed.
const BYTES_MIN: usize = 16;
const BYTES_MAX: u64 = 4_096;
const NONCE_BYTES: usize = 32;

/// Why there is no token: the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {why}")]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's words.
        why: std::io::Error,
    },
    /// It holds too little or too much.
    #[error(
        "{path} holds {bytes} bytes: a token has {BYTES_MIN} to {BYTES_MAX}; make one with: openssl rand -hex 32"
    )]
    Length {
        /// Which.
        path: PathBuf,
        /// So many.
        bytes: usize,
    },
    /// No random numbers.
    #[error("the system gives no random numbers")]
    NoRandom,
}

/// Which side proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// `hawser-loadgen scenario`.
    Coordinator,
    /// `hawser-loadgen worker`.
    Worker,
}

impl Side {
    fn word(self) -> &'static [u8] {
        match self {
            Self::Coordinator => b"hawser-loadgen coordinator",
            Self::Worker => b"hawser-loadgen worker",
        }
    }
}

/// A shared secret.
#[derive(Clone)]
pub struct Token(hmac::Key);

impl Token {
    /// Reads the file that both sides have; white space around the token is none of it.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        use std::io::Read as _;
        let io = |source| TokenError::Read {
            path: path.to_owned(),
            why: source,
        };
        let file = std::fs::File::open(path).map_err(io)?;
        let mut bytes = Vec::new();
        file.take(BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(io)?;
        let token = bytes.trim_ascii();
        if token.len() < BYTES_MIN || bytes.len() as u64 > BYTES_MAX {
            return Err(TokenError::Length {
                path: path.to_owned(),
                bytes: bytes.len(),
            });
        }
        Ok(Self::of(token))
    }

    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// That of workers without one, on loopback.
    #[must_use]
    pub fn none() -> Self {
        Self::of(b"")
    }

    /// Proof of a side that it knows the token, for the nonces of both.
    #[must_use]
    pub fn proof(&self, side: Side, worker: &str, coordinator: &str) -> String {
        BASE64_STANDARD.encode(hmac::sign(&self.0, &said(side, worker, coordinator)))
    }

    /// Whether a proof is one; compared in constant time.
    #[must_use]
    pub fn proves(&self, side: Side, worker: &str, coordinator: &str, proof: &str) -> bool {
        let Ok(tag) = BASE64_STANDARD.decode(proof) else {
            return false;
        };
        hmac::verify(&self.0, &said(side, worker, coordinator), &tag).is_ok()
    }
}

/// What a proof is of: lengths keep the parts apart.
fn said(side: Side, worker: &str, coordinator: &str) -> Vec<u8> {
    let mut said = Vec::new();
    for part in [side.word(), worker.as_bytes(), coordinator.as_bytes()] {
        said.extend((part.len() as u64).to_be_bytes());
        said.extend(part);
    }
    said
}

/// Random bytes in base64: a nonce, or a token of one run.
///
/// # Errors
/// The system has none.
pub fn random() -> Result<String, TokenError> {
    let mut bytes = [0; NONCE_BYTES];
    rand::fill(&mut bytes).map_err(|_| TokenError::NoRandom)?;
    Ok(BASE64_STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_its_side_its_nonces_and_its_token_alone() {
        let token = Token::of(b"a token of some length");
        let proof = token.proof(Side::Worker, "w", "c");
        assert!(token.proves(Side::Worker, "w", "c", &proof));
        assert!(!token.proves(Side::Coordinator, "w", "c", &proof));
        assert!(!token.proves(Side::Worker, "wc", "", &proof));
        assert!(!token.proves(Side::Worker, "w", "c", ""));
        assert!(!token.proves(Side::Worker, "w", "c", &proof[..proof.len() - 4]));
        assert!(!Token::none().proves(Side::Worker, "w", "c", &proof));
    }

    #[test]
    fn a_file_is_read_without_its_line_end_and_a_short_one_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        std::fs::write(&file, "0123456789abcdef\n").expect("written");
        let token = Token::read(&file).expect("a token");
        let proof = Token::of(b"0123456789abcdef").proof(Side::Worker, "w", "c");
        assert!(token.proves(Side::Worker, "w", "c", &proof));
        std::fs::write(&file, "0123456789\n").expect("written");
        let words = Token::read(&file).err().expect("short").to_string();
        assert!(words.contains("token holds 11 bytes"), "{words}");
    }
}
