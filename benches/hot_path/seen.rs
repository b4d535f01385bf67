//! What it costs to see requests, and to tell of them.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sluice::metrics::{
    KeyReading, KeyTraffic, Known, Metrics, NodeReading, Reading, Tokens, Traffic, between_tokens,
};
use sluice::wire::finish::Finish;
use sluice::wire::stream_end::StreamEnd;
use sluice::wire::token_events::TokenEvents;
use sluice::wire::usage::Tally;

use super::{Step, step};

/// What it takes to see a request and a chunk, and a scrape of all that may be there.
pub(crate) fn steps() -> Vec<Step> {
    const CHUNK: &[u8] = b"data: {\"id\":\"chatcmpl-7d1c\",\"object\":\"chat.completion.chunk\",\"created\":1764400000,\"model\":\"llama-3.1-8b\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},\"logprobs\":null,\"finish_reason\":null,\"token_ids\":null}]}\n\n";
    let metrics = Arc::new(Metrics::new().unwrap());
    for model in 0..50 {
        metrics.of_model(Some(&format!("org/model-{model:02}")), Known::Listed);
    }
    let node = Arc::<Traffic>::default();
    let key = Arc::<KeyTraffic>::default();
    let tokens = Tokens { prompt: 900, cached: 400, completion: 120 };
    let mut tally = Tally::default();
    let mut events = TokenEvents::of_path("/v1/chat/completions");
    let (of_chunk, stream) = (node.clone(), metrics.of_model(Some("org/model-07"), Known::Listed));
    let request = metrics.clone();
    let steps = vec![
        step("seen: a request, by node, model and key", move || {
            let model = request.of_model(black_box(Some("org/model-07")), Known::Listed);
            model.answered(200, black_box(tokens));
            node.answered(200, black_box(tokens));
            key.answered(200, black_box(tokens));
            request.took(black_box(Duration::from_micros(70)));
        }),
        step("seen: a chunk of a stream, by node and model", move || {
            let (came, brought) = (Instant::now(), events.look(black_box(CHUNK), true));
            let each = between_tokens(black_box(Duration::from_millis(20)));
            for traffic in [&of_chunk, &stream] {
                traffic.next_tokens(each, brought.tokens);
                traffic.made(brought.tokens);
            }
            black_box(came.elapsed());
        }),
        step("seen: the usage in a chunk that tells none", move || tally.push(black_box(CHUNK))),
    ];
    steps.into_iter().chain(finish()).chain([scrape()]).collect()
}

/// Why an answer ends: a chunk of each dialect, and a chat of 4 KB.
fn finish() -> Vec<Step> {
    const CHAT: &str = "/v1/chat/completions";
    let chunks = [
        (
            CHAT,
            "data: {\"id\":\"chatcmpl-98a4e02810e0d685\",\"object\":\"chat.completion.chunk\",\"created\":1795201551,\"model\":\"tiny-llama\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"quick\"},\"logprobs\":null,\"finish_reason\":null,\"token_ids\":null}]}\n\n",
        ),
        (
            "/v1/messages",
            "event: content_block_delta\ndata: {\"index\":0,\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"quick\"}}\n\n",
        ),
        (
            "/v1/responses",
            "event: response.output_text.delta\ndata: {\"content_index\":0,\"delta\":\"quick\",\"item_id\":\"msg_98a4e02810e0d685\",\"logprobs\":[],\"output_index\":0,\"sequence_number\":7,\"type\":\"response.output_text.delta\"}\n\n",
        ),
    ];
    let mut steps: Vec<Step> = chunks
        .into_iter()
        .map(|(path, chunk)| {
            let (mut end, chunk) =
                (StreamEnd::of_path(path).unwrap(), Bytes::from_static(chunk.as_bytes()));
            step(format!("stream end: a chunk of {path}"), move || {
                drop(black_box(end.push(chunk.clone())))
            })
        })
        .collect();
    let answer = format!(
        r#"{{"id":"c","object":"chat.completion","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}"}},"logprobs":null,"finish_reason":"stop","stop_reason":null}}],"usage":{{"prompt_tokens":12}}}}"#,
        "The quick brown fox. ".repeat(190)
    );
    let new = Finish::of_path(CHAT).unwrap();
    steps.push(step("finish reason: a chat of 4 KB", move || {
        let mut finish = new.clone();
        black_box(finish.push(black_box(answer.as_bytes())));
        black_box(finish.reason());
    }));
    steps
}

/// Of 64 nodes, 50 models and 1,000 keys, all of them with traffic.
fn scrape() -> Step {
    let metrics = Metrics::new().unwrap();
    let tokens = Tokens { prompt: 900, cached: 400, completion: 120 };
    let busy = |traffic: &Traffic| {
        for status in [200, 400, 502] {
            traffic.answered(status, tokens);
        }
        (1..500).for_each(|n| traffic.first_token(Duration::from_millis(n * 7)));
        (1..500).for_each(|n| traffic.next_tokens(between_tokens(Duration::from_millis(n)), 3));
    };
    (0..50)
        .for_each(|n| busy(&metrics.of_model(Some(&format!("org/model-{n:02}")), Known::Listed)));
    let node = |n| {
        let traffic = Arc::<Traffic>::default();
        busy(&traffic);
        NodeReading {
            node: format!("http://gpu-{n:02}.cluster.internal:8000"),
            state: "up",
            reason: None,
            lasted: Duration::ZERO,
            takes_work: true,
            in_flight: 12,
            load_bytes: 120_000,
            foreign: 1,
            gauges: Some((12, 3)),
            kv_cache: Some(0.7),
            prefix_hits: Some(0.4),
            traffic,
        }
    };
    let key = |n| {
        let traffic = Arc::<KeyTraffic>::default();
        [200, 429].into_iter().for_each(|status| traffic.answered(status, tokens));
        KeyReading { key: format!("team-of-application-{n:04}"), traffic }
    };
    let reading = Reading {
        nodes: (0..64).map(node).collect(),
        keys: (0..1_000).map(key).collect(),
        queued: 0,
        prefix_bytes: 0,
    };
    metrics.read_by(Box::new(move || reading.clone()));
    let bytes = metrics.render().unwrap().len();
    step(
        format!("seen: a scrape of 64 nodes, 50 models, 1,000 keys, {} KB", bytes >> 10),
        move || {
            black_box(metrics.render().unwrap().len());
        },
    )
}
