//! The layout keeps itself: what the architecture page promises is checked here.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A module may name those that stand before it, and itself.
const ORDER: [&str; 19] = [
    "names", "config", "refusal", "metrics", "wire", "ledger", "listener", "upstream", "routing",
    "access", "chat", "answers", "gateway", "reload", "admin", "sim", "server", "cli", "main",
];

/// What may be named only below these paths.
const ONLY_IN: [(&str, &[&str]); 7] = [
    ("pingora_proxy", &["src/gateway/", "src/server.rs", "src/server/", "src/cli/logging.rs"]),
    ("serde_yaml", &["src/config/"]),
    (
        "std::fs",
        &[
            "src/config/",
            "src/ledger/",
            "src/chat/folder.rs",
            "src/chat/tests.rs",
            "src/reload.rs",
            "src/cli/",
        ],
    ),
    ("std::env", &["src/config/", "src/reload.rs", "src/cli/"]),
    ("tokio::fs", &["src/config/", "src/reload.rs", "src/cli/"]),
    // A group would hide what is named.
    ("use std::{", &[]),
    // Shutdown must know every task: they are spawned on the server's set.
    ("tokio::spawn", &[]),
];

/// Longest file. Split by concept, never by size alone.
const FILE_LINES_MAX: usize = 400;

/// Longest function: what a screen shows.
const FUNCTION_LINES_MAX: usize = 70;

/// The services replaced, and how many promises each made.
const SERVICES: [(char, usize); 5] = [('A', 11), ('B', 7), ('C', 8), ('D', 9), ('E', 11)];

/// Requirements on reliability and security, each with a test of the gateway that is called after it: `r01_…` to `r50_…`.
const REQUIREMENTS: u8 = 50;

/// Those without one.
const UNTESTED: [u8; 0] = [];

/// A file of Rust, by its path from the root.
struct File {
    path: String,
    text: String,
}

impl File {
    /// The lines without those of its module of tests.
    fn code(&self) -> impl Iterator<Item = &str> {
        let mut in_tests = false;
        self.text.lines().filter(move |line| {
            in_tests |= *line == "#[cfg(test)]";
            let kept = !in_tests;
            in_tests &= *line != "}";
            kept
        })
    }

    /// Lines of [`File::code`] that are no comments.
    fn statements(&self) -> impl Iterator<Item = &str> {
        self.code().filter(|line| !line.trim_start().starts_with("//"))
    }

    /// `gateway` of `src/gateway/admit.rs`, `reload` of `src/reload.rs`.
    fn module(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap();
        below.split_once('/').map_or_else(|| below.trim_end_matches(".rs"), |(folder, _)| folder)
    }
}

/// Every file of Rust below `folder`, which may not be there.
fn files(folder: &str) -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut found, mut folders) = (Vec::new(), vec![root.join(folder)]);
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let from_root = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.push(File { path: from_root, text: fs::read_to_string(&path).unwrap() });
            }
        }
    }
    found
}

/// Everything that is wrong is told at once.
fn nothing_of(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn modules_name_only_what_stands_before_them() {
    let mut wrong = Vec::new();
    for file in files("src").iter().filter(|file| file.path != "src/lib.rs") {
        let rank = ORDER.iter().position(|known| *known == file.module());
        let Some(rank) = rank else {
            wrong.push(format!("{}: its module has no place in ORDER", file.path));
            continue;
        };
        for line in file.statements() {
            for named in line.split("crate::").skip(1) {
                let end = named.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                let named = &named[..end.unwrap_or(named.len())];
                if !ORDER[..=rank].contains(&named) {
                    wrong.push(format!("{} must not name `{named}`: {}", file.path, line.trim()));
                }
            }
        }
    }
    nothing_of(wrong);
}

#[test]
fn the_list_of_modules_is_the_order() {
    let lib = files("src").into_iter().find(|file| file.path == "src/lib.rs").unwrap();
    let declared = lib.text.lines().filter_map(|line| line.strip_prefix("pub mod "));
    let declared: Vec<&str> = declared.map(|name| name.trim_end_matches(';')).collect();
    assert_eq!(declared, ORDER[..ORDER.len() - 1]);
}

#[test]
fn some_things_have_one_place() {
    let mut wrong = Vec::new();
    for file in files("src") {
        for (word, places) in ONLY_IN {
            let allowed = places.iter().any(|place| file.path.starts_with(place));
            if !allowed && file.statements().any(|line| line.contains(word)) {
                wrong.push(format!("{} must not name {word}", file.path));
            }
        }
    }
    nothing_of(wrong);
}

#[test]
fn every_file_is_introduced_and_short() {
    let mut wrong = Vec::new();
    for file in ["src", "tests", "benches"].into_iter().flat_map(files) {
        if !file.text.starts_with("//! ") {
            wrong.push(format!("{} does not open with a sentence on itself", file.path));
        }
        let lines = file.code().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{} has {lines} lines", file.path));
        }
    }
    nothing_of(wrong);
}

#[test]
fn every_function_fits_a_screen() {
    let mut wrong = Vec::new();
    for file in ["src", "tests", "benches"].into_iter().flat_map(files) {
        let lines: Vec<&str> = file.text.lines().collect();
        for (number, line) in lines.iter().enumerate().filter(|(_, line)| begins_function(line)) {
            let length = function_lines(&lines[number..]);
            if length > FUNCTION_LINES_MAX {
                wrong.push(format!("{}:{} is {length} lines: {line}", file.path, number + 1));
            }
        }
    }
    nothing_of(wrong);
}

