//! Dependencies only point up the table of ARCHITECTURE.md.

use hawser_house::{files, text};
use std::collections::{BTreeMap, BTreeSet};

/// Folder, and the crates of ours that it may depend on.
const ALLOWED: [(&str, &[&str]); 12] = [
    ("protocol", &[]),
    ("engines", &["protocol"]),
    ("fanout", &["engines", "protocol"]),
    ("gateway/ring", &[]),
    ("gateway/wire", &[]),
    (
        "gateway",
        &["ring", "wire", "fanout", "engines", "protocol"],
    ),
    ("client", &["protocol"]),
    ("loadgen", &["ring", "wire", "client", "protocol"]),
    ("sim", &["protocol", "engines", "fanout", "client"]),
    (
        "benches",
        &[
            "protocol", "engines", "fanout", "ring", "wire", "gateway", "client", "loadgen",
        ],
    ),
    (
        "fuzz",
        &[
            "protocol", "engines", "fanout", "ring", "wire", "gateway", "client",
        ],
    ),
    ("dev/house", &[]),
];

/// Crates that a room must not know, whoever brings them.
const FOREIGN: [(&str, &[&str]); 5] = [
    (
        "protocol",
        &[
            "tokio", "monoio", "io-uring", "rustls", "fjall", "rdkafka", "hyper", "rand",
        ],
    ),
    (
        "engines",
        &["monoio", "io-uring", "rustls", "hyper", "axum"],
    ),
    ("fanout", &["monoio", "io-uring", "fjall", "rdkafka"]),
    (
        "gateway/ring",
        &["rustls", "tungstenite", "bytes", "prost", "tokio"],
    ),
    (
        "gateway/wire",
        &["tokio", "monoio", "io-uring", "prost", "socket2"],
    ),
];

fn manifest(folder: &str) -> toml::Table {
    let path = format!("{folder}/Cargo.toml");
    text(&path)
        .parse()
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn names(manifest: &toml::Table, section: &str) -> BTreeSet<String> {
    let table = manifest.get(section).and_then(toml::Value::as_table);
    table
        .into_iter()
        .flat_map(|table| table.keys().cloned())
        .collect()
}

#[test]
fn dependencies_only_point_up_the_table() {
    for (folder, allowed) in ALLOWED {
        let own = names(&manifest(folder), "dependencies");
        for name in own.iter().filter_map(|name| name.strip_prefix("hawser-")) {
            assert!(
                allowed.contains(&name),
                "{folder} must not depend on hawser-{name}"
            );
        }
    }
}

#[test]
fn no_room_knows_what_it_must_not() {
    for (folder, foreign) in FOREIGN {
        let manifest = manifest(folder);
        let optional = |name: &str| {
            let entry = manifest.get("dependencies").and_then(|all| all.get(name));
            entry
                .and_then(|entry| entry.get("optional"))
                .and_then(toml::Value::as_bool)
                == Some(true)
        };
        let own = names(&manifest, "dependencies");
        for name in foreign {
            assert!(
                !own.contains(*name) || optional(name),
                "{folder} must not depend on {name}"
            );
        }
    }
}

#[test]
fn every_member_of_the_workspace_has_its_arrows_here() {
    let workspace = manifest(".");
    let members = workspace["workspace"]["members"]
        .as_array()
        .expect("members");
    let members: BTreeSet<&str> = members.iter().filter_map(toml::Value::as_str).collect();
    let known: BTreeSet<&str> = ALLOWED.iter().map(|(folder, _)| *folder).collect();
    assert_eq!(members, known);
}

#[test]
fn every_member_obeys_the_workspace_lints_and_licence() {
    for (folder, _) in ALLOWED {
        let manifest = manifest(folder);
        let inherits = |section: &str, key: &str| {
            let entry = manifest.get(section).and_then(|section| section.get(key));
            match entry {
                Some(toml::Value::Boolean(yes)) => *yes,
                Some(toml::Value::Table(table)) => {
                    table.get("workspace").and_then(toml::Value::as_bool) == Some(true)
                }
                _ => false,
            }
        };
        // The one room with unsafe code lists the same lints with that one lifted.
        let lints = folder == "gateway/ring" || inherits("lints", "workspace");
        assert!(lints, "{folder}: [lints] workspace = true");
        assert!(
            inherits("package", "license"),
            "{folder}: license.workspace = true"
        );
    }
}

/// Nothing in the gateway names an engine's adapter outside of where engines are opened.
#[test]
fn adapters_are_named_only_where_engines_are_opened() {
    // Where they are opened, and the command that grows a topic of Kafka.
    let opens = ["fanout/src/engines/real/", "fanout/src/program/grow.rs"];
    let mut found = BTreeMap::new();
    for path in files(&["rs"]) {
        let judged = (path.starts_with("gateway/src/") || path.starts_with("fanout/src/"))
            && !path.contains("test")
            && !path.contains("config")
            && !opens.iter().any(|place| path.starts_with(place));
        if !judged {
            continue;
        }
        let source = text(&path);
        let code = source.split("#[cfg(test)]").next().unwrap_or("");
        for adapter in [
            "rdkafka::",
            "fjall::",
            "scylla::",
            "tokio_postgres::",
            "engines::kafka::",
            "engines::cassandra::",
            "engines::redis::",
            "engines::postgres::",
        ] {
            if code.contains(adapter) {
                found.insert(path.clone(), adapter);
            }
        }
    }
    assert!(found.is_empty(), "{found:?}");
}
