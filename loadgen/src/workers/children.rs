//! Workers that the coordinator starts itself, on its own host: processes that end with it, also when it is killed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::token::{self, Token, TokenError};

/// A process that is to end has so long for it before it is killed.
const GRACE: Duration = Duration::from_secs(3);

/// Why there are no processes.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// One does not start.
    #[error("process {number} cannot be started: {why}")]
    Start {
        /// Counted from 1.
        number: u32,
        /// The system's words.
        why: std::io::Error,
    },
    /// One ended before it listened.
    #[error("process {number} ended before it began")]
    Mute {
        /// Counted from 1.
        number: u32,
    },
    /// No token for them.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// Processes, and the token that they take jobs with.
pub struct Children {
    children: Vec<Child>,
    token: Token,
    places: Vec<(String, String)>,
}

impl Children {
    /// Starts so many.
    ///
    /// # Errors
    /// See [`ChildError`].
    pub fn start(count: u32) -> Result<Self, ChildError> {
        let secret = token::random()?;
        let mut all = Self {
            children: Vec::new(),
            token: Token::of(secret.as_bytes()),
            places: Vec::new(),
        };
        for number in 1..=count {
            let start = |why| ChildError::Start { number, why };
            let program = std::env::current_exe().map_err(start)?;
            let child = Command::new(program)
                .args(["worker", "--child"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .map_err(start)?;
            let name = format!("process {number} (pid {})", child.id());
            // From here on it is ended with the others.
            all.children.push(child);
            let Some(child) = all.children.last_mut() else {
                continue;
            };
            if let Some(stdin) = &mut child.stdin {
                // Its standard input stays open: it ends when that does.
                writeln!(stdin, "{secret}").map_err(start)?;
            }
            let mut address = String::new();
            if let Some(stdout) = child.stdout.take() {
                let mut lines = BufReader::new(stdout);
                lines.read_line(&mut address).map_err(start)?;
            }
            if address.trim().is_empty() {
                return Err(ChildError::Mute { number });
            }
            all.places.push((name, address.trim().to_owned()));
        }
        Ok(all)
    }

    /// Their names and addresses.
    #[must_use]
    pub fn places(&self) -> &[(String, String)] {
        &self.places
    }

    /// What they take jobs with.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.children {
            drop(child.stdin.take());
        }
        let begun = Instant::now();
        for child in &mut self.children {
            while matches!(child.try_wait(), Ok(None)) {
                if begun.elapsed() > GRACE {
                    let _ = child.kill();
                    let _ = child.wait();
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}
