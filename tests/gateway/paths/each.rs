//! A test for each path that `preset: vllm` has: parameters, query, body and answer.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use reqwest::Method;
use sluice::config::{Environment, Texts, parse};

use super::compared::{Ask, Ways};

/// Passed on as it is, whatever a node makes of it.
const QUERY: &str = "?mode=keep&q=a%2Fb&q=&starting_after=5";

/// What a body is sent as.
const JSON: &str = "application/json";
const FORM: &str = "multipart/form-data; boundary=\"a boundary\"";

/// A path, and the bodies that are sent to it where it takes any.
type Bodies<'a> = &'a [&'static str];

const NONE: Bodies<'_> = &[];

const CHAT: Bodies<'_> = &[
    " {\"model\" : \"llama\",\n\t\"messages\":[{\"role\":\"user\",\"content\":\"caf\\u00e9 \\ud83d\\ude00 café\"}],\"max_tokens\":7 }\r\n ",
    r#"{"model":"llama","messages":[{"role":"user","content":"Hi"}],"stream":true,"stream_options":{"include_usage":true}}"#,
    r#"{"model":"llama","messages":"none"}"#,
];

const COMPLETION: Bodies<'_> = &[
    " {\"model\":\"llama\" , \"prompt\":[1, 2,3],\"max_tokens\":2,\"no_such_field\":[1e3, 1.0 ]}",
    r#"{"model":"llama","prompt":"Hi","stream":true,"stream_options":{"include_usage":true}}"#,
    r#"{"model":"llama"}"#,
];

const RESPONSE: Bodies<'_> = &[
    "{ \"model\":\"llama\",\"input\":\"caf\\u00e9\" }\n",
    r#"{"model":"llama","input":"Hi","stream":true}"#,
    r#"{"model":"llama"}"#,
];

const MESSAGE: Bodies<'_> = &[
    "{ \"model\":\"llama\",\"max_tokens\":3,\"messages\":[{\"role\":\"user\",\"content\":\"caf\\u00e9\"}] }\n",
    r#"{"model":"llama","max_tokens":3,"messages":[{"role":"user","content":"Hi"}],"stream":true}"#,
    r#"{"model":"llama"}"#,
];

const EMBEDDING: Bodies<'_> = &[
    "{ \"model\":\"llama\",\"input\":[\"caf\\u00e9\", \"b\"] }\n",
    r#"{"model":"llama","input":[[1,2],[3]],"encoding_format":"base64"}"#,
    r#"{"model":"llama","input":"Hi","encoding_format":"bytes"}"#,
    r#"{"model":"llama"}"#,
];

const SCORE: Bodies<'_> = &[
    "{ \"model\":\"llama\",\"text_1\":\"a\", \"text_2\":[\"a\",\"b\"] }\n",
    r#"{"model":"llama","text_1":[],"text_2":"a"}"#,
];

const RERANK: Bodies<'_> = &[
    "{ \"model\":\"llama\",\"query\":\"a\", \"documents\":[\"b\",\"a\"],\"top_n\":1 }\n",
    r#"{"model":"llama","query":"a"}"#,
];

const GENERATE: Bodies<'_> = &[
    "{ \"model\":\"llama\",\"token_ids\":[40, 41],\"sampling_params\":{\"max_tokens\":3} }\n",
    r#"{"model":"llama","token_ids":[40],"sampling_params":{"max_tokens":3},"stream":true,"stream_options":{"include_usage":true}}"#,
    r#"{"model":"llama","token_ids":[]}"#,
];

const UPLOAD: Bodies<'_> = &[
    "--a boundary\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nllama\r\n--a boundary\r\n\
     Content-Disposition: form-data; name=\"file\"; filename=\"\u{444}.flac\"\r\nContent-Type: audio/flac\r\n\r\nfLaC\0\u{7f}\r\n--a boundary--\r\n",
    "--a boundary\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\r\nID3\r\n--a boundary\r\n\
     Content-Disposition: form-data; name=\"stream\"\r\n\r\ntrue\r\n--a boundary\r\n\
     Content-Disposition: form-data; name=\"model\"\r\n\r\nllama\r\n--a boundary--\r\n",
    "--a boundary\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nllama\r\n--a boundary--\r\n",
];

