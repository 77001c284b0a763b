//! A lane of a group: how many of the group's changes it has heard of.

use super::group::{Group, Told};
use hawser_protocol::ids::{ClientMsgId, UserId};
use hawser_protocol::record::LaneOp;
use std::collections::BTreeSet;

/// One lane from 1 on.
#[derive(Debug, Default)]
pub(super) struct Lane {
    heard: usize,
}

impl Lane {
    /// Changes that it has heard of, from the one that began it.
    pub(super) fn heard(&self) -> usize {
        self.heard
    }

    /// The lane is told of a change: gives those who see it; `None` where it was told before.
    ///
    /// # Errors
    /// It is told of something else than what comes next, or of what never was.
    pub(super) fn hear(
        &mut self,
        group: &Group,
        id: ClientMsgId,
        op: &LaneOp,
    ) -> Result<Option<BTreeSet<UserId>>, String> {
        let at = group.told.iter().position(|told| told.id == id);
        let Some((at, told)) = at.and_then(|at| Some((at, group.told.get(at)?))) else {
            return Err(format!("told of {id}, which is no change of the group"));
        };
        if !same(group, at, told, op) {
            return Err(format!("told {op:?} of {told:?}"));
        }
        if at < self.heard {
            return Ok(None);
        }
        if at > self.heard {
            return Err(format!("told of change {at} before {}", self.heard));
        }
        let before = group.members_after(self.heard);
        self.heard += 1;
        Ok(Some(before.union(&told.after).cloned().collect()))
    }
}

/// Whether what a lane is told is what was done. Who is admin is of no consequence there.
fn same(group: &Group, at: usize, told: &Told, op: &LaneOp) -> bool {
    match op {
        LaneOp::Open { members, lanes, .. } => {
            let spread = group.spread.map(|spread| (spread.lanes, spread.since_ms));
            at == 0
                && members.iter().eq(&told.after)
                && spread == Some((lanes.lanes, lanes.since_ms))
        }
        LaneOp::Change(op) => at > 0 && *op == told.op,
    }
}
