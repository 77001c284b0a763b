//! Habits of the code that no compiler checks.

use hawser_house::{files, text};

/// Guidance is 500; beyond this a file is more than one idea.
const LINES_MAX: usize = 650;

fn code_without_comments(path: &str) -> String {
    let lines = text(path);
    let lines = lines
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn unsafe_code_is_in_the_ring_alone() {
    // Put together here, so that this file does not hold it.
    let blocks = [
        ["unsafe", "{"].join(" "),
        ["unsafe", "fn"].join(" "),
        ["unsafe", "impl"].join(" "),
    ];
    for path in files(&["rs"]) {
        let allowed = path.starts_with("gateway/ring/");
        let code = code_without_comments(&path);
        for block in &blocks {
            let word = |at: usize| {
                let before = code[..at].chars().next_back();
                before.is_none_or(|c| !c.is_alphanumeric() && c != '_')
            };
            let found = code.match_indices(block.as_str()).any(|(at, _)| word(at));
            assert!(allowed || !found, "{path}: {block}");
        }
        let lifts = code.contains(&["allow(un", "safe_code)"].concat());
        assert!(allowed || !lifts, "{path} lifts the lint");
    }
}

#[test]
fn files_are_one_idea_long() {
    let mut long = Vec::new();
    for path in files(&["rs", "ts", "tsx", "py", "mjs"]) {
        let lines = text(&path).lines().count();
        if lines > LINES_MAX {
            long.push(format!("{path}: {lines}"));
        }
    }
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn every_program_uses_mimalloc() {
    let mains = files(&["rs"]).into_iter().filter(|path| {
        (path.ends_with("/src/main.rs") || path.contains("/src/bin/")) && !path.starts_with("dev/")
    });
    let mut count = 0;
    for path in mains {
        count += 1;
        let code = code_without_comments(&path);
        assert!(
            code.contains("#[global_allocator]") && code.contains("mimalloc::MiMalloc"),
            "{path} has another allocator"
        );
    }
    assert!(count >= 5, "the programs were not found");
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["unimpl", "emented!("].concat(),
    ];
    for path in files(&["rs", "ts", "tsx", "py", "mjs"]) {
        let source = text(&path);
        for mark in &marks {
            assert!(!source.contains(mark.as_str()), "{path}: {mark}");
        }
    }
}

#[test]
fn no_path_of_one_machine_is_written_down() {
    let paths = [
        ["/ro", "ot/"].concat(),
        ["/home", "/"].concat(),
        ["/wo", "rk/"].concat(),
    ];
    let judged = [
        "rs", "ts", "tsx", "py", "mjs", "md", "toml", "json", "proto", "html", "css",
    ];
    for path in files(&judged) {
        let source = text(&path);
        for machine in &paths {
            let told = source.lines().find(|line| {
                // A path of this machine begins a word: `--dir /x`, "/x", not `a/x` or `https://a/x`.
                line.match_indices(machine.as_str()).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    before.is_none_or(|c| matches!(c, ' ' | '"' | '\'' | '=' | '`' | '('))
                })
            });
            assert!(told.is_none(), "{path}: {told:?}");
        }
    }
}

#[test]
fn packages_come_from_the_ordinary_registries() {
    let lock = text("Cargo.lock");
    for line in lock.lines().filter(|line| line.starts_with("source = ")) {
        let ordinary = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
        assert_eq!(line, ordinary);
    }
    let lock = text("client/web/package-lock.json");
    for line in lock.lines().filter(|line| line.contains("\"resolved\":")) {
        assert!(line.contains("https://registry.npmjs.org/"), "{line}");
    }
}
