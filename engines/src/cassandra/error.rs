//! Why the store on Cassandra does not open, and what a failed request means.

use crate::store::StoreError;
use crate::tls::TlsError;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use std::time::Duration;

/// Why it does not open: the operator's, each with the setting to change.
#[derive(Debug, thiserror::Error)]
pub enum CassandraError {
    /// A setting is out of bounds.
    #[error("store.{key}: must be {rule}")]
    Setting {
        /// Which.
        key: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// Certificates.
    #[error("store.tls_ca, store.tls_cert, store.tls_key: {0}")]
    Tls(#[from] TlsError),
    /// Nobody answered in time.
    #[error(
        "Cassandra at {nodes} does not answer ({waited:?} waited): {reason}; see store.contact_points, and \
         store.replication where fewer nodes run than it asks for"
    )]
    Unreachable {
        /// Whom we asked.
        nodes: String,
        /// How long.
        waited: Duration,
        /// The last error.
        reason: String,
    },
    /// User or password are wrong.
    #[error(
        "Cassandra refuses the log-in of user `{user}`: {reason}; see store.user and store.password"
    )]
    Credentials {
        /// As whom.
        user: String,
        /// Cassandra's words.
        reason: String,
    },
    /// Tables of a newer program.
    #[error(
        "keyspace `{keyspace}` has schema version {found}, written by {writer}; this program knows version {known}: run \
         the newer program, or another store.keyspace"
    )]
    Newer {
        /// Which keyspace.
        keyspace: String,
        /// Its version.
        found: i32,
        /// Ours.
        known: i32,
        /// Who migrated it.
        writer: String,
    },
    /// Nobody has made the tables.
    #[error(
        "keyspace `{keyspace}` has no tables of version {known} yet, and this program does not make them: start one with \
         store.migrate = true"
    )]
    NotMigrated {
        /// Which keyspace.
        keyspace: String,
        /// The version that is needed.
        known: i32,
    },
    /// A datacenter to prefer that there is not.
    #[error("store.local_dc: no node is in datacenter `{wanted}`; there are: {there}")]
    Datacenter {
        /// The one that is set.
        wanted: String,
        /// Those that Cassandra has.
        there: String,
    },
    /// Acknowledged messages could be lost.
    #[error("{reason}; set store.allow_unsafe = true where that does not matter")]
    Unsafe {
        /// What is wrong.
        reason: String,
    },
    /// A statement of the schema failed.
    #[error(
        "the tables cannot be made or read: {0}; see store.keyspace, store.migrate and what store.user may do"
    )]
    Schema(String),
    /// Threads or sockets.
    #[error("the store cannot be set up: {0}")]
    Setup(String),
}

/// What a failed try means.
pub(super) enum Failure {
    /// It may have been applied: the same again, until it is known to be.
    Unknown(String),
    /// It was not done; the same may succeed later.
    NotDone(String),
    /// It never will succeed.
    Never(String),
}

/// Judges a failed try. All our writes carry timestamps of their own, so that any may be repeated.
pub(super) fn judge(error: &ExecutionError) -> Failure {
    let text = error.to_string();
    match error {
        ExecutionError::BadQuery(_) => Failure::Never(text),
        ExecutionError::LastAttemptError(attempt) => match attempt {
            RequestAttemptError::DbError(db, _) => judge_answer(db, text),
            RequestAttemptError::SerializationError(_)
            | RequestAttemptError::CqlRequestSerialization(_) => Failure::Never(text),
            RequestAttemptError::UnableToAllocStreamId => Failure::NotDone(text),
            _ => Failure::Unknown(text),
        },
        ExecutionError::RequestTimeout(_) => Failure::Unknown(text),
        _ => Failure::NotDone(text),
    }
}

/// A refusal that another row could get too is not the row's fault: a dropped table or a revoked right must not make
/// anybody put messages aside.
fn judge_answer(db: &DbError, text: String) -> Failure {
    match db {
        DbError::Invalid if text.contains("too large for the maximum size") => Failure::Never(text),
        DbError::SyntaxError
        | DbError::Invalid
        | DbError::Unauthorized
        | DbError::ConfigError
        | DbError::Unavailable { .. }
        | DbError::Overloaded
        | DbError::IsBootstrapping => Failure::NotDone(text),
        _ => Failure::Unknown(text),
    }
}

/// For the port.
pub(super) fn unavailable(reason: impl Into<String>) -> StoreError {
    StoreError::Unavailable {
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(db: DbError, words: &str) -> Failure {
        judge(&RequestAttemptError::DbError(db, words.to_owned()).into())
    }

    #[test]
    fn what_timed_out_may_have_been_applied() {
        let timeout = ExecutionError::RequestTimeout(Duration::from_secs(1));
        assert!(matches!(judge(&timeout), Failure::Unknown(_)));
        let server = answered(DbError::ServerError, "oops");
        assert!(matches!(server, Failure::Unknown(_)));
    }

    #[test]
    fn only_the_rows_own_fault_is_for_good() {
        let large = "Mutation of 20MiB is too large for the maximum size of 8MiB";
        assert!(matches!(
            answered(DbError::Invalid, large),
            Failure::Never(_)
        ));
        for (db, words) in [
            (DbError::Invalid, "unconfigured table messages_by_chat"),
            (DbError::Unauthorized, "User x has no MODIFY permission"),
            (DbError::Overloaded, "too busy"),
        ] {
            assert!(matches!(answered(db, words), Failure::NotDone(_)));
        }
    }
}
