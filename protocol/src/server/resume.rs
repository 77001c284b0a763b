//! May this client go on exactly where it was? A pure function of what it shows and of the log.

use crate::ids::{DeviceId, UserId};
use crate::pb;
use crate::resume::ResumeToken;

/// What must be true of the log for a client to resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Next delivery offset that the client wants.
    pub from: u64,
    /// The record whose checksum the token carries, and the checksum; `None`: it carries none.
    pub check: Option<(u64, u32)>,
}

/// What the log is, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogState {
    /// Of the delivery topic.
    pub generation: u16,
    /// The user's partition.
    pub partition: u32,
    /// First offset that exists.
    pub low: u64,
    /// Next offset to be written.
    pub high: u64,
}

/// Why a session begins unrecovered though it showed a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotRecovered {
    /// Another user's or device's token.
    #[error("the resume token is another device's")]
    Foreign,
    /// Too old.
    #[error("the resume token has expired")]
    Expired,
    /// The log was recreated, truncated, restored or repartitioned.
    #[error("the resume token is of another generation of the log")]
    Generation,
    /// What the client misses is no longer in the log.
    #[error("the log no longer holds what the client misses")]
    Below,
    /// The client is ahead of the log.
    #[error("the client is ahead of the log")]
    Ahead,
    /// The log says something else at that place.
    #[error("the log holds another record at that place")]
    Checksum,
}

/// First half: everything that needs no look at the log's records. `last_offset` is the client's own
/// word and outranks the token's position: it can only skip or repeat what is its own. `places`: (generation, partition) of
/// the user's records now, and of those before them in the same log, where it has grown.
///
/// # Errors
/// The session begins unrecovered.
pub fn claim(
    hello: &pb::Hello,
    token: &ResumeToken,
    user: &UserId,
    device: &DeviceId,
    places: impl IntoIterator<Item = (u16, u32)>,
    wall_ms: u64,
) -> Result<Claim, NotRecovered> {
    if token.user != *user || token.device != *device {
        return Err(NotRecovered::Foreign);
    }
    if token.expired(wall_ms) {
        return Err(NotRecovered::Expired);
    }
    let of = (token.generation, token.partition);
    if !places.into_iter().any(|place| place == of) {
        return Err(NotRecovered::Generation);
    }
    let from = match hello.last_offset {
        Some(last) => last.checked_add(1).ok_or(NotRecovered::Ahead)?,
        None => token.offset,
    };
    let check = match (token.offset.checked_sub(1), token.checksum) {
        (Some(at), checksum) if checksum != 0 => Some((at, checksum)),
        _ => None,
    };
    Ok(Claim { from, check })
}

/// Second half: against the log. `checksum_at` is that of the record at the claim's check, `None`
/// where retention has removed it (then the generation vouches for it).
///
/// # Errors
/// The session begins unrecovered.
pub fn decide(
    claim: &Claim,
    log: &LogState,
    checksum_at: Option<u32>,
) -> Result<u64, NotRecovered> {
    if claim.from < log.low {
        return Err(NotRecovered::Below);
    }
    if claim.from > log.high || claim.check.is_some_and(|(at, _)| at >= log.high) {
        return Err(NotRecovered::Ahead);
    }
    if let (Some((_, wanted)), Some(found)) = (claim.check, checksum_at)
        && wanted != found
    {
        return Err(NotRecovered::Checksum);
    }
    Ok(claim.from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> ResumeToken {
        ResumeToken {
            user: UserId::new("alice").expect("an id"),
            device: DeviceId::new("phone").expect("an id"),
            generation: 3,
            partition: 5,
            offset: 50,
            checksum: 0xabcd,
            expires_ms: 1_000,
        }
    }

    #[test]
    fn a_token_resumes_only_its_device_on_its_log_in_time() {
        let (user, device) = (token().user, token().device);
        let other = UserId::new("bob").expect("an id");
        let tablet = DeviceId::new("tablet").expect("an id");
        let hello = pb::Hello::default();
        let cases = [
            (&user, &device, 3, 5, 999, Ok(50)),
            (&other, &device, 3, 5, 999, Err(NotRecovered::Foreign)),
            (&user, &tablet, 3, 5, 999, Err(NotRecovered::Foreign)),
            (&user, &device, 4, 5, 999, Err(NotRecovered::Generation)),
            (&user, &device, 3, 6, 999, Err(NotRecovered::Generation)),
            (&user, &device, 3, 5, 1_000, Err(NotRecovered::Expired)),
        ];
        for (user, device, generation, partition, now, expected) in cases {
            let place = [(generation, partition)];
            let got = claim(&hello, &token(), user, device, place, now);
            assert_eq!(got.map(|c| c.from), expected);
        }
    }

    #[test]
    fn a_token_of_the_generation_before_resumes_where_the_log_has_grown() {
        let (hello, token) = (pb::Hello::default(), token());
        let got = |places: &[(u16, u32)]| {
            let places = places.iter().copied();
            claim(&hello, &token, &token.user, &token.device, places, 0).map(|c| c.from)
        };
        assert_eq!(got(&[(4, 13), (3, 5)]), Ok(50));
        assert_eq!(got(&[(4, 13), (3, 6)]), Err(NotRecovered::Generation));
        assert_eq!(got(&[(5, 13), (4, 5)]), Err(NotRecovered::Generation));
        assert_eq!(got(&[(4, 5)]), Err(NotRecovered::Generation), "no past");
    }

    #[test]
    fn what_the_client_persisted_outranks_where_the_token_was_made() {
        for (last, from) in [(Some(70), Ok(71)), (Some(10), Ok(11)), (None, Ok(50))] {
            let hello = pb::Hello {
                last_offset: last,
                ..pb::Hello::default()
            };
            let token = token();
            let got = claim(&hello, &token, &token.user, &token.device, [(3, 5)], 0);
            assert_eq!(got.map(|c| c.from), from);
        }
        let hello = pb::Hello {
            last_offset: Some(u64::MAX),
            ..pb::Hello::default()
        };
        let got = claim(
            &hello,
            &token(),
            &token().user,
            &token().device,
            [(3, 5)],
            0,
        );
        assert_eq!(got, Err(NotRecovered::Ahead));
    }

    #[test]
    fn the_log_must_hold_everything_that_is_missed_and_nothing_else() {
        let log = |low, high| LogState {
            generation: 3,
            partition: 5,
            low,
            high,
        };
        let wants = |from, check| Claim { from, check };
        let check = Some((49, 7));
        let cases = [
            (wants(50, check), log(0, 50), Some(7), Ok(50)),
            (wants(50, check), log(0, 900), Some(7), Ok(50)),
            (wants(50, check), log(50, 900), None, Ok(50)),
            (wants(50, None), log(50, 50), None, Ok(50)),
            (
                wants(50, check),
                log(51, 900),
                None,
                Err(NotRecovered::Below),
            ),
            (wants(50, check), log(0, 49), None, Err(NotRecovered::Ahead)),
            (wants(10, check), log(0, 49), None, Err(NotRecovered::Ahead)),
            (
                wants(50, check),
                log(0, 900),
                Some(8),
                Err(NotRecovered::Checksum),
            ),
        ];
        for (claim, log, found, expected) in cases {
            assert_eq!(decide(&claim, &log, found), expected, "{claim:?} {log:?}");
        }
    }
}
