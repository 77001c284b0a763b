//! What is planned for: every key of [`super::keys`] with its value and where that is from, and the group mix.

use std::collections::BTreeMap;

use super::formula::{Class, Symbols};
use super::keys::{self, Key};
use super::number::plain;

/// Classes of the group mix at most: each is a term of every sum that is printed.
pub const CLASSES_MAX: usize = 12;
/// Members of a group at most, as Hawser has it.
pub const MEMBERS_MAX: f64 = hawser_protocol::limits::GROUP_MEMBERS_MAX as f64;
/// Name of the group mix in a file (`[[mix]]`), as a flag and in errors.
pub const MIX: &str = "mix";

/// What is wrong with what was asked for: the operator's to mend.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InputError {
    /// No such key.
    #[error("{key}: there is no such key{hint}; hawser-loadgen plan --defaults lists them all")]
    Unknown {
        /// As it was written.
        key: String,
        /// `: did you mean ..`, or nothing.
        hint: String,
    },
    /// The value cannot be.
    #[error("{key} = {value}: {wanted}")]
    Value {
        /// The key.
        key: String,
        /// As it was written.
        value: String,
        /// What it must be.
        wanted: String,
    },
    /// The file is no TOML.
    #[error("this is no TOML: {0}")]
    Syntax(String),
    /// Possible values that cannot be planned with together.
    #[error("{what}; {way_out}")]
    Impossible {
        /// What does not go, with the keys' names.
        what: String,
        /// What to change.
        way_out: String,
    },
}

/// Where a value is from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody said otherwise.
    Default,
    /// The named preset.
    Preset(String),
    /// A measured result of hawser-loadgen.
    Result(String),
    /// The TOML file.
    File(String),
    /// The command line.
    Flag,
}

impl Origin {
    /// For people.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Default => "default".to_owned(),
            Self::Preset(name) => format!("preset {name}"),
            Self::Result(name) => format!("measured: {name}"),
            Self::File(name) => format!("file {name}"),
            Self::Flag => "flag".to_owned(),
        }
    }
}

/// All values.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    values: BTreeMap<&'static str, (f64, Origin)>,
    mix: (Vec<Class>, Origin),
}

impl Default for Input {
    fn default() -> Self {
        let class = |share, members| Class { share, members };
        Self {
            values: keys::all()
                .map(|key| (key.name, (key.default, Origin::Default)))
                .collect(),
            mix: (
                vec![class(0.9, 2.0), class(0.09, 20.0), class(0.01, 150.0)],
                Origin::Default,
            ),
        }
    }
}

impl Input {
    /// Sets one value.
    ///
    /// # Errors
    /// No such key, or a value that it cannot have.
    pub fn set(&mut self, name: &str, value: f64, origin: Origin) -> Result<(), InputError> {
        let key = keys::named(name).ok_or_else(|| unknown(name, name))?;
        check(key, value)?;
        self.values.insert(key.name, (value, origin));
        Ok(())
    }

    /// Sets one value as the command line has it.
    ///
    /// # Errors
    /// As [`set`](Self::set); the text is no number.
    pub fn set_text(&mut self, name: &str, text: &str, origin: Origin) -> Result<(), InputError> {
        let plain = text.replace('_', "");
        let value = plain.parse().map_err(|_| InputError::Value {
            key: name.to_owned(),
            value: text.to_owned(),
            wanted: "give a number, such as 20000000 or 2e7".to_owned(),
        })?;
        self.set(name, value, origin)
    }

    /// Sets the group mix.
    ///
    /// # Errors
    /// Shares do not add up to 1, or a class cannot be.
    pub fn set_mix(&mut self, classes: Vec<Class>, origin: Origin) -> Result<(), InputError> {
        let fault = |value: String, wanted: &str| InputError::Value {
            key: MIX.to_owned(),
            value,
            wanted: wanted.to_owned(),
        };
        if classes.is_empty() || classes.len() > CLASSES_MAX {
            let wanted = format!("give 1 to {CLASSES_MAX} classes of chats");
            return Err(fault(format!("{} classes", classes.len()), &wanted));
        }
        for class in &classes {
            if !(class.share > 0.0 && class.share <= 1.0) {
                let wanted = "a share is above 0 and at most 1; leave out what does not happen";
                return Err(fault(format!("share {}", class.share), wanted));
            }
            let members = class.members;
            if !(2.0..=MEMBERS_MAX).contains(&members) || members.fract() != 0.0 {
                let wanted =
                    "members are whole numbers from 2 (a 1:1 chat, its sender included) to 200,000";
                return Err(fault(format!("members {members}"), wanted));
            }
        }
        let sum: f64 = classes.iter().map(|class| class.share).sum();
        if (sum - 1.0).abs() > 1e-6 {
            let wanted = "the shares of all classes must add up to 1";
            return Err(fault(format!("shares of {} in all", plain(sum)), wanted));
        }
        self.mix = (classes, origin);
        Ok(())
    }

