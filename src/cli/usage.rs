//! `sluice usage`: what the requests in the ledger come to, by day, key and model.

use std::fs::File;
use std::io::BufReader;

use clap::ValueEnum;
use serde::Serialize;

use super::table::table;
use super::{Boot, Failed, complain, say};
use crate::ledger::files_of;
use crate::ledger::sums::{By, Days, Group, Sum, Sums};

/// What is added up.
#[derive(clap::Args)]
pub(super) struct Usage {
    /// What sums are kept apart by.
    #[arg(long, value_name = "WHAT", value_delimiter = ',', default_values = ["day", "key", "model"])]
    by: Vec<Part>,
    /// The first day, in UTC: 2026-11-28.
    #[arg(long, value_name = "DAY", value_parser = day)]
    since: Option<String>,
    /// The last day.
    #[arg(long, value_name = "DAY", value_parser = day)]
    until: Option<String>,
    /// A JSON object for each sum, one a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    boot: Boot,
}

/// One of what sums are kept apart by.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Day,
    Key,
    Model,
}

/// A sum as JSON.
#[derive(Serialize)]
struct Line<'s> {
    #[serde(flatten)]
    group: &'s Group,
    #[serde(flatten)]
    sum: &'s Sum,
}

fn day(text: &str) -> Result<String, String> {
    let parsed = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d");
    let parsed = parsed.map_err(|_| "this must be a day, as in 2026-11-28".to_owned())?;
    Ok(parsed.format("%Y-%m-%d").to_string())
}

pub(super) fn run(usage: &Usage) -> Result<(), Failed> {
    let (settings, _) = usage.boot.resolve()?;
    let path = settings.ledger.ok_or_else(|| {
        Failed::Usage("no ledger is kept: the setting `ledger` names its file".to_owned())
    })?;
    let shown = path.display();
    let found = files_of(&path).map_err(|error| Failed::Runtime(format!("{shown}: {error}")))?;
    let (files, compressed) = found;
    for file in compressed {
        complain(&format!("sluice: {} is compressed, and was left out", file.display()));
    }
    if files.is_empty() {
        return Err(Failed::Runtime(format!("{shown} is not there: no request was noted yet")));
    }
    let has = |part| usage.by.contains(&part);
    let by = By { day: has(Part::Day), key: has(Part::Key), model: has(Part::Model) };
    let days = Days { since: usage.since.clone(), until: usage.until.clone() };
    let mut sums = Sums::default();
    for file in files {
        let read = File::open(&file).and_then(|open| sums.add(BufReader::new(open), by, &days));
        read.map_err(|error| Failed::Runtime(format!("{}: {error}", file.display())))?;
    }
    match usage.json {
        true => sums.groups.iter().for_each(|(group, sum)| {
            say(&serde_json::to_string(&Line { group, sum }).unwrap_or_default());
        }),
        false => say(&as_table(&sums, by)),
    }
    if sums.unreadable > 0 {
        complain(&format!("sluice: {} lines are no rows, and were left out", sums.unreadable));
    }
    Ok(())
}

/// A line for each sum, and one for all of them.
fn as_table(sums: &Sums, by: By) -> String {
    let parts = [(by.day, "DAY"), (by.key, "KEY"), (by.model, "MODEL")];
    let mut titles: Vec<String> =
        parts.iter().filter(|(wanted, _)| *wanted).map(|(_, title)| (*title).to_owned()).collect();
    let names = titles.len();
    let counts = ["REQUESTS", "FAILED", "PROMPT", "CACHED", "COMPLETION", "NOT REPORTED"];
    titles.extend(counts.map(str::to_owned));
    let name = |name: &Option<String>| {
        name.as_ref().map(|name| if name.is_empty() { "-".to_owned() } else { name.clone() })
    };
    let row = |begin: Vec<String>, sum: &Sum| {
        let numbers = [
            sum.requests,
            sum.failed,
            sum.prompt_tokens,
            sum.cached_tokens,
            sum.completion_tokens,
            sum.unreported_tokens,
        ];
        begin.into_iter().chain(numbers.map(|number| number.to_string())).collect()
    };
    let mut rows = vec![titles];
    for (group, sum) in &sums.groups {
        let begin = [&group.day, &group.key, &group.model].into_iter().filter_map(name).collect();
        rows.push(row(begin, sum));
    }
    if sums.groups.len() > 1 {
        let mut begin = vec!["all".to_owned()];
        begin.resize(names, String::new());
        begin.truncate(names);
        rows.push(row(begin, &sums.total()));
    }
    table(&rows, names)
}
