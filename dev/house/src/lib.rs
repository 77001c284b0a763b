//! Tests about the tree itself: dependency arrows, documents that match the code.
//!
//! The tests are in `tests/`; here is how they find their way in the tree.

use std::path::{Path, PathBuf};

/// Folders that are not ours to judge: build output, fetched packages, version control.
const FOREIGN: [&str; 6] = [
    "target",
    "node_modules",
    ".git",
    "dist",
    ".venv",
    "__pycache__",
];

/// The root of the tree that is tested: two clones may share a folder of built tests.
///
/// # Panics
/// Not started by cargo.
#[must_use]
pub fn root() -> PathBuf {
    let house = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo test says where it is");
    Path::new(&house).join("../..")
}

/// A file's text, by its path from the root.
///
/// # Panics
/// It is not there: a test's expectation.
#[must_use]
pub fn text(path: &str) -> String {
    let full = root().join(path);
    std::fs::read_to_string(&full).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file of ours with one of these extensions (all, if none is given), by path from the root,
/// sorted.
#[must_use]
pub fn files(extensions: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    walk(&root(), "", extensions, &mut found);
    found.sort();
    found
}

fn walk(root: &Path, folder: &str, extensions: &[&str], found: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(root.join(folder)) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = match folder {
            "" => name.clone(),
            folder => format!("{folder}/{name}"),
        };
        // A link leads elsewhere: into a cache, or round in a circle.
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            if !FOREIGN.contains(&name.as_str()) && !name.starts_with("target-") {
                walk(root, &path, extensions, found);
            }
            continue;
        }
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        if kind.is_file() && (extensions.is_empty() || extensions.contains(&extension)) {
            found.push(path);
        }
    }
}
