//! One answer for a script: pipes in and out, exit codes, what is told on standard error.

use std::time::Duration;

use sluice::sim::Fault;
use tokio::io::AsyncReadExt;

use super::{chats, quick, texts};
use crate::cli::{Ended, fed};
use crate::support::gateway::{Setup, preset};
use crate::support::{KEY, TestGateway, nowhere, within};

/// `sluice chat` with `input` piped in.
async fn piped(url: &str, arguments: &[&str], input: &str) -> Ended {
    let dir = tempfile::tempdir().unwrap();
    let arguments = [&["chat", "--url", url][..], arguments].concat();
    fed(dir.path(), &arguments, &[("SLUICE_API_KEY", KEY)], input).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_gets_the_answer_and_nothing_else() {
    let node = quick().await;
    let gateway = TestGateway::before(node.addr()).await;
    let url = gateway.url("/v1");
    let answer = "You said: Hello Hello Hello Hello Hello\n";
    for (arguments, input, asked) in [
        (&["-q", "Hello"][..], "", "Hello"),
        (&[], "Hello\n", "Hello"),
        (&["--quick", "Sum up:"], "Hello\n", "Sum up:\n\nHello"),
    ] {
        let ended = piped(&url, arguments, input).await;
        assert_eq!((ended.code, &*ended.err), (0, ""), "{}", ended.out);
        assert!(!ended.out.contains('\u{1b}'), "{:?}", ended.out);
        assert_eq!(texts(chats(&node).last().unwrap()), [asked]);
        if asked == "Hello" {
            assert_eq!(ended.out, answer);
        }
    }
    let ended = piped(&url, &["-q", "Hello", "--stats"], "").await;
    assert_eq!(ended.out, answer);
    assert!(ended.err.contains("first token") && ended.err.contains("in, 8 out"), "{}", ended.err);
    assert!(!ended.err.contains('\u{1b}'));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_is_told_in_one_line_with_its_exit_code() {
    let node = quick().await;
    let keys = "keys:\n  - {name: slow, key: sk-slow-of-this-test, limits: {rpm: 1}}\n";
    let setup = Setup::routes(&preset(node.addr())).keys(keys);
    let gateway = setup.start().await;
    let url = gateway.url("/v1");
    let dead = format!("http://{}/v1", nowhere());
    let slow = ["--api-key", "sk-slow-of-this-test", "--model", "m", "-q", "x"];
    assert_eq!(piped(&url, &slow, "").await.code, 0);
    for (url, arguments, code, told) in [
        (&*url, &["--api-key", "wrong", "-q", "x"][..], 1, "does not take this key"),
        (&*dead, &["-q", "x"], 1, "is the gateway running? `sluice demo`"),
        (&*url, &["--model", "other", "-q", "x"], 1, "(there are: m)"),
        (&*url, &slow, 1, "(again in "),
        (&*gateway.url(""), &["--model", "m", "-q", "x"], 1, "end in /v1"),
        ("nowhere", &["-q", "x"], 2, "http://HOST:PORT/v1"),
        (&*url, &[], 2, "nothing is asked"),
        (&*url, &["-q", "x", "--settings", "none.json"], 2, "none.json"),
        (&*url, &["-q", "x", "--modle", "m"], 2, "--model"),
    ] {
        let ended = piped(url, arguments, "").await;
        assert_eq!((ended.code, &*ended.out), (code, ""), "{arguments:?}: {}", ended.err);
        assert!(ended.err.contains(told), "{arguments:?}: {}", ended.err);
        assert!(code == 2 || ended.err.trim_end().lines().count() == 1, "{}", ended.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_fails_half_way_is_a_failure() {
    let node = quick().await;
    let gateway = TestGateway::before(node.addr()).await;
    let direct = format!("http://{}/v1", node.addr());
    for url in [gateway.url("/v1"), direct] {
        for fault in [Fault::DieAfter(3), Fault::CutAfter(3), Fault::ResetAfter(3)] {
            node.set_fault(Some(fault));
            let ended = piped(&url, &["-q", "Hello", "--model", "m"], "").await;
            assert_eq!(ended.code, 1, "{}", ended.err);
            assert!(ended.out.starts_with("You said"), "{}", ended.out);
            assert!(ended.err.starts_with("sluice: "), "{}", ended.err);
        }
    }
}

/// As with `sluice chat | head -c 3`.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_frees_the_node() {
    let (node, dir) = (quick().await, tempfile::tempdir().unwrap());
    node.set_delays(Duration::ZERO, Duration::from_millis(1));
    let gateway = TestGateway::before(node.addr()).await;
    let settings = r#"{"parameters": {"max_tokens": 8000}}"#;
    std::fs::write(dir.path().join("chat.json"), settings).unwrap();
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["chat", "--url", &gateway.url("/v1"), "-q", "Hello", "--settings", "chat.json"])
        .env_clear()
        .env("SLUICE_API_KEY", KEY)
        .current_dir(dir.path())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    within(out.read_exact(&mut [0; 3])).await.unwrap();
    drop(out);
    assert_eq!(within(child.wait()).await.unwrap().code(), Some(0));
    within(node.wait_until(|counts| counts.running == 0 && counts.aborted == 1)).await;
}
