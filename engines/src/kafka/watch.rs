//! The thread that watches: serves the clients' events, probes the brokers when there is reason to, and
//! answers for them when they do not.

use super::Shared;
use std::sync::Weak;
use std::time::Duration;

const TICK: Duration = Duration::from_millis(50);
/// Bound of one probe.
const PROBE: Duration = Duration::from_millis(250);

/// Runs until the log is dropped.
pub(super) fn run(shared: &Weak<Shared>) {
    while let Some(shared) = shared.upgrade() {
        tick(&shared);
        drop(shared);
        std::thread::sleep(TICK);
    }
}

fn tick(shared: &Shared) {
    shared.switch();
    shared.admin.serve();
    shared.live.serve();
    shared.readers.serve();
    shared.groups.serve();
    shared.producers.serve();
    let health = &shared.health;
    if health.probe_due(shared.producers.oldest()) {
        let (was_down, mark) = (health.down(), health.mark());
        let probe = || shared.admin.answers(&shared.probe_topic, PROBE);
        // One of several brokers may hang: a second try most likely asks another.
        let answered = probe() || (!was_down && probe());
        // Brokers that are too busy for a probe in time may still acknowledge.
        let answered = answered || health.heard_since(mark);
        if health.probed(answered) {
            if answered {
                tracing::warn!("Kafka answers again: appends are accepted");
            } else {
                tracing::error!(
                    brokers = shared.config.brokers,
                    "no Kafka broker answers: appends are refused until one does"
                );
            }
        }
    }
    shared.producers.give_up(health.down());
}
