//! Names of topics: a generation is in the name (`docs/adr/0006-generation-in-the-topics-name.md`).

use crate::log::Topic;

/// The name of a generation of a topic: the first has the topic's own name, later ones end in `-g2`...
pub(super) fn name(prefix: &str, topic: Topic, generation: u16) -> String {
    match generation {
        1 => format!("{prefix}{}", topic.name()),
        _ => format!("{prefix}{}-g{generation}", topic.name()),
    }
}

/// Which generation of the topic a name is, if it is one.
pub(super) fn generation(prefix: &str, topic: Topic, found: &str) -> Option<u16> {
    let rest = found.strip_prefix(prefix)?.strip_prefix(topic.name())?;
    if rest.is_empty() {
        return Some(1);
    }
    let number = rest.strip_prefix("-g")?;
    let generation: u16 = number.parse().ok()?;
    (generation >= 2 && generation.to_string() == number).then_some(generation)
}

/// The newest generation of a topic among these names.
pub(super) fn newest<'a>(
    prefix: &str,
    topic: Topic,
    names: impl Iterator<Item = &'a str>,
) -> Option<(u16, String)> {
    names
        .filter_map(|found| Some((generation(prefix, topic, found)?, found.to_owned())))
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_generation_has_the_topics_own_name_and_later_ones_say_which() {
        assert_eq!(name("", Topic::Delivery, 1), "delivery");
        assert_eq!(name("eu.", Topic::Delivery, 3), "eu.delivery-g3");
        for generation in [1, 2, 65_535] {
            let text = name("eu.", Topic::ChatMessages, generation);
            assert_eq!(
                super::generation("eu.", Topic::ChatMessages, &text),
                Some(generation)
            );
        }
    }

    #[test]
    fn other_names_are_no_generation() {
        for other in [
            "chat-messages",
            "x.delivery",
            "delivery-g",
            "delivery-g1",
            "delivery-g02",
            "delivery-g70000",
            "delivery-g2x",
            "delivery2",
            "",
        ] {
            assert_eq!(generation("", Topic::Delivery, other), None, "{other}");
        }
    }

    #[test]
    fn the_newest_generation_counts_by_number() {
        let names = ["delivery", "delivery-g2", "delivery-g10", "delivery-g9"];
        let found = newest("", Topic::Delivery, names.into_iter());
        assert_eq!(found, Some((10, "delivery-g10".to_owned())));
        assert_eq!(newest("x", Topic::Delivery, names.into_iter()), None);
    }
}
