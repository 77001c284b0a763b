//! Documents say what the code does.

use bytes::Bytes;
use hawser_house::{files, text};
use hawser_protocol::codes::{CloseCode, ErrorCode, ReconnectPolicy};
use hawser_protocol::frame::{ClientFrame, FrameType, RawFrame, ServerFrame, split};
use hawser_protocol::json;
use std::collections::BTreeMap;

/// Rows of all tables under a heading, up to the next heading of the same rank.
fn rows(document: &str, heading: &str) -> Vec<Vec<String>> {
    let (_, rest) = document.split_once(heading).expect("the heading");
    let rank = heading.split(' ').next().expect("a rank");
    let end = rest.find(&format!("\n{rank} ")).unwrap_or(rest.len());
    let lines = rest[..end].lines().filter(|line| line.starts_with('|'));
    let cells = |line: &str| {
        let inner = line.trim_matches('|').replace("\\|", "¦");
        inner
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    lines.map(cells).collect()
}

/// Bodies of fenced blocks whose info string is this.
fn blocks<'a>(document: &'a str, info: &str) -> Vec<&'a str> {
    let fence = format!("\n```{info}\n");
    let after = document.split(fence.as_str()).skip(1);
    after
        .map(|rest| rest.split("\n```").next().expect("an end"))
        .collect()
}

fn unquoted(cell: &str) -> &str {
    cell.trim_matches('`')
}

#[test]
fn every_limit_stands_in_the_protocol_with_its_value() {
    let source = text("protocol/src/limits.rs");
    let mut wanted = BTreeMap::new();
    for line in source
        .lines()
        .filter_map(|line| line.strip_prefix("pub const "))
    {
        let (name, rest) = line.split_once(':').expect("a type");
        let (_, value) = rest.split_once('=').expect("a value");
        let factors = value.trim().trim_end_matches(';').replace('_', "");
        let value: u64 = factors
            .split('*')
            .map(|factor| factor.trim().parse::<u64>().expect("a number"))
            .product();
        wanted.insert(name.to_owned(), value);
    }
    assert!(wanted.len() > 25, "the constants were not found");
    let mut told = BTreeMap::new();
    for row in rows(&text("docs/protocol.md"), "## 12. Limits") {
        if let Ok(value) = row[1].replace(',', "").parse::<u64>() {
            told.insert(unquoted(&row[0]).to_owned(), value);
        }
    }
    assert_eq!(told, wanted);
}

#[test]
fn errors_and_code_agree_both_ways() {
    let document = text("docs/errors.md");
    let mut told = Vec::new();
    for row in rows(&document, "## Error codes").into_iter().skip(2) {
        let [number, name, cause, remedy, retry] = row.try_into().expect("five cells");
        assert!(!cause.is_empty() && !remedy.is_empty(), "{name}");
        told.push((number, unquoted(&name).to_owned(), retry));
    }
    let retry = |code: &ErrorCode| if code.may_retry() { "yes" } else { "no" };
    let known = ErrorCode::ALL.iter().map(|code| {
        (
            code.number().to_string(),
            code.name().to_owned(),
            retry(code).to_owned(),
        )
    });
    assert_eq!(told, known.collect::<Vec<_>>());
}

#[test]
fn close_codes_and_code_agree_both_ways() {
    let document = text("docs/errors.md");
    let mut told = Vec::new();
    for row in rows(&document, "## Close codes").into_iter().skip(2) {
        let [number, name, cause, remedy, retry] = row.try_into().expect("five cells");
        assert!(!cause.is_empty() && !remedy.is_empty(), "{name}");
        told.push((number, unquoted(&name).to_owned(), retry));
    }
    let policy = |code: &CloseCode| match ReconnectPolicy::of_close(code.number()) {
        ReconnectPolicy::Never => "never",
        ReconnectPolicy::AfterNewToken => "new token",
        ReconnectPolicy::BackOff => "back off",
        ReconnectPolicy::AtOnce => "at once",
    };
    let known = CloseCode::ALL.iter().map(|code| {
        (
            code.number().to_string(),
            code.name().to_owned(),
            policy(code).to_owned(),
        )
    });
    assert_eq!(told, known.collect::<Vec<_>>());
}

fn hex(block: &str) -> Bytes {
    let plain = block
        .lines()
        .map(|line| line.split('#').next().unwrap_or(""));
    let digits: String = plain
        .flat_map(str::chars)
        .filter(|c| !c.is_whitespace())
        .collect();
    assert!(digits.len().is_multiple_of(2), "half a byte in {block}");
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex digits");
    (0..digits.len())
        .step_by(2)
        .map(byte)
        .collect::<Vec<_>>()
        .into()
}

fn only_frame(block: &str) -> (RawFrame, Bytes) {
    let bytes = hex(block);
    let mut rest = bytes.clone();
    let raw = split(&mut rest).unwrap_or_else(|error| panic!("{error}: {block}"));
    assert!(rest.is_empty(), "more than one frame: {block}");
    (raw.expect("a frame"), bytes)
}

#[test]
fn the_worked_bytes_of_clients_are_frames() {
    let document = text("docs/protocol.md");
    let found = blocks(&document, "hex client");
    assert!(found.len() >= 8, "the blocks were not found");
    for block in found {
        let (raw, bytes) = only_frame(block);
        let frame = ClientFrame::decode(&raw).unwrap_or_else(|error| panic!("{error}: {block}"));
        assert!(!matches!(frame, ClientFrame::Unknown(_)), "{block}");
        let mut again = Vec::new();
        frame.encode(&mut again);
        assert_eq!(again, bytes, "{block}");
    }
}