fn begins_function(line: &str) -> bool {
    let mut words = line.split_whitespace().skip_while(|word| {
        word.starts_with("pub") || ["const", "async", "unsafe", "default"].contains(word)
    });
    words.next() == Some("fn")
}

/// From the first line to the brace that closes in its column, or the end of a signature without a body.
fn function_lines(lines: &[&str]) -> usize {
    let indent = &lines[0][..lines[0].len() - lines[0].trim_start().len()];
    if lines[0].ends_with([';', '}']) {
        return 1;
    }
    let ends = |line: &&str| {
        line.strip_prefix(indent)
            .is_some_and(|rest| rest == "}" || (rest.starts_with(')') && rest.ends_with(';')))
    };
    lines.iter().position(ends).map_or(lines.len(), |last| last + 1)
}

#[test]
fn every_promise_of_the_services_replaced_is_played_or_says_what_comes_first() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("tests/replaced-services.yaml")).unwrap();
    let tests = tests_of_the_gateway();
    let (mut rows, mut wrong) = (BTreeSet::new(), Vec::new());
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let Some((row, kind, value)) = row_of(line) else {
            wrong.push(format!("not `ROW: {{test: NAME}}` or `ROW: {{later: REASON}}`: {line}"));
            continue;
        };
        if !rows.insert(row.to_owned()) {
            wrong.push(format!("{row} stands there twice"));
        }
        let prefix = format!("{}_", row.to_lowercase());
        match kind {
            "test" if !value.starts_with(&prefix) => {
                wrong.push(format!("{row}: the name of {value} does not begin with {prefix}"));
            }
            "test" if !tests.contains(value) => wrong.push(format!("{row}: no test {value}")),
            "later" if value.is_empty() => wrong.push(format!("{row}: no reason")),
            "test" | "later" => {}
            _ => wrong.push(format!("{row}: {kind} is neither `test` nor `later`")),
        }
    }
    let all = |(service, count)| (1..=count).map(move |number| format!("{service}{number}"));
    let promised: BTreeSet<String> = SERVICES.into_iter().flat_map(all).collect();
    wrong.extend(promised.difference(&rows).map(|row| format!("{row} is missing")));
    wrong.extend(rows.difference(&promised).map(|row| format!("{row} was never promised")));
    nothing_of(wrong);
}

#[test]
fn every_requirement_of_reliability_has_its_test() {
    let tests = tests_of_the_gateway();
    let has_test = |number: u8| {
        let prefix = format!("r{number:02}_");
        tests.iter().any(|name| name.starts_with(&prefix))
    };
    let all = 1..=REQUIREMENTS;
    let wrong = all.filter(|number| has_test(*number) == UNTESTED.contains(number));
    nothing_of(
        wrong.map(|number| format!("R{number}: no test, or one and a place in UNTESTED")).collect(),
    );
}

/// Row, kind and value of `A1: {test: a1_name}`.
fn row_of(line: &str) -> Option<(&str, &str, &str)> {
    let (row, rest) = line.split_once(": {")?;
    let (kind, value) = rest.strip_suffix('}')?.split_once(": ")?;
    Some((row, kind, value))
}

/// Names of functions with a test's attribute above them.
fn tests_of_the_gateway() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in files("tests/gateway") {
        let lines: Vec<&str> = file.text.lines().collect();
        for pair in lines.windows(2) {
            if !pair[0].starts_with("#[tokio::test") && pair[0] != "#[test]" {
                continue;
            }
            let name = pair[1].trim_start_matches("async ").strip_prefix("fn ");
            names.extend(name.and_then(|rest| Some(rest.split_once('(')?.0.to_owned())));
        }
    }
    names
}

/// The image builds the dependencies before the sources are there: the step that puts an empty file in the place of each target
/// is run here, beside the same two files.
#[test]
fn the_image_has_a_file_for_every_target_of_the_manifest() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dockerfile = fs::read_to_string(root.join("Dockerfile")).unwrap();
    let steps = dockerfile.split("\nRUN ").map(|step| {
        let last = step.lines().position(|line| !line.ends_with('\\')).unwrap();
        step.lines().take(last + 1).collect::<Vec<_>>().join("\n")
    });
    let stand_ins = steps.into_iter().find(|step| step.contains("Cargo.toml")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for name in ["Cargo.toml", "Cargo.lock"] {
        fs::copy(root.join(name), dir.path().join(name)).unwrap();
    }
    let run = |program: &str, arguments: &[&str]| {
        let ended = Command::new(program).args(arguments).current_dir(dir.path()).output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        ended.stdout
    };
    run("sh", &["-euc", &stand_ins]);
    let told = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
    let told: serde_json::Value = serde_json::from_slice(&run(env!("CARGO"), &told)).unwrap();
    let targets = told["packages"][0]["targets"].as_array().unwrap();
    let files: BTreeSet<&str> =
        targets.iter().map(|target| target["src_path"].as_str().unwrap()).collect();
    assert!(files.iter().any(|file| file.ends_with("benches/soak/main.rs")), "{files:?}");
    nothing_of(
        files.into_iter().filter(|file| !Path::new(file).exists()).map(String::from).collect(),
    );
}
