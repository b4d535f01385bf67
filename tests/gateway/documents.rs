//! The pages that repeat what the code says: they are written by it, and checked here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::nodes::{QUICK, upstream};
use crate::support::gateway::{Setup, chat, written};
use crate::support::{TestGateway, eventually, node, nowhere};

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
fn every_setting_has_its_row() {
    table_stands_in("docs/settings.md");
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

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages of the repository, by their paths from its root.
fn pages() -> Vec<PathBuf> {
    let of = |folder: &str| {
        let entries = std::fs::read_dir(root().join(folder)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let pages = paths.filter(|path| path.extension().is_some_and(|end| end == "md"));
        pages.map(|path| path.strip_prefix(root()).unwrap().to_owned()).collect::<Vec<_>>()
    };
    [of(""), of("docs")].concat()
}

/// The lines of a page that are no code, and its blocks of code: what each is of, and its lines.
fn apart(text: &str) -> (Vec<&str>, Vec<(&str, usize)>) {
    let (mut prose, mut blocks, mut inside) = (Vec::new(), Vec::new(), false);
    for line in text.lines() {
        if let Some(of) = line.strip_prefix("```") {
            inside = !inside;
            if inside {
                blocks.push((of, 0));
            }
        } else if inside {
            blocks.last_mut().unwrap().1 += 1;
        } else {
            prose.push(line);
        }
    }
    (prose, blocks)
}

fn headings(text: &str) -> Vec<&str> {
    let (prose, _) = apart(text);
    prose.into_iter().filter(|line| line.starts_with('#')).collect()
}

/// What a heading is called in a link, as GitHub has it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Where the links of a line lead; what stands in backticks is no link.
fn links(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut parts = line.split("](").peekable();
    let mut before = String::new();
    while let Some(part) = parts.next() {
        before.push_str(part);
        let is_code = before.matches('`').count() % 2 == 1;
        if let (false, Some(next)) = (is_code, parts.peek()) {
            found.extend(next.split_once(')').map(|(target, _)| target));
        }
    }
    found
}

#[test]
fn every_link_of_the_pages_leads_somewhere() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for page in pages() {
        let text = written(&root().join(&page));
        let (prose, _) = apart(&text);
        for target in prose.into_iter().flat_map(links).filter(|link| !link.contains("://")) {
            count += 1;
            let (file, fragment) = target.split_once('#').unwrap_or((target, ""));
            let path = match file {
                "" => root().join(&page),
                _ => root().join(&page).parent().unwrap().join(file),
            };
            let is_there = path.exists()
                && (fragment.is_empty()
                    || headings(&written(&path)).into_iter().any(|one| anchor(one) == fragment));
            if !is_there {
                wrong.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(count > 100, "only {count} links were found");
}

#[test]
fn both_readmes_have_the_same_chapters_and_the_same_blocks_of_code() {
    let [english, russian] = ["README.md", "README.ru.md"].map(|page| written(&root().join(page)));
    let levels = |text: &str| -> Vec<usize> {
        headings(text).iter().map(|one| one.len() - one.trim_start_matches('#').len()).collect()
    };
    assert_eq!(levels(&english), levels(&russian));
    assert_eq!(apart(&english).1, apart(&russian).1);
    let rows = |text: &str| text.lines().filter(|line| line.starts_with('|')).count();
    assert_eq!(rows(&english), rows(&russian));
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_find_every_error_and_every_alert_and_clients_every_error() {
    let gateway = TestGateway::before(nowhere()).await;
    let reply = gateway.client.get(gateway.url("/openapi.json")).send().await.unwrap();
    let document: serde_json::Value = reply.json().await.unwrap();
    let responses = document["components"]["responses"].as_object().unwrap().values();
    let examples =
        responses.filter_map(|one| one["content"]["application/json"]["examples"].as_object());
    let codes: BTreeSet<&String> = examples.flat_map(serde_json::Map::keys).collect();
    assert!(codes.len() > 15, "{codes:?}");
    let rules = written(&root().join("config/prometheus/rules.yml"));
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let alerts: Vec<&str> = alerts.collect();
    assert!(alerts.len() > 5, "{alerts:?}");
    for page in ["docs/operations.md", "docs/errors.md"] {
        let text = written(&root().join(page));
        for code in &codes {
            assert!(text.contains(&format!("`{code}`")), "{page}: {code}");
        }
    }
    let text = written(&root().join("docs/operations.md"));
    for alert in alerts {
        assert!(text.contains(&format!("| `{alert}` |")), "{alert}");
    }
}