#[test]
fn the_worked_bytes_of_servers_are_frames() {
    let document = text("docs/protocol.md");
    let found = blocks(&document, "hex server");
    assert!(found.len() >= 6, "the blocks were not found");
    for block in found {
        let (raw, bytes) = only_frame(block);
        let frame = ServerFrame::decode(&raw).unwrap_or_else(|error| panic!("{error}: {block}"));
        assert!(!matches!(frame, ServerFrame::Unknown(_)), "{block}");
        let mut again = Vec::new();
        frame.encode(&mut again);
        assert_eq!(again, bytes, "{block}");
    }
}

#[test]
fn the_json_of_the_document_is_frames() {
    let document = text("docs/protocol.md");
    let mut count = 0;
    for line in blocks(&document, "json client")
        .iter()
        .flat_map(|block| block.lines())
    {
        let frame = json::decode_client(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(!matches!(frame, ClientFrame::Unknown(_)), "{line}");
        assert_eq!(json::decode_client(&json::encode_client(&frame)), Ok(frame));
        count += 1;
    }
    for line in blocks(&document, "json server")
        .iter()
        .flat_map(|block| block.lines())
    {
        let frame = json::decode_server(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(json::encode_server(&frame), line);
        count += 1;
    }
    assert!(count > 20, "the blocks were not found");
}

#[test]
fn every_frame_type_is_in_the_table_of_frames() {
    let document = text("docs/protocol.md");
    let mut told = BTreeMap::new();
    for row in rows(&document, "## 3. Frames") {
        for pair in row.chunks(3).filter(|pair| pair[0].starts_with("0x")) {
            let number = u8::from_str_radix(&pair[0][2..], 16).expect("a type");
            told.insert(number, pair[1].clone());
        }
    }
    let source = text("protocol/src/frame/header.rs");
    let constants = source.lines().filter_map(|line| {
        let (name, rest) = line
            .trim()
            .strip_prefix("pub const ")?
            .split_once(": Self = Self(0x")?;
        let number = u8::from_str_radix(rest.trim_end_matches(");"), 16).ok()?;
        let camel = name.split('_').map(|word| {
            let (first, rest) = word.split_at(1);
            format!("{first}{}", rest.to_lowercase())
        });
        Some((number, camel.collect::<String>()))
    });
    let known: BTreeMap<u8, String> = constants.collect();
    assert_eq!(known[&FrameType::SYNC_PAGE.0], "SyncPage");
    assert_eq!(told, known);
}

#[test]
fn every_field_of_the_schema_is_in_the_table_of_fields() {
    let schema = text("protocol/proto/hawser.proto");
    let document = text("docs/protocol.md");
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    for row in rows(&document, "### Fields of the protobuf bodies")
        .into_iter()
        .skip(2)
    {
        told.insert(row[0].clone(), row[1].clone());
    }
    let mut known: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut message = String::new();
    for statement in schema
        .lines()
        .map(|line| line.split("//").next().unwrap_or(""))
    {
        let statement = statement.trim();
        if let Some(rest) = statement.strip_prefix("message ") {
            message = rest.split_whitespace().next().expect("a name").to_owned();
        } else if statement.starts_with("enum ") {
            message.clear();
        }
        let body = statement.rsplit('{').next().unwrap_or("");
        for field in body
            .split(';')
            .filter(|field| field.contains('=') && !message.is_empty())
        {
            let (left, number) = field.split_once('=').expect("a number");
            let words: Vec<&str> = left.split_whitespace().collect();
            let number = number.trim();
            let (name, kind) = (words[words.len() - 1], words[words.len() - 2]);
            let kind = if kind == "PresenceState" {
                "enum (0 unknown, 1 online, 2 offline)"
            } else {
                kind
            };
            let mark = match words[0] {
                "repeated" => "*",
                "optional" => "?",
                _ => "",
            };
            let fields = known.entry(message.clone()).or_default();
            fields.push(format!("{number} {name} {kind}{mark}"));
        }
    }
    let mut lists: BTreeMap<String, String> = BTreeMap::new();
    for (message, fields) in &known {
        // The state's names hold commas of their own.
        lists.insert(message.clone(), fields.join(", "));
    }
    assert_eq!(told, lists);
}

#[test]
fn links_between_documents_lead_somewhere() {
    for path in files(&["md"]) {
        // What stands between backquotes on a line is code, and no link.
        let text = text(&path);
        let prose = |line: &str| line.split('`').step_by(2).collect::<Vec<_>>().join(" ");
        let document: String = text.lines().map(|line| prose(line) + "\n").collect();
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for link in document
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = link.split('#').next().unwrap_or("");
            if target.is_empty() || target.contains("://") || target.contains(' ') {
                continue;
            }
            let full = hawser_house::root().join(folder).join(target);
            assert!(full.exists(), "{path}: {link}");
        }
    }
}

#[test]
fn every_test_that_the_guarantees_name_exists() {
    let document = text("docs/guarantees.md");
    let sources: String = files(&["rs"]).iter().map(|path| text(path)).collect();
    let mut count = 0;
    for name in document.split('`').skip(1).step_by(2) {
        let is_name = name.len() > 12
            && name.contains('_')
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if is_name {
            count += 1;
            assert!(
                sources.contains(&format!("fn {name}(")),
                "no test is called {name}"
            );
        }
    }
    assert!(count > 60, "the names were not found");
    for mark in ["G1", "G2", "G3", "G4", "G5", "G7", "G8", "G9", "G12"] {
        assert!(document.contains(&format!("| {mark} |")), "{mark}");
    }
    for mark in [
        "F2", "F3", "F4", "F7", "F8", "F9", "F12", "F16", "F17", "F19", "F20", "F21", "F22", "F25",
    ] {
        assert!(document.contains(&format!("| {mark} |")), "{mark}");
    }
}
