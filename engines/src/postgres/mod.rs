//! The directory port on PostgreSQL: the tables that `docs/postgres.md` names, over a bounded pool of
//! connections. Every call is bounded in time, the wait for a connection included.

mod config;
mod error;
mod groups;
mod migrate;
mod pool;
mod revocations;
mod stats;
mod users;

pub use config::PostgresConfig;
pub use error::PostgresError;
pub use stats::PostgresStats;

use self::pool::{Calls, Repeat};
use crate::bridge::Bridge;
use crate::directory::{
    Device, Directory, DirectoryError, Group, GroupDelta, GroupPage, Revocation, User,
};
use hawser_protocol::ids::{ChatId, DeviceId, Seq, UserId};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a start waits for the tables: another process may be migrating them.
const MIGRATION: Duration = Duration::from_secs(65);
/// How often a wait for Postgres says so.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// The directory on Postgres.
pub struct PostgresDirectory(Calls);

impl PostgresDirectory {
    /// Connects, makes and migrates the tables; many processes may do so at once. A server that does not
    /// answer is waited for as long as the configuration says.
    ///
    /// # Errors
    /// The operator's (a setting, a password, a certificate, a schema of a newer version), each with the
    /// key to change; or the server does not answer, see [`PostgresError::passes`].
    pub fn open(config: PostgresConfig, bridge: Arc<Bridge>) -> Result<Self, PostgresError> {
        let began = Instant::now();
        let patience = Duration::from_millis(config.open_timeout_ms);
        let calls = Calls::new(config, bridge)?;
        warn_if_plain(&calls.config);
        let mut said = None::<Instant>;
        loop {
            let config = calls.config.clone();
            let migrated = calls.alone(MIGRATION, move |db| {
                Box::pin(async move { migrate::migrate(db, &config).await })
            });
            match migrated {
                Ok(()) => return Ok(Self(calls)),
                Err(error) if !error.passes() || began.elapsed() >= patience => return Err(error),
                Err(error) => {
                    if said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
                        tracing::warn!(trouble = %error, "waiting for Postgres");
                        said = Some(Instant::now());
                    }
                    std::thread::sleep(Duration::from_millis(200));
                }
            }
        }
    }

    /// Why the last call had no answer, and which key to look at; `None` when it had one.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.0.trouble()
    }

    /// What was counted since the start.
    #[must_use]
    pub fn stats(&self) -> PostgresStats {
        self.0.stats()
    }
}

/// Without TLS everything between the hosts can be read on the way, the password's proof excepted.
fn warn_if_plain(config: &PostgresConfig) {
    let host = config.host_port().map_or("", |(host, _)| host);
    let address = host.parse::<IpAddr>();
    let here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    if config.tls.is_none() && !here {
        tracing::warn!(
            address = config.address,
            "the directory is reached without TLS: set directory.tls_ca to a file of authorities, or to `system`"
        );
    }
}

impl Directory for PostgresDirectory {
    fn create_user(&self, user: &User) -> Result<(), DirectoryError> {
        let user = user.clone();
        // A repetition would find the id taken by itself.
        let never = Repeat::Never;
        self.0.call(never, move |db| {
            let user = user.clone();
            Box::pin(async move { users::create(db, &user).await })
        })
    }

    fn update_user(&self, user: &User) -> Result<(), DirectoryError> {
        let user = user.clone();
        self.0.call(Repeat::Safe, move |db| {
            let user = user.clone();
            Box::pin(async move { users::update(db, &user).await })
        })
    }

    fn user(&self, id: &UserId) -> Result<Option<User>, DirectoryError> {
        let id = id.clone();
        self.0.call(Repeat::Safe, move |db| {
            let id = id.clone();
            Box::pin(async move { users::by_id(db, id.as_str()).await })
        })
    }

    fn users(&self, after: Option<&UserId>, limit: usize) -> Result<Vec<User>, DirectoryError> {
        let after = after.map_or_else(String::new, ToString::to_string);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.0.call(Repeat::Safe, move |db| {
            let after = after.clone();
            Box::pin(async move { users::list(db, &after, limit).await })
        })
    }

    fn user_by_phone(&self, phone: &str) -> Result<Option<User>, DirectoryError> {
        let phone = phone.to_owned();
        self.0.call(Repeat::Safe, move |db| {
            let phone = phone.clone();
            Box::pin(async move { users::by_phone(db, &phone).await })
        })
    }

    fn put_device(&self, user: &UserId, device: &Device) -> Result<(), DirectoryError> {
        let (user, device) = (user.clone(), device.clone());
        self.0.call(Repeat::Safe, move |db| {
            let (user, device) = (user.clone(), device.clone());
            Box::pin(async move { users::put_device(db, user.as_str(), &device).await })
        })
    }

    fn device(&self, user: &UserId, device: &DeviceId) -> Result<Option<Device>, DirectoryError> {
        let (user, device) = (user.clone(), device.clone());
        let found = self.0.call(Repeat::Safe, move |db| {
            let (user, device) = (user.clone(), device.clone());
            Box::pin(async move { users::devices(db, user.as_str(), Some(device.as_str())).await })
        });
        Ok(found?.into_iter().next())
    }

    fn devices(&self, user: &UserId) -> Result<Vec<Device>, DirectoryError> {
        let user = user.clone();
        self.0.call(Repeat::Safe, move |db| {
            let user = user.clone();
            Box::pin(async move { users::devices(db, user.as_str(), None).await })
        })
    }

    fn apply_group(&self, group: &Group, write_seq: Seq) -> Result<(), DirectoryError> {
        let group = group.clone();
        self.0.call(Repeat::Safe, move |db| {
            let group = group.clone();
            Box::pin(async move { groups::apply(db, &group, write_seq.0).await })
        })
    }

    fn touch_group(&self, delta: &GroupDelta, write_seq: Seq) -> Result<(), DirectoryError> {
        let delta = delta.clone();
        self.0.call(Repeat::Safe, move |db| {
            let delta = delta.clone();
            Box::pin(async move { groups::touch(db, &delta, write_seq.0).await })
        })
    }

    fn group_page(
        &self,
        chat: &ChatId,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Option<GroupPage>, DirectoryError> {
        let chat = chat.clone();
        let after = after.map_or("", UserId::as_str).to_owned();
        self.0.call(Repeat::Safe, move |db| {
            let (chat, after) = (chat.clone(), after.clone());
            Box::pin(async move { groups::page(db, chat.as_str(), &after, limit).await })
        })
    }

    fn group(&self, chat: &ChatId) -> Result<Option<Group>, DirectoryError> {
        let chat = chat.clone();
        self.0.call(Repeat::Safe, move |db| {
            let chat = chat.clone();
            Box::pin(async move { groups::read(db, chat.as_str()).await })
        })
    }

    fn delete_user(&self, id: &UserId) -> Result<(), DirectoryError> {
        let id = id.clone();
        // A repetition would find nobody.
        let never = Repeat::Never;
        self.0.call(never, move |db| {
            let id = id.clone();
            Box::pin(async move { users::delete(db, id.as_str()).await })
        })
    }

    fn put_revocation(&self, revocation: &Revocation) -> Result<u64, DirectoryError> {
        let revocation = revocation.clone();
        self.0.call(Repeat::Safe, move |db| {
            let revocation = revocation.clone();
            Box::pin(async move { revocations::put(db, &revocation).await })
        })
    }

    fn revocations_after(
        &self,
        cursor: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Revocation)>, DirectoryError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.0.call(Repeat::Safe, move |db| {
            Box::pin(async move { revocations::after(db, cursor, limit).await })
        })
    }
}
