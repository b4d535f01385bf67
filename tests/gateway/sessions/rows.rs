//! Each promise of the chat gateway with sessions (rows E1 to E8).

use reqwest::Method;
use serde_json::{Value, json};
use sluice::sim::Settings;

use super::{NODE_KEY, answered, ask, begin, chats, error, guarded, init, post, replaced, said};
use crate::support::gateway::Setup;
use crate::support::{eventually, node, node_with};

#[tokio::test(flavor = "multi_thread")]
async fn e1_a_session_is_begun_with_the_key_of_the_node_and_no_other() {
    let node = guarded().await;
    let gateway = replaced(&node).start().await;
    let begun = init(&gateway, NODE_KEY).await;
    assert_eq!(begun.status(), 200);
    let begun: Value = begun.json().await.unwrap();
    let id = begun["session_id"].as_str().unwrap();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert_eq!(begun["expires_in"], 600);
    for key in ["sk-wrong", "", "sk-nod", "sk-node "] {
        assert_eq!(
            error(init(&gateway, key).await).await,
            (401, "invalid_api_key".into()),
            "{key:?}"
        );
    }
    let nothing = post(&gateway, "/init_session", json!({})).await;
    assert_eq!(error(nothing).await, (400, "invalid_json".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn e1_where_nobody_has_told_the_key_the_node_is_asked() {
    let node = guarded().await;
    let base = format!("http://{}", node.addr());
    let gateway =
        Setup::bare().env("VLLM_BASE_URL", &base).env("SESSION_TTL_SECONDS", "60").start().await;
    for key in ["sk-wrong", ""] {
        assert_eq!(
            error(init(&gateway, key).await).await,
            (401, "invalid_api_key".into()),
            "{key:?}"
        );
    }
    let id = begin(&gateway, NODE_KEY).await;
    assert_eq!(answered(&gateway, &id, "Hello").await["finish_reason"], "stop");
    // The key went up with the question, and the model is the one that the node lists.
    let seen = node.requests().pop().unwrap();
    assert_eq!(seen.headers["authorization"], format!("Bearer {NODE_KEY}"));
    assert_eq!(chats(&node)[0]["model"], "m");
}

#[tokio::test(flavor = "multi_thread")]
async fn e2_a_session_begins_in_russian_or_as_its_client_says() {
    let node = guarded().await;
    let gateway = replaced(&node).start().await;
    let id = begin(&gateway, NODE_KEY).await;
    answered(&gateway, &id, "Привет").await;
    let (role, text) = said(&node).remove(0);
    assert!(role == "system" && text.starts_with("Ты — полезный ассистент"), "{text}");
    let set = json!({ "session_id": id, "system_prompt": "Answer in verse." });
    assert_eq!(post(&gateway, "/set_system_prompt", set).await.status(), 200);
    answered(&gateway, &id, "Hello").await;
    assert_eq!(said(&node)[0], ("system".into(), "Answer in verse.".into()));
    let none = json!({ "session_id": id, "system_prompt": "" });
    assert_eq!(post(&gateway, "/set_system_prompt", none).await.status(), 200);
    answered(&gateway, &id, "Hello").await;
    assert_eq!(said(&node)[0], ("user".into(), "Привет".into()));
    let unknown = json!({ "session_id": "00", "system_prompt": "" });
    let unknown = post(&gateway, "/set_system_prompt", unknown).await;
    assert_eq!(error(unknown).await, (404, "session_not_found".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn e3_a_question_is_answered_with_its_tokens_and_extra_goes_to_the_node() {
    let node = guarded().await;
    let gateway = replaced(&node).start().await;
    let id = begin(&gateway, NODE_KEY).await;
    let extra = json!({ "top_p": 0.9, "repetition_penalty": 1.1 });
    let more = json!({ "max_tokens": 5, "temperature": 0.2, "extra": extra });
    let reply = ask(&gateway, &id, "Hello", more).await;
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.headers()["content-type"], "application/json");
    let reply: Value = reply.json().await.unwrap();
    let number = |name: &str| reply[name].as_u64().unwrap();
    assert_eq!((number("output_tokens"), reply["finish_reason"].as_str()), (5, Some("length")));
    assert!(number("input_tokens") > 0);
    assert_eq!(number("total_tokens"), number("input_tokens") + 5);
    assert_eq!(reply.as_object().unwrap().len(), 5);
    let asked = chats(&node).remove(0);
    let numbers = ["max_tokens", "temperature", "top_p", "repetition_penalty"];
    assert_eq!(
        numbers.map(|name| asked[name].clone()),
        [json!(5), json!(0.2), json!(0.9), json!(1.1)]
    );
    // What was said is part of the next question.
    answered(&gateway, &id, "And then?").await;
    let text = reply["reply"].as_str().unwrap().to_owned();
    let wanted = [("user", "Hello"), ("assistant", &text), ("user", "And then?")];
    let wanted = wanted.map(|(role, text)| (role.to_owned(), text.to_owned()));
    assert_eq!(said(&node)[1..], wanted);
    for name in ["model", "messages", "stream", "stream_options", "max_tokens", "n"] {
        let reply = ask(&gateway, &id, "Hello", json!({ "extra": { name: 1 } })).await;
        assert_eq!(error(reply).await, (400, "reserved_field".into()), "{name}");
    }
    assert_eq!(chats(&node).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn e5_a_session_ends_when_it_is_stopped_or_nobody_uses_it() {
    let node = guarded().await;
    let gateway = replaced(&node).env("SESSION_TTL_SECONDS", "1").start().await;
    let (stopped, idle) = (begin(&gateway, NODE_KEY).await, begin(&gateway, NODE_KEY).await);
    assert_eq!(gateway.series("sluice_sessions"), 2.0);
    let stop = |id: &str| post(&gateway, "/stop_session", json!({ "session_id": id }));
    assert_eq!(stop(&stopped).await.status(), 200);
    assert_eq!(error(stop(&stopped).await).await, (404, "session_not_found".into()));
    // A cleaner runs.
    eventually(|| async { gateway.series("sluice_sessions") == 0.0 }).await;
    assert_eq!(gateway.series("sluice_session_bytes"), 0.0);
    for id in [&stopped, &idle, "unknown"] {
        let reply = ask(&gateway, id, "Hello", json!({})).await;
        assert_eq!(error(reply).await, (404, "session_not_found".into()), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e6_after_it_is_begun_a_session_needs_nothing_but_its_id() {
    let node = guarded().await;
    let gateway = replaced(&node).env("PROXY_SECRET_KEY", crate::support::KEY).start().await;
    let id = begin(&gateway, NODE_KEY).await;
    answered(&gateway, &id, "Hello").await;
    // Everything else needs its key as before.
    let chat = crate::support::gateway::chat("m");
    assert_eq!(post(&gateway, "/v1/chat/completions", chat).await.status(), 401);
    for path in ["/chat", "/init_session"] {
        let got = gateway.get(path).send().await.unwrap();
        assert_eq!(
            (got.status().as_u16(), got.headers()["allow"].to_str().unwrap()),
            (405, "POST")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e7_health_is_open_and_pages_of_other_origins_may_chat_where_a_setting_says_so() {
    let node = guarded().await;
    let gateway = replaced(&node).env("CORS_ALLOW_ORIGINS", "*").start().await;
    let health = gateway.client.get(gateway.url("/health")).send().await.unwrap();
    assert_eq!(health.status(), 200);
    assert!(health.json::<Value>().await.unwrap()["status"].is_string());
    let asked = gateway.client.request(Method::OPTIONS, gateway.url("/chat"));
    let asked = asked.header("origin", "http://page.example");
    let asked = asked.header("access-control-request-method", "POST").send().await.unwrap();
    assert_eq!(
        (asked.status().as_u16(), &asked.headers()["access-control-allow-origin"]),
        (204, &"*".parse().unwrap())
    );
    let begin = gateway.client.post(gateway.url("/init_session"));
    let begun =
        begin.header("origin", "http://page.example").json(&json!({ "vllm_api_key": NODE_KEY }));
    let begun = begun.send().await.unwrap();
    assert_eq!(begun.headers()["access-control-allow-origin"], "*");
}

#[tokio::test(flavor = "multi_thread")]
async fn e8_the_base_url_may_end_in_v1_or_not_and_the_model_may_be_called_by_its_folder() {
    let folder = "/models/Qwen2.5-7B-Instruct";
    let (models, api_keys) = (vec![folder.into()], vec![NODE_KEY.to_owned()]);
    let node = node_with(Settings { models, api_keys, ..Settings::default() }).await;
    for end in ["", "/", "/v1", "/v1/"] {
        let base = format!("http://{}{end}", node.addr());
        let gateway = replaced(&node).env("VLLM_BASE_URL", &base);
        let gateway = gateway.env("VLLM_MODEL_NAME", folder).start().await;
        let id = begin(&gateway, NODE_KEY).await;
        answered(&gateway, &id, "Hello").await;
        assert_eq!(chats(&node).pop().unwrap()["model"], folder, "{end}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_setting_there_are_no_sessions() {
    let node = node(&["m"]).await;
    let gateway = Setup::routes(&crate::support::gateway::preset(node.addr())).start().await;
    let reply = gateway.post("/init_session").json(&json!({ "vllm_api_key": "x" })).send().await;
    assert_eq!(error(reply.unwrap()).await, (404, "route_not_found".into()));
    assert_eq!(init(&gateway, crate::support::KEY).await.status(), 401);
}