    /// Sets the group mix as the command line has it, `SHARE:MEMBERS,..`.
    ///
    /// # Errors
    /// As [`set_mix`](Self::set_mix); the text is no list of pairs.
    pub fn set_mix_text(&mut self, text: &str, origin: Origin) -> Result<(), InputError> {
        let pair = |pair: &str| {
            let (share, members) = pair.split_once(':')?;
            Some(Class {
                share: share.trim().parse().ok()?,
                members: members.trim().parse().ok()?,
            })
        };
        let classes: Option<Vec<Class>> = text.split(',').map(pair).collect();
        let classes = classes.ok_or_else(|| InputError::Value {
            key: MIX.to_owned(),
            value: text.to_owned(),
            wanted: "give SHARE:MEMBERS pairs, such as 0.9:2,0.1:20".to_owned(),
        })?;
        self.set_mix(classes, origin)
    }

    /// A value.
    ///
    /// # Panics
    /// No such key: ours to mend.
    #[must_use]
    pub fn value(&self, name: &str) -> f64 {
        let Some((value, _)) = self.values.get(name) else {
            panic!("no key {name}");
        };
        *value
    }

    /// Where a key's value is from.
    #[must_use]
    pub fn origin(&self, key: &Key) -> &Origin {
        self.values
            .get(key.name)
            .map_or(&Origin::Default, |(_, origin)| origin)
    }

    /// The group mix, and where it is from.
    #[must_use]
    pub fn mix(&self) -> (&[Class], &Origin) {
        (&self.mix.0, &self.mix.1)
    }

    /// As `0.9:2,0.1:20`, which the flag takes.
    #[must_use]
    pub fn mix_text(&self) -> String {
        let pairs = self.mix.0.iter();
        let pairs: Vec<String> = pairs
            .map(|c| format!("{}:{}", c.share, c.members))
            .collect();
        pairs.join(",")
    }

    /// Symbols for formulas.
    #[must_use]
    pub fn symbols(&self) -> Symbols {
        Symbols {
            values: self
                .values
                .iter()
                .map(|(name, (value, _))| (*name, *value))
                .collect(),
            classes: self.mix.0.clone(),
        }
    }

    /// What no single key can know to be wrong.
    ///
    /// # Errors
    /// Names the keys and what to change.
    pub fn check_together(&self) -> Result<(), InputError> {
        for name in ["partitions", "partitions_min"] {
            let value = self.value(name);
            if value > 0.0 && value.log2().fract() != 0.0 {
                return Err(InputError::Value {
                    key: name.to_owned(),
                    value: plain(value),
                    wanted: "partitions of delivery are a power of two".to_owned(),
                });
            }
        }
        if self.value("cpu_us_delivery_5k") < self.value("cpu_us_delivery_200") {
            return Err(InputError::Impossible {
                what: "cpu_us_delivery_5k is below cpu_us_delivery_200".to_owned(),
                way_out: "a longer message does not cost less: measure both in one run".to_owned(),
            });
        }
        let largest = self.mix.0.iter().map(|class| class.members);
        let largest = largest.fold(0.0, f64::max);
        if largest > self.value("users") {
            return Err(InputError::Impossible {
                what: format!(
                    "mix has chats of {} members, more than users",
                    plain(largest)
                ),
                way_out: "give users more, or smaller chats".to_owned(),
            });
        }
        let room = self.value("edge_ram_gb") * self.value("memory_target");
        if room <= self.value("edge_fixed_gb") {
            return Err(InputError::Impossible {
                what: "edge_ram_gb × memory_target leaves nothing beyond edge_fixed_gb".to_owned(),
                way_out: "give edge_ram_gb more, or edge_fixed_gb less".to_owned(),
            });
        }
        Ok(())
    }
}

fn check(key: &Key, value: f64) -> Result<(), InputError> {
    let fault = |wanted: String| InputError::Value {
        key: key.name.to_owned(),
        value: format!("{value}"),
        wanted,
    };
    if !(key.min..=key.max).contains(&value) {
        return Err(fault(format!(
            "give {} to {} ({})",
            plain(key.min),
            plain(key.max),
            key.unit
        )));
    }
    if key.whole && value.fract() != 0.0 {
        return Err(fault(format!("give a whole number ({})", key.unit)));
    }
    Ok(())
}

pub(super) fn hint(name: Option<&str>, before: &str, behind: &str) -> String {
    name.map_or_else(String::new, |name| {
        format!(": did you mean {before}{name}{behind}")
    })
}

pub(super) fn unknown(name: &str, shown: &str) -> InputError {
    InputError::Unknown {
        key: shown.to_owned(),
        hint: hint(keys::nearest(name, keys::all().map(|key| key.name)), "", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_flags_say_is_read() {
        let mut input = Input::default();
        input
            .set_text("users", "200_000_000", Origin::Flag)
            .expect("a number");
        input
            .set_mix_text("0.7:2, 0.3:100", Origin::Flag)
            .expect("a mix");
        assert_eq!((input.value("users"), input.mix().0.len()), (200e6, 2));
        assert_eq!(input.mix_text(), "0.7:2,0.3:100");
        for wrong in ["", "0.7", "0.7:two,0.3:3", "0.7:2"] {
            let fault = input.set_mix_text(wrong, Origin::Flag);
            assert!(fault.is_err(), "{wrong}");
        }
        let fault = input
            .set_text("users", "many", Origin::Flag)
            .expect_err("no number");
        assert!(fault.to_string().contains("such as 20000000"), "{fault}");
    }
}
