//! Users scroll up: what a device does not fetch by itself of a long chat it fetches when it is looked at.

use crate::device::Disk;
use crate::world::{DeviceNo, World};
use hawser_protocol::ids::{ChatId, Seq};
use hawser_protocol::limits::SYNC_LIMIT_DEFAULT;
use std::collections::BTreeMap;

impl World {
    /// Every user looks at all of the chats that are longer than what a device fetches by itself.
    pub(crate) fn scroll_all(&mut self) {
        for device in 0..self.devices.len() {
            let mut counts: BTreeMap<ChatId, usize> = BTreeMap::new();
            for (chat, _) in self.devices[device].disk.messages.keys() {
                *counts.entry(chat.clone()).or_default() += 1;
            }
            for (chat, count) in counts {
                if count >= SYNC_LIMIT_DEFAULT {
                    self.scroll_up(device, &chat, u64::MAX);
                }
            }
        }
    }

    /// Asks for what is missing under the first message below `below` whose predecessor is not there.
    pub(crate) fn scroll_up(&mut self, device: DeviceNo, chat: &ChatId, below: u64) {
        if let Some(before) = hole(&self.devices[device].disk, chat, below) {
            let now = self.device_now(device);
            // As many as a page holds by default.
            self.devices[device].session.history(chat, before, 0, now);
            self.settle(device);
        }
    }
}

/// Of the messages below an ordinal, the first on the way down whose predecessor is not there.
fn hole(disk: &Disk, chat: &ChatId, below: u64) -> Option<u64> {
    let mut rows = disk.chat(chat).rev().filter(|row| row.ordinal < below);
    let mut upper = rows.next()?;
    loop {
        let lower = rows.next();
        if upper.prev_seq != lower.map_or(Seq::NONE, |lower| lower.seq) {
            return Some(upper.ordinal);
        }
        upper = lower?;
    }
}
