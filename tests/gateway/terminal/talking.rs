//! Answers as they come, and Ctrl-C.

use std::time::Duration;

use serde_json::json;

use super::{CTRL_C, CTRL_D, NEVER, Terminal, chats, quick, texts};
use crate::support::scripted::Scripted;
use crate::support::{TestGateway, eventually, within};

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_shown_as_it_comes_and_ctrl_c_frees_the_node() {
    let (node, dir) = (quick().await, tempfile::tempdir().unwrap());
    node.set_delays(Duration::ZERO, NEVER);
    let gateway = TestGateway::before(node.addr()).await;
    let mut chat = Terminal::at(&gateway, dir.path(), &[]);
    chat.say("Hello there").await;
    // The first token is on the screen, and the second one never comes.
    chat.shows("You").await;
    assert_eq!(node.running(), 1);
    chat.press(CTRL_C);
    within(node.wait_until(|counts| counts.running == 0 && counts.aborted == 1)).await;
    eventually(|| async { gateway.series("sluice_client_aborts_total") == 1.0 }).await;
    let shown = chat.shows("tokens out: about 1").await;
    assert!(shown.contains("stopped · "), "{shown}");

    // The chat goes on, and what was said before the stop is a part of it.
    node.set_delays(Duration::ZERO, Duration::ZERO);
    chat.say("And now").await;
    chat.shows("You said: And now").await;
    chat.shows("in, 8 out").await;
    chat.asks().await;
    chat.press(CTRL_D);
    assert_eq!(chat.left().await.0, Some(0));
    let chats = chats(&node);
    assert_eq!(texts(&chats[0]), ["Hello there"]);
    assert_eq!(texts(&chats[1]), ["Hello there", "You", "And now"]);
    assert_eq!(chats[1]["messages"][1]["role"], "assistant");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_stopped_before_its_answer_begins_was_never_said() {
    let (node, dir) = (quick().await, tempfile::tempdir().unwrap());
    node.set_delays(NEVER, Duration::ZERO);
    let gateway = TestGateway::before(node.addr()).await;
    let mut chat = Terminal::at(&gateway, dir.path(), &[]);
    chat.say("Hello there").await;
    within(node.wait_until(|counts| counts.running == 1)).await;
    chat.press(CTRL_C);
    within(node.wait_until(|counts| counts.running == 0 && counts.aborted == 1)).await;
    chat.shows("stopped").await;
    // At the prompt it tells the way out.
    chat.asks().await;
    chat.press(CTRL_C);
    chat.shows("Ctrl-D or /bye leaves.").await;
    node.set_delays(Duration::ZERO, Duration::ZERO);
    chat.say("Again").await;
    chat.shows("in, 8 out").await;
    chat.say("/bye").await;
    assert_eq!(chat.left().await.0, Some(0));
    assert_eq!(texts(&chats(&node)[1]), ["Again"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_a_single_answer_with_130_and_frees_the_node() {
    let (node, dir) = (quick().await, tempfile::tempdir().unwrap());
    node.set_delays(Duration::ZERO, NEVER);
    let gateway = TestGateway::before(node.addr()).await;
    let mut chat = Terminal::at(&gateway, dir.path(), &["-q", "Hello"]);
    chat.shows("You").await;
    chat.press(CTRL_C);
    within(node.wait_until(|counts| counts.running == 0 && counts.aborted == 1)).await;
    assert_eq!(chat.left().await.0, Some(130));
}

/// A server that says these events of a chat to everyone.
async fn saying(events: &[serde_json::Value]) -> Scripted {
    let events: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    Scripted::start(move |_, mut peer| {
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        let answer = format!("{head}{events}data: [DONE]\n\n");
        async move {
            peer.request().await;
            peer.send(answer.as_bytes()).await;
        }
    })
    .await
}

fn delta(delta: serde_json::Value) -> serde_json::Value {
    json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_cannot_control_the_terminal() {
    let text = "\u{1b}[2Jcleared\u{1b}]0;title\u{7}\r\u{8}\u{9b}31m\tend";
    let server =
        saying(&[delta(json!({"reasoning": text})), delta(json!({"content": text}))]).await;
    let (url, dir) = (format!("http://{}/v1", server.addr), tempfile::tempdir().unwrap());
    let mut chat = Terminal::start(dir.path(), &["--url", &url, "--model-name", "m"], &[]);
    chat.say("Hello").await;
    chat.shows("Thinking…").await;
    let thought = chat.shows("…done thinking.").await;
    let answer = chat.shows("end").await;
    for shown in [thought, answer] {
        let own = shown.replace("\u{1b}[0m", "");
        assert!(own.contains("\u{fffd}[2Jcleared"), "{own:?}");
        assert!(!own.contains(['\u{1b}', '\u{7}', '\u{8}', '\u{9b}']), "{own:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thoughts_are_dimmed_or_hidden_and_no_color_is_obeyed() {
    let events = [delta(json!({"reasoning_content": "hmm"})), delta(json!({"content": "Yes."}))];
    let server = saying(&events).await;
    let (url, dir) = (format!("http://{}/v1", server.addr), tempfile::tempdir().unwrap());
    let arguments = ["--url", &url, "--model-name", "m"];
    let mut chat = Terminal::start(dir.path(), &arguments, &[]);
    chat.say("Hello").await;
    chat.shows("\u{1b}[2mThinking…\r\nhmm\r\n…done thinking.\r\n\u{1b}[0m\r\nYes.").await;
    chat.say("/set nothink").await;
    chat.say("Hello").await;
    let shown = chat.shows("Yes.").await;
    assert!(!shown.contains("hmm"), "{shown:?}");

    let mut plain = Terminal::start(dir.path(), &arguments, &[("NO_COLOR", "1")]);
    plain.say("Hello").await;
    plain.shows("tokens out: about 2").await;
    plain.say("/bye").await;
    let (_, shown) = plain.left().await;
    assert!(shown.contains("Thinking…") && !shown.contains("\u{1b}[2m"), "{shown:?}");
}
