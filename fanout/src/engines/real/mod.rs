//! The real engines' own clients: from a section to an open adapter and how it does.

mod directory;
mod log;
mod presence;
mod store;

pub(crate) use log::config as kafka_config;

use super::lag::IngestLag;
use super::numbers::Number;
use super::open::{Engines, OpenEnginesError, embedded_health, embedded_log, embedded_presence};
use super::sections::{EMBEDDED, EngineSections};
use hawser_engines::bridge::Bridge;
use hawser_engines::embedded::EmbeddedEngine;
use hawser_engines::latency::Latencies;
use hawser_engines::tls::ClientTls;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Opens each engine where its section says.
pub(super) fn open(
    sections: EngineSections<'_>,
    embedded: Option<Arc<EmbeddedEngine>>,
    api: bool,
) -> Result<Engines, OpenEnginesError> {
    let patience = Duration::from_secs(u64::from(sections.engines.wait_for_engines_s));
    // The sections that name no embedded engine are the only ones that leave it out.
    let database = || {
        embedded.as_ref().ok_or_else(|| OpenEnginesError::Setting {
            key: "log.kind",
            reason: "no engine is embedded in this process".to_owned(),
        })
    };
    let (log, log_health, lag) = match &*sections.log.kind {
        EMBEDDED => {
            let (log, health) = embedded_log(database()?);
            (log, health, IngestLag::default())
        }
        _ => log::kafka(sections.log, patience)?,
    };
    let bridge = Bridge::start("hawser-io").map_err(OpenEnginesError::Thread)?;
    let (directory, directory_health) = match &*sections.directory.kind {
        EMBEDDED => (database()?.directory(), embedded_health("directory")),
        _ => directory::postgres(sections.directory, patience, &bridge, api)?,
    };
    let (store, store_health) = match &*sections.store.kind {
        EMBEDDED => (database()?.store(), embedded_health("store")),
        _ => store::cassandra(sections.store, patience, &bridge)?,
    };
    let (presence, presence_health) = match &*sections.presence.kind {
        EMBEDDED => (
            embedded_presence(embedded.as_ref()),
            embedded_health("presence"),
        ),
        _ => presence::redis(sections.presence, patience, &bridge)?,
    };
    Ok(Engines {
        log,
        store,
        presence,
        directory,
        embedded,
        health: vec![log_health, store_health, presence_health, directory_health],
        lag,
    })
}

/// What a section names beside its values: files with passwords and certificates.
struct Secrets(&'static str);

impl Secrets {
    /// The password, if a file is named.
    fn password(&self, path: &str) -> Result<Option<String>, OpenEnginesError> {
        let key = match self.0 {
            "store" => "store.password_file",
            "presence" => "presence.password_file",
            _ => "directory.password_file",
        };
        (!path.is_empty())
            .then(|| self.first_line(key, path))
            .transpose()
    }

    /// The first line of a file that a key names.
    fn first_line(&self, key: &'static str, path: &str) -> Result<String, OpenEnginesError> {
        let read = std::fs::read_to_string(path);
        let text = read.map_err(|e| OpenEnginesError::File {
            key,
            path: Path::new(path).to_owned(),
            reason: e.to_string(),
        })?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }

    /// TLS, if authorities are named.
    fn tls(&self, ca: &str, cert: &str, key: &str) -> Option<ClientTls> {
        (!ca.is_empty()).then(|| ClientTls {
            ca: (ca != "system").then(|| PathBuf::from(ca)),
            identity: (!cert.is_empty()).then(|| (PathBuf::from(cert), PathBuf::from(key))),
        })
    }
}

/// What every client of an engine counts.
fn link_numbers(
    engine: &'static str,
    requests: u64,
    failures: u64,
    timeouts: u64,
    latency: &Latencies,
) -> Vec<Number> {
    let all = [
        Number::grows(
            "hawser_engine_requests_total",
            "Requests to the engine.",
            requests,
        ),
        Number::grows(
            "hawser_engine_failures_total",
            "Requests that failed, time-outs included.",
            failures,
        ),
        Number::grows(
            "hawser_engine_timeouts_total",
            "Requests without an answer in time.",
            timeouts,
        ),
        Number::grows(
            "hawser_engine_answers_total",
            "Requests that were answered, over which the time is summed.",
            latency.count(),
        ),
        Number::grows(
            "hawser_engine_answer_microseconds_total",
            "Time that answered requests took.",
            latency.sum_us,
        ),
    ];
    all.into_iter()
        .map(|number| number.of("engine", engine))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line_of_its_file_and_a_missing_file_names_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "open sesame\nand a note\n").unwrap();
        let secrets = Secrets("presence");
        let got = secrets.password(&path.display().to_string()).unwrap();
        assert_eq!(got.as_deref(), Some("open sesame"));
        assert!(secrets.password("").unwrap().is_none());
        let error = secrets.password("/nonexistent/p").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(
            error.to_string().contains("presence.password_file"),
            "{error}"
        );
    }

    #[test]
    fn authorities_ask_for_tls_and_system_names_the_machines_own() {
        let secrets = Secrets("store");
        assert!(secrets.tls("", "", "").is_none());
        assert!(
            secrets
                .tls("system", "", "")
                .is_some_and(|t| t.ca.is_none())
        );
        let both = secrets.tls("ca.pem", "c.pem", "k.pem").unwrap();
        assert!(both.ca.is_some() && both.identity.is_some());
    }
}
