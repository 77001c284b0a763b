//! Settings of topics with which "acknowledged" would not mean durable, or time not the sender's:
//! looked at on opening, because acks=all alone promises neither (`min.insync.replicas` is 1 by default).

use super::clients::MESSAGE_BYTES_MAX;
use crate::log::Topic;

/// A topic as the brokers describe it, or as it is about to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) name: String,
    /// Not made yet: then the way out is in our own settings.
    pub(super) planned: bool,
    /// Its next generation is being made: it takes no records, on purpose.
    pub(super) fenced: bool,
    pub(super) kind: Topic,
    /// Copies of the partition that has the fewest.
    pub(super) replicas: usize,
    /// (setting, value) as in effect.
    pub(super) settings: Vec<(String, String)>,
}

/// One setting that is not safe, and how it becomes so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the Kafka topic {topic} has {setting} = {found}: {why}. {fix}, or accept it with allow_unsafe_log = true"
)]
pub struct Unsafe {
    /// The topic.
    pub topic: String,
    /// The setting.
    pub setting: &'static str,
    /// Its value.
    pub found: String,
    /// What can happen.
    pub why: &'static str,
    /// What to do.
    pub fix: String,
}

/// Everything that is not safe about a topic. Of an ephemeral one nothing is promised but its clock.
pub(super) fn judge(topic: &Described) -> Vec<Unsafe> {
    let mut found = Vec::new();
    let mut complain = |setting: &'static str, value: &str, why, fix: Fix| {
        found.push(Unsafe {
            topic: topic.name.clone(),
            setting,
            found: value.to_owned(),
            why,
            fix: fix.text(topic, setting),
        });
    };
    let value = |name: &str| {
        let setting = topic.settings.iter().find(|(key, _)| key == name);
        setting.map(|(_, value)| value.as_str())
    };
    let number = |name: &str| value(name).and_then(|v| v.parse::<i64>().ok());
    if let Some(kind) = value("message.timestamp.type")
        && kind != "CreateTime"
    {
        complain(
            "message.timestamp.type",
            kind,
            "a record's time must be the same on every replay",
            Fix::Set("CreateTime"),
        );
    }
    if topic.kind.ephemeral() {
        return found;
    }
    if topic.replicas < 2 {
        complain(
            "replication factor",
            &topic.replicas.to_string(),
            "the loss of one broker loses acknowledged messages",
            Fix::Copies,
        );
    }
    if let Some(min) = number("min.insync.replicas")
        && min < 2
    {
        complain(
            "min.insync.replicas",
            &min.to_string(),
            "a record counts as acknowledged when one broker has it",
            Fix::Set("2"),
        );
    }
    if value("unclean.leader.election.enable") == Some("true") {
        complain(
            "unclean.leader.election.enable",
            "true",
            "a broker that lacks acknowledged messages may become the leader",
            Fix::Set("false"),
        );
    }
    if topic.kind.compacted() {
        if let Some(policy) = value("cleanup.policy")
            && policy != "compact"
        {
            let why = "retention would forget what still counts";
            complain("cleanup.policy", policy, why, Fix::Set("compact"));
        }
    } else if let Some(policy) = value("cleanup.policy")
        && policy.contains("compact")
    {
        complain(
            "cleanup.policy",
            policy,
            "compaction removes messages that share a key",
            Fix::Set("delete"),
        );
    }
    if let Some(max) = number("max.message.bytes")
        && !topic.fenced
        && u64::try_from(max).is_ok_and(|max| max < MESSAGE_BYTES_MAX)
    {
        complain(
            "max.message.bytes",
            &max.to_string(),
            "a record of 1 MiB would be refused",
            Fix::Set("1118208"),
        );
    }
    found
}

const _: () = assert!(
    MESSAGE_BYTES_MAX == 1_118_208,
    "the text of the fix names it"
);

enum Fix {
    Set(&'static str),
    Copies,
}

impl Fix {
    fn text(&self, topic: &Described, setting: &str) -> String {
        let name = &topic.name;
        match (self, topic.planned) {
            (Self::Copies, true) => "Set replication = 3".to_owned(),
            (Self::Copies, false) => {
                "Raise it to 3 with kafka-reassign-partitions.sh, or make the topic anew".to_owned()
            }
            (Self::Set(value), true) => format!("Set min_insync = {value}"),
            (Self::Set(value), false) => format!(
                "Set it: kafka-configs.sh --bootstrap-server HOST:PORT --alter --entity-type topics \
                 --entity-name {name} --add-config {setting}={value}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAFE: &[(&str, &str)] = &[
        ("message.timestamp.type", "CreateTime"),
        ("min.insync.replicas", "2"),
        ("unclean.leader.election.enable", "false"),
        ("cleanup.policy", "delete"),
        ("max.message.bytes", "1118208"),
    ];

    fn topic(replicas: usize, change: Option<(&str, &str)>) -> Described {
        let mut settings: Vec<(String, String)> = SAFE
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        if let Some((key, value)) = change {
            for setting in &mut settings {
                if setting.0 == key {
                    value.clone_into(&mut setting.1);
                }
            }
        }
        Described {
            name: "delivery".into(),
            planned: false,
            fenced: false,
            kind: Topic::Delivery,
            replicas,
            settings,
        }
    }

    #[test]
    fn a_careful_topic_is_safe() {
        assert_eq!(judge(&topic(3, None)), []);
    }

    #[test]
    fn each_unsafe_setting_is_named_with_its_value_and_its_fix() {
        for (setting, value) in [
            ("message.timestamp.type", "LogAppendTime"),
            ("min.insync.replicas", "1"),
            ("unclean.leader.election.enable", "true"),
            ("cleanup.policy", "compact,delete"),
            ("max.message.bytes", "1048588"),
        ] {
            let found = judge(&topic(3, Some((setting, value))));
            assert_eq!(found.len(), 1, "{setting}: {found:?}");
            let said = found[0].to_string();
            for part in [setting, value, "delivery", "--add-config", "allow_unsafe"] {
                assert!(said.contains(part), "{said}");
            }
        }
        let said = judge(&topic(1, None))[0].to_string();
        assert!(said.contains("replication factor = 1"), "{said}");
    }

    #[test]
    fn before_a_topic_is_made_the_way_out_is_in_our_own_settings() {
        let mut planned = topic(1, Some(("min.insync.replicas", "1")));
        planned.planned = true;
        let said: Vec<String> = judge(&planned).iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("Set replication = 3"), "{said:?}");
        assert!(said[1].contains("Set min_insync = 2"), "{said:?}");
    }

    #[test]
    fn of_an_ephemeral_topic_only_the_clock_matters() {
        let mut weak = topic(1, Some(("min.insync.replicas", "1")));
        weak.kind = Topic::ChatTyping;
        assert_eq!(judge(&weak), []);
        let mut clock = topic(1, Some(("message.timestamp.type", "LogAppendTime")));
        clock.kind = Topic::ChatTyping;
        assert_eq!(judge(&clock).len(), 1);
    }

    #[test]
    fn of_leases_compaction_is_asked_and_of_a_fenced_topic_no_size() {
        let mut leases = topic(3, Some(("cleanup.policy", "compact")));
        leases.kind = Topic::Leases;
        assert_eq!(judge(&leases), []);
        let mut leases = topic(3, None);
        leases.kind = Topic::Leases;
        assert!(
            judge(&leases)[0]
                .to_string()
                .contains("cleanup.policy=compact")
        );
        let mut fenced = topic(3, Some(("max.message.bytes", "1")));
        fenced.fenced = true;
        assert_eq!(judge(&fenced), []);
    }
}
