//! The pages that repeat what the code says: they are written by it, and checked here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::nodes::{QUICK, upstream};
use crate::support::gateway::{Setup, chat, written};
use crate::support::{eventually, node, nowhere};

const BEGIN: &str = "<!-- settings -->\n";
const END: &str = "<!-- /settings -->";

/// The settings' table.
fn table_stands_in(page: &str) {
    stands_in(page, (BEGIN, END), &sluice::config::settings_table());
}

/// With `UPDATE_DOCS=1` in the environment the table is written instead.
fn stands_in(page: &str, (begin, end): (&str, &str), wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = written(&path);
    let (before, rest) = text.split_once(begin).unwrap();
    let (table, after) = rest.split_once(end).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        std::fs::write(&path, format!("{before}{begin}{wanted}{end}{after}")).unwrap();
        return;
    }
    assert!(table == wanted, "{page}: UPDATE_DOCS=1 cargo test --test gateway documents writes it");
}

#[test]
fn the_readme_has_every_setting() {
    table_stands_in("README.md");
}

#[test]
fn the_readme_in_russian_has_every_setting() {
    table_stands_in("README.ru.md");
}

/// What an exposition tells of each family: its kind, its labels, its help.
fn table_of_series(exposition: &str) -> String {
    let mut families: BTreeMap<&str, (&str, &str, BTreeSet<&str>)> = BTreeMap::new();
    for line in exposition.lines() {
        if let Some((name, help)) =
            line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '))
        {
            families.entry(name).or_default().1 = help;
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            families.entry(name).or_default().0 = kind;
        } else if let Some((sample, labels)) = line.split_once('{') {
            let suffix = |suffix: &&str| sample.ends_with(suffix);
            let end = ["_bucket", "_sum", "_count"].into_iter().find(suffix).unwrap_or_default();
            let family = sample
                .strip_suffix(end)
                .filter(|name| families.contains_key(name))
                .unwrap_or(sample);
            let labels = labels.split("=\"").filter_map(|before| before.rsplit([',', '{']).next());
            let labels = labels.filter(|label| {
                *label != "le" && label.bytes().all(|byte| byte.is_ascii_lowercase())
            });
            families.get_mut(family).unwrap().2.extend(labels);
        }
    }
    let mut table = "| series | kind | labels | what it tells |\n|---|---|---|---|\n".to_owned();
    for (name, (kind, help, labels)) in
        families.into_iter().filter(|(name, _)| name.starts_with("sluice_"))
    {
        let labels: Vec<_> = labels.into_iter().map(|label| format!("`{label}`")).collect();
        table += &format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", "));
    }
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn every_series_is_described() {
    let one = node(&["m"]).await;
    let routes = upstream(&[one.addr()], &format!("models: [m], {QUICK}"));
    let limited = "keys:\n  - name: little\n    key: sk-little\n    limits: { rpm: 1 }\n";
    let gateway = Setup::routes(&routes).keys(limited).flags(|flags| {
        flags.sessions = Some("true".into());
        flags.session_store = Some("redis".into());
        flags.rate_limit_store = Some("redis".into());
        flags.redis_url = Some(format!("redis://{}", nowhere()));
    });
    let gateway = gateway.start().await;
    for _ in 0..2 {
        let asked =
            gateway.client.post(gateway.url("/v1/chat/completions")).bearer_auth("sk-little");
        asked.json(&chat("m")).send().await.unwrap();
    }
    let mut stream = chat("m");
    stream["stream"] = true.into();
    let stream = gateway.post("/v1/chat/completions").json(&stream).send().await.unwrap();
    assert!(stream.text().await.unwrap().ends_with("data: [DONE]\n\n"));
    eventually(|| async {
        let series = |name: &str| gateway.series(name) > 0.0;
        series("sluice_limit_refusals_total")
            && series("sluice_node_takes_work")
            && gateway.series("sluice_node_kv_cache_usage_ratio") >= 0.0
            && series("sluice_key_requests_total")
    })
    .await;
    let text = || String::from_utf8(gateway.server.metrics.render().unwrap()).unwrap();
    eventually(|| async { text().contains("sluice_node_kv_cache_usage_ratio") }).await;
    // Found in the cache: something must have been looked up there between two looks of the probes.
    eventually(|| async {
        gateway.chat("m").send().await.unwrap();
        text().contains("sluice_node_prefix_hit_ratio")
    })
    .await;
    stands_in(
        "docs/metrics.md",
        ("<!-- series -->\n", "<!-- /series -->"),
        &table_of_series(&text()),
    );
}
