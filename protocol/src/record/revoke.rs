//! The control record of a revocation, in the delivery partition of the user whom it concerns.

use super::RecordError;
use super::read::Reader;
use super::write::Writer;
use crate::ids::{DeviceId, UserId};
use crate::revocation::Revocation;

/// Text of a revocation, bytes.
const REASON_BYTES_MAX: usize = 256;
/// A token's `jti`, bytes.
const JTI_BYTES_MAX: usize = 256;

const UP_TO: u8 = 0;
const FOR_EVER: u8 = 1;
const TOKEN: u8 = 2;
const PARDON: u8 = 3;

/// A revocation, or the pardon that lifts one.
#[derive(Debug, Clone, Copy)]
pub struct RevokeView<'a> {
    /// Whose sessions.
    pub user: &'a str,
    /// For the closing frame.
    pub reason: &'a str,
    /// Its place in the directory's list.
    pub number: u64,
    /// Empty: all devices.
    device: &'a str,
    effect: u8,
    at_ms: u64,
    jti: &'a str,
}

impl RevokeView<'_> {
    /// What is revoked, or lifted.
    ///
    /// # Errors
    /// User or device is no id.
    pub fn revocation(&self) -> Result<Revocation, RecordError> {
        let user = || UserId::new(self.user);
        let until_ms = (self.effect == UP_TO).then_some(self.at_ms);
        Ok(match self.effect {
            TOKEN => Revocation::Token {
                jti: self.jti.to_owned(),
                expires_at_ms: self.at_ms,
            },
            PARDON => Revocation::Pardon { user: user()? },
            _ if self.device.is_empty() => Revocation::User {
                user: user()?,
                until_ms,
            },
            _ => Revocation::Device {
                user: user()?,
                device: DeviceId::new(self.device)?,
                until_ms,
            },
        })
    }
}

/// Device u8-text (or empty), reason u32-text, number u64, effect u8, time u64, `jti` u32-text (or empty).
pub(super) fn put_revoke(
    out: &mut Writer,
    user: &UserId,
    number: u64,
    revocation: &Revocation,
    reason: &str,
) {
    let until = |until_ms: Option<u64>| until_ms.map_or((FOR_EVER, 0), |ms| (UP_TO, ms));
    let (device, (effect, at_ms), jti) = match revocation {
        Revocation::User { until_ms, .. } => ("", until(*until_ms), ""),
        Revocation::Device {
            device, until_ms, ..
        } => (device.as_str(), until(*until_ms), ""),
        Revocation::Token { jti, expires_at_ms } => ("", (TOKEN, *expires_at_ms), jti.as_str()),
        Revocation::Pardon { .. } => ("", (PARDON, 0), ""),
    };
    out.short(user.as_str()).short(device);
    out.long(reason.as_bytes()).u64(number);
    out.u8(effect).u64(at_ms).long(jti.as_bytes());
}

pub(super) fn parse_revoke<'a>(reader: &mut Reader<'a>) -> Result<RevokeView<'a>, RecordError> {
    let (user, device) = (reader.short("user")?, reader.short("device")?);
    let view = RevokeView {
        user,
        device,
        reason: reader.text("reason", REASON_BYTES_MAX)?,
        number: reader.u64()?,
        effect: reader.u8()?,
        at_ms: reader.u64()?,
        jti: reader.text("jti", JTI_BYTES_MAX)?,
    };
    // One form for each: what is not used is empty.
    let sound = match view.effect {
        UP_TO => view.jti.is_empty(),
        FOR_EVER => view.jti.is_empty() && view.at_ms == 0,
        TOKEN => view.device.is_empty(),
        PARDON => view.jti.is_empty() && view.device.is_empty() && view.at_ms == 0,
        _ => false,
    };
    match sound {
        true => Ok(view),
        false => Err(RecordError::BadForm { what: "revocation" }),
    }
}
