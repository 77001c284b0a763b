//! Users, messages, deliveries, receipts.

use crate::capacity::number::Unit;
use crate::capacity::sheet::Sheet;

#[rustfmt::skip]
pub(super) fn users(sheet: &mut Sheet) {
    sheet.section(
        "Users",
        "All figures are of one cell, but for those of all cells together at the end.",
    );
    sheet.figure("cells", "Cells", Unit::Count, "ceil(users / cell_users_max)");
    sheet.figure("cell_users", "Daily users of a cell", Unit::Count, "users / cells");
    sheet.figure("online_users", "Users online at the peak", Unit::Count, "cell_users × online_share");
    sheet.figure("offline_users", "Daily users who are not online then", Unit::Count, "cell_users − online_users");
    sheet.figure("sessions", "Connections at the peak", Unit::Count, "online_users × devices_per_user");
    sheet.figure("connects_per_s", "Connects at the peak, in ordinary life", Unit::PerSecond, "cell_users × comings_per_user_day × devices_per_user / 86400 × peak_factor");
    sheet.figure("heartbeats_per_s", "Heartbeats", Unit::PerSecond, "sessions / heartbeat_s");
}

#[rustfmt::skip]
pub(super) fn messages(sheet: &mut Sheet) {
    sheet.section(
        "Messages and deliveries",
        "Members count the sender. A recipient who is online is shown the message on every device, and so is the sender on the others. \
         Above reference_bytes only 1:1 chats have the message in their delivery records; larger ones have references.",
    );
    sheet.figure("messages_per_day", "Messages a day", Unit::PerDay, "cell_users × messages_per_user_day");
    sheet.figure("message_bytes_per_day", "Their bytes a day", Unit::BytesPerDay, "messages_per_day × message_bytes");
    sheet.figure("mean_messages_per_s", "Messages a second, mean", Unit::PerSecond, "messages_per_day / 86400");
    sheet.figure("peak_messages_per_s", "Messages a second, peak", Unit::PerSecond, "mean_messages_per_s × peak_factor");
    sheet.figure("peak_message_bytes_per_s", "Their bytes a second, peak", Unit::BytesPerSecond, "peak_messages_per_s × message_bytes");
    sheet.figure("mean_recipients", "Recipients of a message, mean (f)", Unit::Ratio, "Σ(share × (members − 1))");
    sheet.figure("deliveries_per_message", "Deliveries to sockets for a message", Unit::Ratio, "mean_recipients × online_share × devices_per_user + (devices_per_user − 1)");
    sheet.figure("deliveries_per_s", "Deliveries to sockets a second, peak", Unit::PerSecond, "peak_messages_per_s × deliveries_per_message");
    // A message above the limit that touches more than two partitions goes by reference (docs/adr/0023): in the mean that is every chat
    // of three or more.
    let limit = sheet.value("reference_bytes");
    let by_reference = limit > 0.0 && sheet.value("message_bytes") > limit;
    sheet.figure(
        "inline_members_max",
        "Members of the largest chat whose delivery records hold the message",
        Unit::Count,
        if by_reference { "2" } else { "1000000" },
    );
}

#[rustfmt::skip]
pub(super) fn receipts(sheet: &mut Sheet) {
    sheet.section(
        "Receipts",
        "Sent rides in the delivery record and is no event of its own after coalescing. A reader who is online acknowledges one chat \
         at most once in a window; one who comes back acknowledges all that was missed of a chat at once.",
    );
    sheet.figure("receipt_recipients", "Recipients whose receipts are kept, for a message", Unit::Ratio, "Σ[members ≤ receipts_members_max](share × (members − 1))");
    sheet.figure("receipt_events_one_to_one_per_s", "Sent, delivered and read if every message were 1:1, peak", Unit::PerSecond, "peak_messages_per_s × 3");
    sheet.figure("receipt_events_per_s", "Sent, delivered and read without coalescing, peak", Unit::PerSecond, "peak_messages_per_s × (1 + 2 × receipt_recipients)");
    sheet.figure("messages_per_receipt_online", "Messages that a receipt covers, reader online", Unit::Ratio, "1 + chat_rate_per_s × receipt_window_s");
    sheet.figure("receipts_per_s", "Delivered and read after coalescing, peak", Unit::PerSecond, "peak_messages_per_s × 2 × receipt_recipients × (online_share / messages_per_receipt_online + (1 − online_share) / missed_per_return)");
}
