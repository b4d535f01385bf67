//! `sluice simulate`: what each policy would make of the same requests.

use serde_json::json;

use super::{folder, sluice};
use crate::support::gateway::{Setup, preset};
use crate::support::{node, within};

/// What a policy found in caches, in percent, as its line says.
fn found(ended: &super::Ended, policy: &str) -> f64 {
    let words: Vec<&str> = ended.line(policy).split_whitespace().collect();
    let percent = words.iter().position(|word| *word == "%").unwrap();
    words[percent - 1].parse().unwrap()
}

/// Eleven conversations, a turn each in turn.
fn conversations() -> String {
    let mut lines = String::new();
    for turn in 0..8 {
        for talk in 0..11 {
            let prompt: Vec<_> = (0..=turn).map(|part| (format!("{talk}.{part}"), 3_000)).collect();
            let at = f64::from(turn) * 20.0 + f64::from(talk);
            let line =
                json!({ "at": at, "session": talk.to_string(), "prompt": prompt, "answer": 50 });
            lines.push_str(&format!("{line}\n"));
        }
    }
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_is_played_by_every_policy() {
    let dir = folder(&[("trace.jsonl", &conversations())]);
    let ended = sluice(dir.path(), &["simulate", "trace.jsonl", "--nodes", "3"], &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    let [oracle, prefix, least, turns] =
        ["(an oracle)", "prefix_aware", "least_load", "round_robin"].map(|one| found(&ended, one));
    assert!(prefix > 70.0 && prefix >= 0.97 * oracle, "{}", ended.out);
    assert!(found(&ended, "consistent_hash") > 70.0, "{}", ended.out);
    assert!(least < prefix && turns <= prefix, "{}", ended.out);
}

/// Sessions have the same node everywhere; what was sent by another gateway nobody knows.
#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_do_not_talk_agree_on_sessions_and_not_on_prompts() {
    let dir = folder(&[("trace.jsonl", &conversations())]);
    let played = async |more: &[&str]| {
        let words = [&["simulate", "trace.jsonl", "--nodes", "3"], more].concat();
        let ended = sluice(dir.path(), &words, &[]).await;
        assert_eq!(ended.code, 0, "{}", ended.err);
        ["(an oracle)", "consistent_hash", "prefix_aware"].map(|one| found(&ended, one))
    };
    let [oracle, session, prefix] = played(&[]).await;
    let [oracle_of_four, session_of_four, prefix_of_four] = played(&["--replicas", "4"]).await;
    assert_eq!((oracle, session), (oracle_of_four, session_of_four));
    assert!(prefix_of_four < prefix - 5.0, "{prefix_of_four} of {prefix}");
    // Who has all of a conversation knows where it was.
    let [_, _, kept] = played(&["--replicas", "4", "--by-session"]).await;
    assert!(kept > prefix - 5.0, "{kept} of {prefix}");
    let refused = sluice(dir.path(), &["simulate", "trace.jsonl", "--replicas", "0"], &[]).await;
    assert_eq!(refused.code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_trace_is_told_by_its_line() {
    let good = r#"{"at":0,"prompt":[["a",9]],"answer":1}"#;
    for (bad, told) in [
        ("{", "line 2: "),
        (r#"{"prompt":[["a",9]]}"#, "line 2: neither `at` nor `time` is there"),
        (r#"{"time":"today","prompt":[["a",9]]}"#, "line 2: "),
        (r#"{"at":1,"prompt":[["a",999999999]]}"#, "line 2: a prompt has 104857600 bytes at most"),
    ] {
        let dir = folder(&[("trace", &format!("{good}\n{bad}\n"))]);
        let ended = sluice(dir.path(), &["simulate", "trace"], &[]).await;
        assert_eq!(ended.code, 1);
        assert!(ended.err.contains(told), "{bad}: {}", ended.err);
    }
    let dir = folder(&[]);
    let ended = sluice(dir.path(), &["simulate", "missing"], &[]).await;
    assert!(ended.code == 1 && ended.err.contains("missing"), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_log_that_tells_prompts_can_be_played_and_holds_no_word_of_them() {
    let one = node(&["m"]).await;
    let setup = Setup::routes(&preset(one.addr()));
    let gateway = setup.flags(|flags| flags.log_prompts = Some("on".into())).start().await;
    let said =
        |turn: usize| json!({ "role": "user", "content": format!("hush {turn} ").repeat(300) });
    for turns in 1..=4 {
        let messages: Vec<_> = (0..turns).map(said).collect();
        let body = json!({ "model": "m", "messages": messages });
        let reply = within(gateway.post("/v1/chat/completions").json(&body).send()).await.unwrap();
        assert_eq!(reply.status(), 200);
    }
    let lines = gateway.log_lines(4).await;
    assert_eq!(lines[0]["prompt"][0], lines[3]["prompt"][0]);
    assert_ne!(lines[0]["prompt"], lines[3]["prompt"]);
    let log: String = lines.iter().map(|line| format!("{line}\n")).collect();
    assert!(!log.contains("hush"), "{log}");
    let dir = folder(&[("access.log", &log)]);
    let ended = sluice(dir.path(), &["simulate", "access.log", "--nodes", "1"], &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(found(&ended, "prefix_aware") > 40.0, "{}", ended.out);
}
