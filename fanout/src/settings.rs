//! Strict settings: structs that know their own documentation, defaults and bounds, so that the
//! reference page, `--print-config` and every error message come from one place.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::path::Path;

/// One documented key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Section, e.g. `session`.
    pub section: &'static str,
    /// Key within the section.
    pub name: &'static str,
    /// Rust type, for people.
    pub kind: &'static str,
    /// Documentation: meaning, unit, bound, cost.
    pub doc: String,
    /// Allowed range, if numeric and bounded.
    pub range: Option<(i128, i128)>,
}

/// Why settings are refused: the operator's fault, with the key and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingsError {
    /// The file cannot be read.
    Unreadable {
        /// Which.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// Not TOML, or a value of the wrong type.
    Malformed {
        /// The parser's words: line, column, key.
        reason: String,
    },
    /// A key that does not exist.
    UnknownKey {
        /// As written, with its section.
        key: String,
        /// The nearest key that exists.
        nearest: Option<String>,
    },
    /// A value outside its range.
    OutOfRange {
        /// Section and key.
        key: String,
        /// As written.
        value: i128,
        /// Smallest allowed.
        min: i128,
        /// Largest allowed.
        max: i128,
    },
    /// A combination that cannot work.
    Contradiction {
        /// Section and key.
        key: String,
        /// What is wrong and what to set.
        reason: String,
    },
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, reason } => {
                write!(f, "cannot read the configuration {path}: {reason}")
            }
            Self::Malformed { reason } => write!(f, "the configuration is malformed: {reason}"),
            Self::UnknownKey {
                key,
                nearest: Some(nearest),
            } => {
                write!(f, "unknown key `{key}`: did you mean `{nearest}`?")
            }
            Self::UnknownKey { key, nearest: None } => {
                write!(
                    f,
                    "unknown key `{key}`: see --print-config for those that exist"
                )
            }
            Self::OutOfRange {
                key,
                value,
                min,
                max,
            } => {
                write!(f, "`{key}` = {value} is outside {min} to {max}")
            }
            Self::Contradiction { key, reason } => write!(f, "`{key}`: {reason}"),
        }
    }
}

impl std::error::Error for SettingsError {}

