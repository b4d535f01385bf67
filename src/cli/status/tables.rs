//! The status as tables: short, what an operator must know; whole, all that is told.

use serde_json::Value;

use super::super::table::table;
use super::words::{address, age, each, number, percent, percentiles, text};

/// Keys that are shown, those nearest to a limit first.
const KEYS_MAX: usize = 20;

/// From this part of a limit on a key is shown also where not all is.
const NEAR: f64 = 0.8;

/// A stream whose last token is so old may have stalled, in seconds: no model takes so long between two.
const STALLED_SECONDS: f64 = 10.0;

/// Errors that are shown where not all are.
const ERRORS_MAX: usize = 5;

/// The status as text. `all`: also what is well.
pub(super) fn page(status: &Value, all: bool) -> String {
    let parts = [
        Some(head(status)),
        failed_reload(&status["failed_reload"]),
        Some(nodes(status, all)),
        reasons(status),
        models(status, all),
        keys(status, all),
        streams(status, all),
        errors(status, all),
        stores(status, all),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("\n\n")
}

/// How it is, since when, and what it does.
fn head(status: &Value) -> String {
    let totals = &status["totals"];
    let rate = |name: &str| number(&totals[name]);
    format!(
        "{}  sluice {}, up {}, configuration {} for {}\n\
         {} in flight, {} queued; per second: {} requests, {} errors, {} tokens out, {} in\n\
         first token {} ms, between tokens {} ms (half and 99 % within)",
        text(&status["state"]).to_uppercase(),
        text(&status["version"]),
        age(&status["uptime_seconds"]),
        text(&status["generation"]),
        age(&status["generation_age_seconds"]),
        rate("in_flight"),
        rate("queued"),
        rate("requests_per_second"),
        rate("errors_per_second"),
        rate("tokens_per_second"),
        rate("prompt_tokens_per_second"),
        percentiles(&totals["ttft"]),
        percentiles(&totals["inter_token_latency"]),
    )
}

fn failed_reload(failed: &Value) -> Option<String> {
    let lines = failed["message"].as_str()?.lines().map(|line| vec![line.to_owned()]);
    let age = age(&failed["age_seconds"]);
    let title = vec![format!("CONFIGURATION NOT TAKEN, {age} ago; the one before is served on:")];
    Some(table(&std::iter::once(title).chain(lines).collect::<Vec<_>>(), 1))
}

/// Titles, and how many of them stand left.
fn titled(titles: &[&str], rows: Vec<Vec<String>>, left: usize) -> Option<String> {
    let titles = titles.iter().map(|title| (*title).to_owned()).collect();
    let rows: Vec<_> = std::iter::once(titles).chain(rows).collect();
    (rows.len() > 1).then(|| table(&rows, left))
}

fn nodes(status: &Value, all: bool) -> String {
    let short = [
        "UPSTREAM", "NODE", "STATE", "OURS", "RUN", "WAIT", "KV", "HITS", "TTFT MS", "TOK/S", "OK",
        "4XX", "ERR", "RETRY",
    ];
    let more = ["LEFT", "OTHERS", "ITL MS"];
    let titles = if all { [&short[..], &more].concat() } else { short.to_vec() };
    let row = |upstream: &Value, node: &Value| {
        let answers = &node["answers"];
        let mut row =
            vec![text(&upstream["upstream"]), address(&node["node"]), text(&node["state"])];
        row.extend(["in_flight", "running", "waiting"].map(|name| number(&node[name])));
        row.extend(["kv_cache", "prefix_hits"].map(|name| percent(&node[name])));
        row.extend([percentiles(&node["ttft"]), number(&node["tokens_per_second"])]);
        row.extend(["ok", "refused", "errors", "retries"].map(|name| number(&answers[name])));
        if all {
            row.extend([number(&answers["aborts"]), number(&node["foreign"])]);
            row.push(percentiles(&node["inter_token_latency"]));
        }
        row
    };
    let upstreams = each(&status["upstreams"]);
    let rows = upstreams.flat_map(|one| each(&one["nodes"]).map(move |node| row(one, node)));
    titled(&titles, rows.collect(), 3).unwrap_or_else(|| "There are no nodes.".to_owned())
}

/// Why nodes are as they are.
fn reasons(status: &Value) -> Option<String> {
    let nodes = each(&status["upstreams"]).flat_map(|upstream| each(&upstream["nodes"]));
    let rows: Vec<_> = nodes
        .filter_map(|node| {
            let why = node["reason"].as_str()?;
            Some(vec![format!("{} is {}: {why}", address(&node["node"]), text(&node["state"]))])
        })
        .collect();
    (!rows.is_empty()).then(|| table(&rows, 1))
}

fn models(status: &Value, all: bool) -> Option<String> {
    let titles = ["MODEL", "NODES", "REQ/S", "TOK/S", "TTFT MS", "ITL MS", "OK", "4XX", "ERR"];
    let rows = each(&status["models"]).filter(|_| all).map(|model| {
        let mut row = vec![text(&model["model"])];
        row.push(format!("{}/{}", text(&model["nodes_up"]), text(&model["nodes"])));
        row.extend(["requests_per_second", "tokens_per_second"].map(|name| number(&model[name])));
        row.extend(["ttft", "inter_token_latency"].map(|name| percentiles(&model[name])));
        row.extend(["ok", "refused", "errors"].map(|name| number(&model["answers"][name])));
        row
    });
    titled(&titles, rows.collect(), 1)
}

/// The limit of which most is used, and how much of it.
fn nearest(key: &Value) -> Option<(f64, String)> {
    let of = |limit: &Value| {
        let (used, allowed) = (limit["used"].as_f64()?, limit["allowed"].as_f64()?);
        let told = format!(
            "{} {}/{}",
            text(&limit["limit"]),
            number(&limit["used"]),
            number(&limit["allowed"])
        );
        Some((used / allowed.max(1.0), told))
    };
    each(&key["limits"]).filter_map(of).max_by(|one, other| one.0.total_cmp(&other.0))
}

fn keys(status: &Value, all: bool) -> Option<String> {
    let mut keys: Vec<_> = each(&status["keys"])
        .map(|key| (nearest(key).unwrap_or((0.0, "-".to_owned())), key))
        .filter(|((part, _), key)| all || *part >= NEAR || key["expired"] == true)
        .collect();
    keys.sort_by(|((one, _), _), ((other, _), _)| other.total_cmp(one));
    let titles = ["KEY", "NEAREST LIMIT", "USED", "REFUSED", "REQUESTS", "PROMPT", "COMPLETION"];
    let rows = keys.into_iter().take(KEYS_MAX).map(|((part, limit), key)| {
        let expired = if key["expired"] == true { " (expired)" } else { "" };
        let mut row = vec![text(&key["key"]) + expired, limit, format!("{:.0}%", part * 100.0)];
        let counts = ["limited", "requests", "prompt_tokens", "completion_tokens"];
        row.extend(counts.map(|name| number(&key[name])));
        row
    });
    titled(&titles, rows.collect(), 2)
}

fn streams(status: &Value, all: bool) -> Option<String> {
    let stalls =
        |stream: &Value| stream["last_token_age_seconds"].as_f64() >= Some(STALLED_SECONDS);
    let titles = ["MODEL", "KEY", "NODE", "STREAM", "AGE", "LAST TOKEN", "TOKENS"];
    let rows = each(&status["streams"]).filter(|stream| all || stalls(stream)).map(|stream| {
        let mut row = ["model", "key"].map(|name| text(&stream[name])).to_vec();
        row.extend([address(&stream["node"]), text(&stream["id"])]);
        row.extend(["age_seconds", "last_token_age_seconds"].map(|name| age(&stream[name])));
        row.push(number(&stream["tokens"]));
        row
    });
    titled(&titles, rows.collect(), 4)
}

fn errors(status: &Value, all: bool) -> Option<String> {
    let most = if all { usize::MAX } else { ERRORS_MAX };
    let short = ["AGO", "STATUS", "ERROR", "NODE", "MODEL"];
    let more = ["KEY", "TRIES", "REQUEST", "IN WORDS"];
    let titles = if all { [&short[..], &more].concat() } else { short.to_vec() };
    let rows = each(&status["errors"]).take(most).map(|error| {
        let [status, code, model] = ["status", "code", "model"].map(|name| text(&error[name]));
        let mut row =
            vec![age(&error["age_seconds"]), status, code, address(&error["node"]), model];
        if all {
            row.extend(["key", "tries", "id", "message"].map(|name| text(&error[name])));
        }
        row
    });
    titled(&titles, rows.collect(), titles.len())
}

/// Where limits and sessions are kept; what is in memory is always well.
fn stores(status: &Value, all: bool) -> Option<String> {
    let stores = each(&status["stores"]).filter(|store| all || store["kind"] != "memory");
    let mut lines: Vec<_> = stores
        .map(|store| {
            let up = if store["up"] == true { "" } else { ", which is AWAY" };
            let (of, kind) = (text(&store["of"]), text(&store["kind"]));
            format!("{of} in {kind}{up}; {} errors", number(&store["errors"]))
        })
        .collect();
    let sessions = &status["sessions"];
    if sessions.is_object() && (all || sessions["begun"] != 0) {
        let [open, bytes, begun] = ["open", "bytes", "begun"].map(|name| number(&sessions[name]));
        lines.push(format!("{open} sessions in memory, {bytes} bytes; {begun} were begun"));
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(url: &str, state: &str, reason: Option<&str>) -> Value {
        json!({"node": url, "state": state, "reason": reason, "in_flight": 12, "foreign": 0, "running": 12,
            "waiting": 3, "kv_cache": 0.42, "prefix_hits": 0.876, "ttft": {"p50_ms": 80.2, "p99_ms": 1_234.0},
            "inter_token_latency": {"p50_ms": 25.0, "p99_ms": 31.0}, "tokens_per_second": 512.3,
            "answers": {"ok": 12_345, "refused": 7, "errors": 2, "retries": 1, "aborts": 4}})
    }

    fn status() -> Value {
        json!({
            "state": "degraded", "version": "0.1.0", "uptime_seconds": 7_300, "generation": 3,
            "generation_age_seconds": 61, "failed_reload": null,
            "totals": {"in_flight": 12, "queued": 0, "requests_per_second": 4.25, "errors_per_second": 0.0,
                "tokens_per_second": 512.3, "prompt_tokens_per_second": 20_480.0,
                "ttft": {"p50_ms": 80.2, "p99_ms": 1_234.0}, "inter_token_latency": {"p50_ms": null, "p99_ms": null}},
            "upstreams": [{"upstream": "llama", "nodes": [
                node("http://10.0.0.101:8000", "up", None),
                node("http://10.0.0.102:8000", "down", Some("no connection: refused")),
            ]}],
            "models": [{"model": "llama-3.1-8b", "nodes_up": 1, "nodes": 2, "requests_per_second": 4.25,
                "tokens_per_second": 512.3, "ttft": {}, "inter_token_latency": {}, "answers": {"ok": 5}}],
            "keys": [
                {"key": "idle", "expired": false, "limits": [{"limit": "rpm", "allowed": 60, "used": 3}]},
                {"key": "busy", "expired": false, "limited": 9, "limits": [
                    {"limit": "rpm", "allowed": 60, "used": 30}, {"limit": "tpd", "allowed": 1_000_000, "used": 990_000}]},
                {"key": "shared", "expired": false, "limits": [{"limit": "rpm", "allowed": 60, "used": null}]},
            ],
            "streams": [
                {"id": "r1", "model": "m", "node": "http://a", "key": "k", "age_seconds": 60.0, "last_token_age_seconds": 31.4, "tokens": 7},
                {"id": "r2", "model": "m", "node": "http://a", "key": "k", "age_seconds": 6.0, "last_token_age_seconds": 0.1, "tokens": 70},
            ],
            "errors": (0..9).map(|number| json!({"age_seconds": 0.5, "id": format!("e{number}"), "status": 502,
                "code": "upstream_error", "message": "The node broke off.", "model": "m", "node": "http://a", "tries": 2}))
                .collect::<Vec<_>>(),
            "stores": [{"of": "limits", "kind": "redis", "up": false, "errors": 3}, {"of": "sessions", "kind": "memory", "up": true, "errors": 0}],
            "sessions": null,
        })
    }

    #[test]
    fn short_it_tells_the_nodes_and_what_is_wrong_in_a_hundred_columns() {
        let wanted = "\
DEGRADED  sluice 0.1.0, up 2h 1m, configuration 3 for 1m 1s
12 in flight, 0 queued; per second: 4.2 requests, 0 errors, 512 tokens out, 20k in
first token 80/1234 ms, between tokens - ms (half and 99 % within)

UPSTREAM  NODE             STATE  OURS  RUN  WAIT   KV  HITS  TTFT MS  TOK/S   OK  4XX  ERR  RETRY
llama     10.0.0.101:8000  up       12   12     3  42%   88%  80/1234    512  12k    7    2      1
llama     10.0.0.102:8000  down     12   12     3  42%   88%  80/1234    512  12k    7    2      1

10.0.0.102:8000 is down: no connection: refused

KEY   NEAREST LIMIT  USED  REFUSED  REQUESTS  PROMPT  COMPLETION
busy  tpd 990k/1.0M   99%        9         -       -           -

MODEL  KEY  NODE  STREAM    AGE  LAST TOKEN  TOKENS
m      k    a     r1      1m 0s         31s       7

AGO   STATUS  ERROR           NODE  MODEL
0.5s  502     upstream_error  a     m
0.5s  502     upstream_error  a     m
0.5s  502     upstream_error  a     m
0.5s  502     upstream_error  a     m
0.5s  502     upstream_error  a     m

limits in redis, which is AWAY; 3 errors";
        let told = page(&status(), false);
        assert_eq!(told, wanted);
        assert!(told.lines().all(|line| line.chars().count() <= 100), "{told}");
    }

    #[test]
    fn whole_it_tells_all() {
        let told = page(&status(), true);
        for part in [
            "llama-3.1-8b    1/2",
            "idle",
            "shared  -",
            "r2",
            "e8",
            "The node broke off.",
            "sessions in memory",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }

    #[test]
    fn a_configuration_that_was_not_taken_is_told_in_its_own_words() {
        let mut status = status();
        status["failed_reload"] =
            json!({"age_seconds": 90, "message": "routes.yaml:6:3: unknown field `pth`"});
        let told = page(&status, false);
        assert!(told.contains("CONFIGURATION NOT TAKEN, 1m 30s ago"), "{told}");
        assert!(told.contains("\nroutes.yaml:6:3: unknown field `pth`\n"), "{told}");
    }

    #[test]
    fn what_a_gateway_of_another_version_does_not_tell_is_left_out() {
        assert!(page(&json!({"state": "ok"}), true).contains("There are no nodes."));
    }
}
