//! Answers of `/v1/responses` that a node keeps, and those that it makes in the background.

use serde_json::{Value, json};
use sluice::sim::Settings;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::support::{FOREVER, Node, soon, with};

const RESPONSES: &str = "/v1/responses";

/// A question for the background.
fn background() -> Value {
    json!({"input": "Hi", "max_output_tokens": 4, "background": true})
}

/// The answer to a POST.
async fn told(node: &Node, path: &str, body: Value) -> Value {
    node.told(path, body).await.parse().unwrap()
}

/// Status and body of the answer to a GET.
async fn got(node: &Node, path: &str) -> (u16, Value) {
    let reply = node.get(path).await;
    (reply.status().as_u16(), reply.json().await.unwrap())
}

/// Status and body of the answer to a POST without a body.
async fn cancelled(node: &Node, id: &str) -> (u16, Value) {
    let path = format!("{RESPONSES}/{id}/cancel");
    let reply = node.client.post(node.url(&path)).send().await.unwrap();
    (reply.status().as_u16(), reply.json().await.unwrap())
}

fn path_of(reply: &Value) -> String {
    format!("{RESPONSES}/{}", reply["id"].as_str().unwrap())
}

fn not_found(id: &str) -> Value {
    json!({"error": {"message": format!("Response with id '{id}' not found."), "type": "invalid_request_error",
        "param": "response_id", "code": 404}})
}