/// One `[section]` of a settings file.
pub trait Section: Serialize + DeserializeOwned + Default {
    /// Appends its keys in order of declaration.
    fn describe(section: &'static str, out: &mut Vec<Key>);
    /// Appends every value outside its range.
    fn check(&self, section: &'static str, out: &mut Vec<SettingsError>);
}

/// A whole settings file.
pub trait Settings: Serialize + DeserializeOwned + Default {
    /// Documentation of the sections, in order: name and first line.
    fn sections() -> Vec<(&'static str, String)>;
    /// Every key, in order.
    fn keys() -> Vec<Key>;
    /// Values outside their ranges, and combinations that cannot work.
    fn problems(&self) -> Vec<SettingsError>;
}

/// Parses TOML text strictly.
///
/// # Errors
/// The first problem found, naming the key and the way out.
pub fn parse<S: Settings>(text: &str) -> Result<S, SettingsError> {
    let malformed = |e: toml::de::Error| SettingsError::Malformed {
        reason: e.to_string().trim().replace('\n', " / "),
    };
    let table: toml::Table = text.parse().map_err(malformed)?;
    let keys = S::keys();
    for (section, value) in &table {
        if !keys.iter().any(|k| k.section == section) {
            let nearest = nearest(section, keys.iter().map(|k| k.section));
            return Err(SettingsError::UnknownKey {
                key: format!("[{section}]"),
                nearest: nearest.map(|n| format!("[{n}]")),
            });
        }
        for name in value.as_table().into_iter().flat_map(toml::Table::keys) {
            if !keys.iter().any(|k| k.section == section && k.name == name) {
                return Err(unknown(section, name, &keys));
            }
        }
    }
    let settings: S = toml::from_str(text).map_err(malformed)?;
    match settings.problems().into_iter().next() {
        Some(problem) => Err(problem),
        None => Ok(settings),
    }
}

/// Reads and parses a file.
///
/// # Errors
/// See [`parse`]; also an unreadable file.
pub fn load<S: Settings>(path: &Path) -> Result<S, SettingsError> {
    let text = std::fs::read_to_string(path).map_err(|e| SettingsError::Unreadable {
        path: path.display().to_string(),
        reason: e.to_string(),
    })?;
    parse(&text)
}

/// Settings from a file, if one is given, with `section.key=value` pairs over it.
///
/// # Errors
/// See [`parse`]; also an unreadable file, and a pair of no such form.
pub fn load_with<S: Settings>(file: Option<&Path>, pairs: &[String]) -> Result<S, SettingsError> {
    let mut table = match file {
        // Parsed once as it stands, so that an error speaks of the file's own line.
        Some(path) => toml::Table::try_from(load::<S>(path)?).unwrap_or_default(),
        None => toml::Table::new(),
    };
    for pair in pairs {
        let split = pair.split_once('=').map(|(k, v)| (k.trim(), v.trim()));
        let (key, value) = split.ok_or_else(|| SettingsError::Contradiction {
            key: pair.clone(),
            reason: "write it as section.key=value".to_owned(),
        })?;
        set::<S>(&mut table, key, value)?;
    }
    let text = toml::to_string(&table).map_err(|e| SettingsError::Malformed {
        reason: e.to_string(),
    })?;
    parse(&text)
}

/// Puts a value given as text under a dotted key, with the type that the key's default has; lists
/// have commas between.
///
/// # Errors
/// The key has no section, or the text is no such value: the operator's fault.
pub fn set<S: Settings>(
    table: &mut toml::Table,
    dotted: &str,
    text: &str,
) -> Result<(), SettingsError> {
    let wrong = |reason: String| SettingsError::Contradiction {
        key: dotted.to_owned(),
        reason,
    };
    let split = dotted.split_once('.');
    let (section, key) = split.ok_or_else(|| wrong("write it as section.key".to_owned()))?;
    let defaults = toml::Table::try_from(S::default()).unwrap_or_default();
    let value = match defaults.get(section).and_then(|s| s.get(key)) {
        Some(toml::Value::Integer(_)) => {
            let number = text
                .parse()
                .map_err(|_| wrong(format!("`{text}` is no number")));
            toml::Value::Integer(number?)
        }
        Some(toml::Value::Boolean(_)) => {
            let words = || wrong(format!("`{text}` is neither true nor false"));
            toml::Value::Boolean(text.parse().map_err(|_| words())?)
        }
        Some(toml::Value::Array(_)) => {
            let parts = text.split(',').map(str::trim).filter(|p| !p.is_empty());
            toml::Value::Array(parts.map(|p| p.into()).collect())
        }
        // An unknown key is put as text, so that the strict parser names the nearest.
        _ => toml::Value::String(text.to_owned()),
    };
    let section = table
        .entry(section)
        .or_insert_with(|| toml::Value::Table(toml::Table::new()));
    if let Some(section) = section.as_table_mut() {
        section.insert(key.to_owned(), value);
    }
    Ok(())
}

/// The settings as a commented TOML file, values as they stand.
#[must_use]
pub fn print<S: Settings>(settings: &S) -> String {
    let values = toml::Table::try_from(settings).unwrap_or_default();
    let keys = S::keys();
    let mut out = String::new();
    for (section, doc) in S::sections() {
        out.push_str(&format!("# {doc}\n[{section}]\n"));
        for key in keys.iter().filter(|k| k.section == section) {
            for line in key.doc.lines() {
                out.push_str(&format!("# {line}\n"));
            }
            let value = values.get(section).and_then(|t| t.get(key.name));
            match value {
                Some(value) => out.push_str(&format!("{} = {value}\n", key.name)),
                None => out.push_str(&format!("# {} is not set\n", key.name)),
            }
        }
        out.push('\n');
    }
    out
}

/// The reference page in Markdown, with every key's type, default, range and meaning.
#[must_use]
pub fn reference<S: Settings>(title: &str, intro: &str) -> String {
    let defaults = toml::Table::try_from(S::default()).unwrap_or_default();
    let keys = S::keys();
    let mut out = format!("# {title}\n\n{intro}\n");
    for (section, doc) in S::sections() {
        out.push_str(&format!(
            "\n## [{section}]\n\n{doc}\n\n| key | default | meaning |\n| --- | --- | --- |\n"
        ));
        for key in keys.iter().filter(|k| k.section == section) {
            let default = defaults
                .get(section)
                .and_then(|t| t.get(key.name))
                .map_or_else(|| "not set".to_owned(), |v| format!("`{v}`"));
            let range = key
                .range
                .map_or_else(String::new, |(min, max)| format!(" Range {min} to {max}."));
            let doc = key.doc.replace('\n', " ").replace('|', "\\|");
            out.push_str(&format!("| `{}` | {default} | {doc}{range} |\n", key.name));
        }
    }
    out
}

fn unknown(section: &str, name: &str, keys: &[Key]) -> SettingsError {
    let same = keys.iter().filter(|k| k.section == section).map(|k| k.name);
    let found = nearest(name, same).map(|n| format!("{section}.{n}"));
    let elsewhere = || {
        keys.iter()
            .find(|k| k.name == name)
            .map(|k| format!("{}.{}", k.section, k.name))
    };
    SettingsError::UnknownKey {
        key: format!("{section}.{name}"),
        nearest: found.or_else(elsewhere),
    }
}

/// The candidate within a third of the word's length in edits, if any.
fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, best) = candidates.map(|c| (edits(word, c), c)).min()?;
    (distance <= word.len().div_ceil(3)).then_some(best)
}

/// Levenshtein distance in bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Declares one section: fields with documentation, default and, for integers, an inclusive range.
#[macro_export]
macro_rules! settings_section {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])+ $field:ident : $kind:ty = $default:expr $(, $min:literal ..= $max:literal)? ;)* }) => {
        $(#[$meta])*
        #[allow(unreachable_pub)]
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $($(#[doc = $doc])+ pub $field: $kind,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $crate::settings::Section for $name {
            fn describe(section: &'static str, out: &mut Vec<$crate::settings::Key>) {
                $(
                    #[allow(unused_mut, unused_assignments)]
                    let mut range: Option<(i128, i128)> = None;
                    $(range = Some(($min, $max));)?
                    out.push($crate::settings::Key {
                        section,
                        name: stringify!($field),
                        kind: stringify!($kind),
                        doc: [$($doc),+].map(str::trim).join("\n"),
                        range,
                    });
                )*
            }

            #[allow(unused_variables)]
            fn check(&self, section: &'static str, out: &mut Vec<$crate::settings::SettingsError>) {
                $($(
                    let value = i128::from(self.$field);
                    if !($min..=$max).contains(&value) {
                        out.push($crate::settings::SettingsError::OutOfRange {
                            key: format!("{section}.{}", stringify!($field)),
                            value,
                            min: $min,
                            max: $max,
                        });
                    }
                )?)*
            }
        }
    };
}

/// Declares a whole settings file out of sections; `contradictions` adds checks across keys.
#[macro_export]
macro_rules! settings_file {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])+ $field:ident : $kind:ty;)* } contradictions = $check:path) => {
        $(#[$meta])*
        #[allow(unreachable_pub)]
        #[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $($(#[doc = $doc])+ pub $field: $kind,)* }

        impl $crate::settings::Settings for $name {
            fn sections() -> Vec<(&'static str, String)> {
                vec![$((stringify!($field), [$($doc),+].map(str::trim).join(" ")),)*]
            }

            fn keys() -> Vec<$crate::settings::Key> {
                let mut out = Vec::new();
                $(<$kind as $crate::settings::Section>::describe(stringify!($field), &mut out);)*
                out
            }

            fn problems(&self) -> Vec<$crate::settings::SettingsError> {
                let mut out = Vec::new();
                $($crate::settings::Section::check(&self.$field, stringify!($field), &mut out);)*
                $check(self, &mut out);
                out
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    settings_section! {
        /// A section for the tests.
        Sample {
            /// How often, milliseconds.
            /// Costs one timer.
            every_ms: u64 = 30, 5 ..= 300;
            /// A name.
            name: String = "x".to_owned();
        }
    }

    fn no_more(_: &File, _: &mut Vec<SettingsError>) {}

    settings_file! {
        /// A file for the tests.
        File {
            /// The only section.
            sample: Sample;
        }
        contradictions = no_more
    }

    #[test]
    fn a_mistyped_key_names_the_nearest() {
        let err = parse::<File>("[sample]\nevery_s = 3").expect_err("unknown");
        assert_eq!(
            err.to_string(),
            "unknown key `sample.every_s`: did you mean `sample.every_ms`?"
        );
        let err = parse::<File>("[smaple]\nevery_ms = 6").expect_err("unknown");
        assert_eq!(
            err.to_string(),
            "unknown key `[smaple]`: did you mean `[sample]`?"
        );
    }

    #[test]
    fn a_value_out_of_range_names_key_and_range() {
        let err = parse::<File>("[sample]\nevery_ms = 3").expect_err("too small");
        assert_eq!(err.to_string(), "`sample.every_ms` = 3 is outside 5 to 300");
    }

    #[test]
    fn a_wrong_type_says_where() {
        let err = parse::<File>("[sample]\nevery_ms = \"x\"").expect_err("no number");
        assert!(err.to_string().contains("every_ms"), "{err}");
    }

    #[test]
    fn what_is_printed_parses_to_the_same() {
        let file = File {
            sample: Sample {
                every_ms: 77,
                name: "q\"uote".to_owned(),
            },
        };
        assert_eq!(parse::<File>(&print(&file)).expect("own output"), file);
    }

    #[test]
    fn the_reference_has_default_range_and_meaning() {
        let page = reference::<File>("T", "I");
        assert!(
            page.contains(
                "| `every_ms` | `30` | How often, milliseconds. Costs one timer. Range 5 to 300. |"
            ),
            "{page}"
        );
    }
}
