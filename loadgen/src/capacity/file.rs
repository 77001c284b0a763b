//! The input as TOML: read strictly, written with what each key is.

use std::fmt::Write as _;

use super::formula::Class;
use super::input::{Input, InputError, MIX, Origin, hint, unknown};
use super::keys::{self, SECTIONS};
use super::number::plain;

impl Input {
    /// Takes everything that a TOML text says.
    ///
    /// # Errors
    /// The text is no TOML, names a key that does not exist, or gives one an impossible value.
    pub fn read_toml(&mut self, text: &str, origin: &Origin) -> Result<(), InputError> {
        let table: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| InputError::Syntax(error.to_string()))?;
        for (section, value) in &table {
            if section == MIX {
                self.set_mix(mix_of(value)?, origin.clone())?;
                continue;
            }
            if !SECTIONS.iter().any(|(known, _)| known == section) {
                let known = SECTIONS.iter().map(|(known, _)| *known).chain([MIX]);
                return Err(InputError::Unknown {
                    key: format!("[{section}]"),
                    hint: hint(keys::nearest(section, known), "[", "]"),
                });
            }
            let Some(keys_of) = value.as_table() else {
                return Err(InputError::Value {
                    key: section.clone(),
                    value: value.to_string(),
                    wanted: format!("write a table, [{section}]"),
                });
            };
            for (name, value) in keys_of {
                let path = format!("{section}.{name}");
                let key = keys::named(name).ok_or_else(|| unknown(name, &path))?;
                if key.section != section {
                    return Err(InputError::Unknown {
                        key: path,
                        hint: format!(" here: {name} belongs to [{}]", key.section),
                    });
                }
                self.set(name, toml_number(&path, value)?, origin.clone())?;
            }
        }
        Ok(())
    }

    /// The commented TOML of all values.
    #[must_use]
    pub fn toml(&self) -> String {
        let mut out = String::from(
            "# What hawser-loadgen plan calculates with. Every key is optional; a key that is not here is refused.\n",
        );
        for (section, about) in SECTIONS {
            let _ = write!(out, "\n# {about}.\n[{section}]\n");
            for key in keys::all().filter(|key| key.section == section) {
                let _ = writeln!(
                    out,
                    "# {}, {}; {} to {}. From: {}.\n{} = {}",
                    key.meaning,
                    key.unit,
                    plain(key.min),
                    plain(key.max),
                    key.source,
                    key.name,
                    self.value(key.name)
                );
            }
        }
        out.push_str(
            "\n# Chats by their share of all messages; members count the sender, so a 1:1 chat has 2. Shares add up to 1.\n",
        );
        for class in self.mix().0 {
            let _ = write!(
                out,
                "[[{MIX}]]\nshare = {}\nmembers = {}\n",
                class.share, class.members
            );
        }
        out
    }
}

fn toml_number(path: &str, value: &toml::Value) -> Result<f64, InputError> {
    match value {
        toml::Value::Integer(whole) => Ok(*whole as f64),
        toml::Value::Float(float) => Ok(*float),
        other => Err(InputError::Value {
            key: path.to_owned(),
            value: other.to_string(),
            wanted: "give a number".to_owned(),
        }),
    }
}

fn mix_of(value: &toml::Value) -> Result<Vec<Class>, InputError> {
    let fault = |value: &toml::Value| InputError::Value {
        key: MIX.to_owned(),
        value: value.to_string(),
        wanted: "write a [[mix]] with share and members for each kind of chat".to_owned(),
    };
    let list = value.as_array().ok_or_else(|| fault(value))?;
    let class = |entry: &toml::Value| {
        let table = entry.as_table().ok_or_else(|| fault(entry))?;
        let known = ["share", "members"];
        if let Some(name) = table.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(InputError::Unknown {
                key: format!("{MIX}.{name}"),
                hint: ": a class has share and members".to_owned(),
            });
        }
        let of = |name: &str| {
            let value = table.get(name).ok_or_else(|| fault(entry))?;
            toml_number(&format!("{MIX}.{name}"), value)
        };
        Ok(Class {
            share: of("share")?,
            members: of("members")?,
        })
    };
    list.iter().map(class).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        let mut input = Input::default();
        input
            .read_toml(text, &Origin::File("f".to_owned()))
            .and_then(|()| input.check_together())
            .expect_err(text)
            .to_string()
    }

    #[test]
    fn faults_name_the_key_and_the_way_out() {
        for (text, wanted) in [
            (
                "[load]\nuser = 1",
                "load.user: there is no such key: did you mean users",
            ),
            (
                "[lod]\nusers = 1",
                "[lod]: there is no such key: did you mean [load]",
            ),
            ("[edge]\nusers = 1", "users belongs to [load]"),
            (
                "[load]\nusers = 0",
                "users = 0: give 1 to 10,000,000,000 (users)",
            ),
            ("[load]\nusers = nan", "users = NaN: give 1"),
            ("[load]\nusers = inf", "users = inf: give 1"),
            ("[load]\nusers = 1.5", "give a whole number"),
            (
                "[load]\nusers = \"many\"",
                "load.users = \"many\": give a number",
            ),
            ("users = 1", "[users]: there is no such key"),
            ("load = 1", "write a table, [load]"),
            ("[load\n", "this is no TOML"),
            (
                "[log]\npartitions = 1000",
                "partitions = 1,000: partitions of delivery are a power of two",
            ),
            (
                "[[mix]]\nshare = 0.5\nmembers = 2",
                "the shares of all classes must add up to 1",
            ),
            ("[[mix]]\nshare = 1\nmembers = 1", "whole numbers from 2"),
            (
                "[[mix]]\nshare = 1\nmembres = 2",
                "mix.membres: there is no such key",
            ),
            ("[[mix]]\nshare = 1", "share and members"),
            ("mix = 3", "write a [[mix]]"),
            ("mix = []", "give 1 to 12 classes"),
            (
                "[load]\nusers = 100",
                "chats of 150 members, more than users",
            ),
            (
                "[edge]\nedge_ram_gb = 8",
                "edge_ram_gb × memory_target leaves nothing",
            ),
            ("[edge]\ncpu_us_delivery_5k = 1", "measure both"),
        ] {
            let told = fault(text);
            assert!(told.contains(wanted), "{text}: {told}");
        }
    }

    #[test]
    fn the_printed_defaults_are_read_back_as_they_are() {
        let mut input = Input::default();
        input
            .read_toml(&Input::default().toml(), &Origin::Default)
            .expect("our own TOML");
        assert_eq!(input, Input::default());
    }
}