/// The paths of the preset and their methods, as a configuration has them.
fn preset() -> BTreeMap<String, Vec<Method>> {
    let routes =
        "upstreams:\n  a: { nodes: [\"http://a\"] }\nroutes:\n  - { preset: vllm, upstream: a }\n";
    let texts = Texts { routes: Some(routes), keys: None };
    let no_files = |_: &std::path::Path| unreachable!("no key has a file");
    let config = parse(texts, &Environment::default(), None, &no_files);
    let routes = config.map_err(|problems| problems.to_string()).unwrap().routes;
    routes.into_iter().map(|route| (route.path, route.methods)).collect()
}

/// Sends all of `bodies` by every method of `path`, by the preset and by a short route.
async fn the_same_as_directly(path: &str, bodies: Bodies<'_>) {
    let methods = preset().remove(path).unwrap();
    let made = ("/v1/responses", vec![Method::POST]);
    let mut short = vec![(path, methods.clone())];
    if path.contains('{') {
        short.push(made);
    }
    let ways = Ways::to(&short).await;
    let content_type = if path.starts_with("/v1/audio/") { FORM } else { JSON };
    for gateway in [&ways.preset, &ways.short] {
        let mut path = path.to_owned();
        if path.contains('{') {
            path = path.replace("{response_id}", &ways.response_id(gateway).await);
        }
        for method in &methods {
            let ask = Ask { method: method.clone(), target: format!("{path}{QUERY}"), body: None };
            if bodies.is_empty() {
                ways.compare(gateway, &ask).await;
            }
            for body in bodies {
                let body = Some((content_type, Bytes::from_static(body.as_bytes())));
                ways.compare(gateway, &Ask { body, ..ask.clone() }).await;
            }
        }
    }
}

macro_rules! each_path {
    ($($name:ident: $path:literal, $bodies:expr;)*) => {
        const TESTED: &[&str] = &[$($path),*];

        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                the_same_as_directly($path, $bodies).await;
            }
        )*
    };
}

each_path! {
    scale_elastic_ep: "/scale_elastic_ep", &["{ \"new_data_parallel_size\": 2 }", "{}"];
    is_scaling_elastic_ep: "/is_scaling_elastic_ep", NONE;
    tokenize: "/tokenize", &["{ \"model\":\"llama\",\"prompt\":\"caf\\u00e9\" }\n", r#"{"model":"llama"}"#];
    detokenize: "/detokenize", &["{ \"model\":\"llama\",\"tokens\":[1, 2] }\n", r#"{"model":"llama"}"#];
    generate: "/inference/v1/generate", GENERATE;
    pause: "/pause", NONE;
    resume: "/resume", NONE;
    is_paused: "/is_paused", NONE;
    metrics: "/metrics", NONE;
    load: "/load", NONE;
    version: "/version", NONE;
    responses: "/v1/responses", RESPONSE;
    response: "/v1/responses/{response_id}", NONE;
    cancel: "/v1/responses/{response_id}/cancel", NONE;
    messages: "/v1/messages", MESSAGE;
    count_tokens: "/v1/messages/count_tokens", &[MESSAGE[0], MESSAGE[2]];
    chat_completions: "/v1/chat/completions", CHAT;
    completions: "/v1/completions", COMPLETION;
    transcriptions: "/v1/audio/transcriptions", UPLOAD;
    translations: "/v1/audio/translations", UPLOAD;
    ping: "/ping", NONE;
    invocations: "/invocations", &[CHAT[0], CHAT[1], COMPLETION[1], EMBEDDING[0], SCORE[0], RERANK[0], r#"{"model":"llama","prompt":5}"#];
    classify: "/classify", &[EMBEDDING[0], r#"{"model":"llama"}"#];
    embeddings: "/v1/embeddings", EMBEDDING;
    score: "/score", SCORE;
    v1_score: "/v1/score", SCORE;
    rerank: "/rerank", RERANK;
    v1_rerank: "/v1/rerank", RERANK;
    v2_rerank: "/v2/rerank", RERANK;
    pooling: "/pooling", EMBEDDING;
}

#[test]
fn every_path_of_the_preset_has_a_test() {
    let table = preset();
    let paths: BTreeSet<_> = table.keys().map(String::as_str).collect();
    assert_eq!(paths, TESTED.iter().copied().collect());
}
