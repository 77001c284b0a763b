//! What the API writes to the log: changes of groups, and revocations for live sessions.

use super::error::ApiError;
use super::{ApiServices, now_ms};
use crate::ingest::API_DEVICE;
use bytes::Bytes;
use hawser_engines::log::{AppendOutcome, Appended, Produce, ProduceError, Topic};
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use hawser_protocol::partition::partition;
use hawser_protocol::record::{DeliveryKind, DeliveryRecord, GroupOp, SourceRecord};
use hawser_protocol::revocation::Revocation;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// How long a change may take before its outcome is called unknown. Embedded it takes one commit.
const OUTCOME_WAIT: Duration = Duration::from_secs(10);
/// First and longest wait between two looks for an outcome.
const LOOK_FIRST: Duration = Duration::from_millis(1);
const LOOK_MAX: Duration = Duration::from_millis(50);

struct Told(SyncSender<AppendOutcome>);

impl Appended for Told {
    fn appended(&self, _tag: u64, outcome: AppendOutcome) {
        // Whoever asked may have given up.
        let _ = self.0.try_send(outcome);
    }
}

impl ApiServices {
    /// Asks ingest for a change of a group and waits for its judgement; blocks. The same `op_id`
    /// asks for the same change: it is made once, and answered the same.
    pub(super) fn change_group(
        &self,
        actor: &UserId,
        op_id: ClientMsgId,
        chat: &ChatId,
        op: GroupOp,
    ) -> Result<(), ApiError> {
        let until = Instant::now() + OUTCOME_WAIT;
        let record = SourceRecord::Group {
            actor: actor.clone(),
            op_id,
            chat: chat.clone(),
            op,
        };
        self.append(Topic::ChatMessages, chat.as_str(), record.encode(), until)?;
        // The name is a constant of the right form.
        let device = DeviceId::new(API_DEVICE).expect("a plain word");
        let mut wait = LOOK_FIRST;
        loop {
            if let Some(row) = self.store.dedup(actor, &device, chat, &op_id)? {
                return judged(row.error);
            }
            if Instant::now() >= until {
                let words = "the change is accepted but not judged yet: ask again with the same Idempotency-Key";
                return Err(ApiError::new(ErrorCode::UnknownOutcome, words));
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(LOOK_MAX);
        }
    }

    /// Puts a revocation, which the directory has at `place` of its list, into the user's delivery partition: every node that
    /// serves the user judges its sessions anew there, in order with the messages. Blocks until the log has it.
    pub(super) fn tell_nodes(
        &self,
        user: &UserId,
        place: u64,
        revocation: &Revocation,
        reason: &str,
    ) -> Result<(), ApiError> {
        let record = DeliveryRecord {
            source_partition: 0,
            source_seq: Seq::NONE,
            sub_index: 0,
            kind: DeliveryKind::Revoke {
                user: user.clone(),
                number: place,
                revocation: revocation.clone(),
                reason: reason.to_owned(),
            },
        };
        let until = Instant::now() + OUTCOME_WAIT;
        self.append(Topic::Delivery, user.as_str(), record.encode(), until)
    }

    fn append(
        &self,
        topic: Topic,
        key: &str,
        value: Bytes,
        until: Instant,
    ) -> Result<(), ApiError> {
        let (sender, outcome) = sync_channel(1);
        let done: Arc<dyn Appended> = Arc::new(Told(sender));
        let shape = self.log.shape(topic);
        let record = Produce {
            topic,
            partition: partition(key, shape.partitions),
            key: Bytes::copy_from_slice(key.as_bytes()),
            value,
            timestamp_ms: now_ms(),
        };
        let given = self.log.produce_in(shape.generation, record, 0, &done);
        given.map_err(refused)?;
        let left = until.saturating_duration_since(Instant::now());
        match outcome.recv_timeout(left) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(refused(error)),
            Err(_) => Err(refused(ProduceError::Unknown {
                reason: "no answer in time".to_owned(),
            })),
        }
    }
}

fn refused(error: ProduceError) -> ApiError {
    match error {
        ProduceError::Refused {
            reason,
            retry_after_ms,
        } => {
            tracing::warn!(reason, "the log refused a record of the API");
            ApiError::new(ErrorCode::Unavailable, "the log refuses records now")
                .retry_after(retry_after_ms.max(1))
        }
        ProduceError::Unknown { reason } => {
            tracing::warn!(reason, "the outcome of a record of the API is unknown");
            let words = "the outcome is unknown: ask again with the same Idempotency-Key";
            ApiError::new(ErrorCode::UnknownOutcome, words)
        }
    }
}

fn judged(error: u16) -> Result<(), ApiError> {
    let Some(code) = ErrorCode::from_number(error) else {
        return if error == 0 {
            Ok(())
        } else {
            Err(ApiError::new(
                ErrorCode::Internal,
                "judged by a newer version",
            ))
        };
    };
    let words = match code {
        ErrorCode::NotMember => return Err(ApiError::not_found()),
        ErrorCode::Forbidden => "for the group's admins only",
        ErrorCode::Conflict => "the group is not in a state that allows this",
        ErrorCode::GroupFull => "the group would have too many members",
        ErrorCode::NotFound => "that user is not in the group",
        _ => "refused",
    };
    Err(ApiError::new(code, words))
}