/// Reads from a stream until it has `text`; gives all that came.
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains(text) {
        assert_ne!(soon(stream.read_buf(&mut bytes)).await.unwrap(), 0, "no {text} in {bytes:?}");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The id of the response in the events of a stream.
fn id_in(events: &str) -> String {
    let at = events.find("resp_").unwrap();
    events[at..at + "resp_0123456789abcdef".len()].to_owned()
}

#[tokio::test]
async fn a_response_can_be_asked_for_again() {
    let node = Node::start().await;
    let reply = told(&node, RESPONSES, json!({"input": "Hi", "max_output_tokens": 4})).await;
    assert_eq!(got(&node, &path_of(&reply)).await, (200, reply.clone()));
    let body = json!({"input": "Hi", "max_output_tokens": 4, "stream": true});
    let id = id_in(&node.bytes(RESPONSES, &body, "").await);
    assert_eq!(got(&node, &format!("{RESPONSES}/{id}")).await.1["status"], "incomplete");

    let unkept = told(&node, RESPONSES, json!({"input": "Hi", "store": false})).await;
    let id = unkept["id"].as_str().unwrap();
    assert_eq!(got(&node, &path_of(&unkept)).await, (404, not_found(id)));
    assert_eq!(got(&node, "/v1/responses/x").await, (404, not_found("x")));
    assert_eq!(node.client.delete(node.url(&path_of(&reply))).send().await.unwrap().status(), 405);
}

#[tokio::test]
async fn a_conversation_goes_on_from_an_earlier_response() {
    let node = Node::start().await;
    let body = json!({"input": "Hi", "max_output_tokens": 4, "instructions": "Be brief"});
    let first = told(&node, RESPONSES, body).await;
    let body =
        json!({"input": "And?", "max_output_tokens": 4, "previous_response_id": first["id"]});
    let second = told(&node, RESPONSES, body).await;
    assert_eq!(second["previous_response_id"], first["id"]);
    // The same in one piece, and without the instructions of before.
    let whole = json!({"max_output_tokens": 4, "input": [
        {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "You said: Hi"},
        {"role": "user", "content": "And?"},
    ]});
    let whole = told(&node, RESPONSES, whole).await;
    assert_eq!(second["usage"]["input_tokens"], whole["usage"]["input_tokens"]);

    let body = json!({"input": "And?", "previous_response_id": "resp_none"});
    let reply = node.post(RESPONSES, &body).send().await.unwrap();
    assert_eq!(
        (reply.status().as_u16(), reply.json().await.unwrap()),
        (404, not_found("resp_none"))
    );
}

#[tokio::test]
async fn what_is_kept_in_the_cache_is_counted() {
    let node = Node::start().await;
    let long = "word ".repeat(60);
    let usage = async |body: Value| told(&node, RESPONSES, body).await["usage"].clone();
    let first = usage(json!({"input": long})).await;
    let details = &first["input_tokens_details"];
    assert_eq!(
        (&details["cached_tokens"], &details["cache_write_tokens"]),
        (&json!(0), &json!(64))
    );
    let second = usage(json!({"input": long})).await;
    let details = &second["input_tokens_details"];
    assert_eq!(
        (&details["cached_tokens"], &details["cache_write_tokens"]),
        (&json!(64), &json!(0))
    );
}

#[tokio::test]
async fn a_response_is_made_in_the_background() {
    let node = Node::start().await;
    node.sim.pause();
    let queued = told(&node, RESPONSES, background()).await;
    assert_eq!((&queued["status"], &queued["output"]), (&json!("queued"), &json!([])));
    assert_eq!((&queued["background"], &queued["usage"]), (&json!(true), &Value::Null));
    assert_eq!(got(&node, &path_of(&queued)).await, (200, queued.clone()));

    node.sim.resume();
    soon(node.sim.wait_until(|counts| counts.finished == 1)).await;
    let (_, made) = got(&node, &path_of(&queued)).await;
    assert_eq!((&made["id"], &made["status"]), (&queued["id"], &json!("incomplete")));
    assert_eq!(made["output"][0]["content"][0]["text"], "You said: Hi");
    let (status, refused) = cancelled(&node, queued["id"].as_str().unwrap()).await;
    assert_eq!(
        (status, &refused["error"]["message"]),
        (400, &json!("Cannot cancel a synchronous response."))
    );
}

#[tokio::test]
async fn a_response_in_the_background_can_be_cancelled() {
    let node = Node::with(Settings { token_delay: FOREVER, ..Settings::default() }).await;
    let queued = told(&node, RESPONSES, background()).await;
    let id = queued["id"].as_str().unwrap();
    soon(node.sim.wait_until(|counts| counts.running == 1)).await;
    let (status, reply) = cancelled(&node, id).await;
    assert_eq!((status, &reply["status"], &reply["id"]), (200, &json!("cancelled"), &queued["id"]));
    soon(node.sim.wait_until(|counts| counts.running == 0 && counts.aborted == 1)).await;
    assert_eq!(got(&node, &path_of(&queued)).await, (200, reply));
    let (status, again) = cancelled(&node, id).await;
    assert_eq!(
        (status, again),
        (
            400,
            json!({"error": {"message": "Cannot cancel a synchronous response.", "type": "invalid_request_error",
            "param": "response_id", "code": 400}})
        )
    );
    assert_eq!(cancelled(&node, "resp_none").await, (404, not_found("resp_none")));
}

#[tokio::test]
async fn a_stream_in_the_background_goes_on_without_its_client() {
    let node = Node::start().await;
    node.sim.pause();
    let body = with(background(), json!({"stream": true}));
    let mut client = node.send(RESPONSES, &body, "").await;
    let begun = read_until(&mut client, "response.in_progress\"}").await;
    let id = id_in(&begun);
    drop(client);
    node.sim.resume();
    soon(node.sim.wait_until(|counts| counts.finished == 1)).await;
    assert_eq!(node.sim.aborted(), 0);

    let all = node.get(&format!("{RESPONSES}/{id}?stream=true")).await.text().await.unwrap();
    assert_eq!(all.matches("event: ").count(), 12);
    assert!(all.contains(&id) && all.contains("event: response.created\n"));
    let rest = format!("{RESPONSES}/{id}?stream=true&starting_after=9");
    let rest = node.get(&rest).await.text().await.unwrap();
    assert!(
        all.ends_with(&rest) && rest.starts_with("event: response.output_item.done\n"),
        "{rest}"
    );
}

#[tokio::test]
async fn several_clients_follow_one_response() {
    let node = Node::start().await;
    node.sim.pause();
    let body = with(background(), json!({"stream": true}));
    let mut first = node.send(RESPONSES, &body, "").await;
    let begun = read_until(&mut first, "response.in_progress\"}").await;
    let path = format!("{RESPONSES}/{}?stream=1", id_in(&begun));
    let followed = async { node.get(&path).await.text().await.unwrap() };
    let made = async {
        soon(node.sim.wait_until(|counts| counts.arrived == 2)).await;
        node.sim.resume();
        read_until(&mut first, "response.completed\"}").await
    };
    let (followed, made) = soon(async { tokio::join!(followed, made) }).await;
    assert!(followed.ends_with("\"type\":\"response.completed\"}\n\n"), "{followed}");
    assert!(made.contains("event: response.completed\n"));
}

#[tokio::test]
async fn a_response_that_was_no_stream_has_no_events() {
    let node = Node::start().await;
    let reply = told(&node, RESPONSES, json!({"input": "Hi"})).await;
    let stream = node.get(&format!("{}?stream=true", path_of(&reply))).await;
    assert_eq!(stream.status(), 200);
    assert_eq!(stream.headers()["content-type"], "text/event-stream; charset=utf-8");
    assert!(stream.text().await.is_err());
    let (status, refused) = got(&node, &format!("{}?stream=maybe", path_of(&reply))).await;
    assert_eq!((status, &refused["error"]["param"]), (400, &json!("query.stream")));
}

#[tokio::test]
async fn a_response_in_the_background_stays_queued_when_the_engine_dies() {
    let node = Node::start().await;
    let body = with(background(), json!({"stream": true}));
    let mut client = node.send(RESPONSES, &body, "x-sim-fault: die-after=3\r\n").await;
    let begun = read_until(&mut client, "output_item.added\"}").await;
    soon(node.sim.wait_until(|counts| counts.finished == 1)).await;
    let path = format!("{RESPONSES}/{}", id_in(&begun));
    assert_eq!(got(&node, &path).await.1["status"], "queued");
}

#[tokio::test]
async fn a_node_ends_with_its_background() {
    let slow = Settings { token_delay: FOREVER, ..Settings::default() };
    let node = Node::with(slow).await;
    told(&node, RESPONSES, background()).await;
    soon(node.sim.kill()).await;

    let node = Node::start().await;
    node.sim.pause();
    told(&node, RESPONSES, background()).await;
    node.sim.resume();
    soon(node.sim.shutdown()).await;
}

#[tokio::test]
async fn a_node_without_a_store_keeps_nothing() {
    let node = Node::with(Settings { responses_api_store: false, ..Settings::default() }).await;
    let reply = told(&node, RESPONSES, json!({"input": "Hi", "store": true})).await;
    assert_eq!(got(&node, &path_of(&reply)).await.0, 404);
    let refused = told(&node, RESPONSES, background()).await;
    assert_eq!(
        refused["error"],
        json!({"message": "This vLLM engine does not support `store=True` and therefore does not support the background mode. To enable these features, set the environment variable `VLLM_ENABLE_RESPONSES_API_STORE=1` when launching the vLLM server.", "type": "invalid_request_error", "param": "background", "code": 400})
    );
    let refused = told(&node, RESPONSES, with(background(), json!({"store": false}))).await;
    assert_eq!(
        refused["error"],
        json!({"message": "background can only be used when `store` is true (parameter=background)", "type": "BadRequestError", "param": "background", "code": 400})
    );
}
