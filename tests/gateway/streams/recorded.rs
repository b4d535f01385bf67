//! Streams of a real vLLM, byte for byte: they pass as they are, and the one whose engine was killed does not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{code_at_end, read};
use crate::support::scripted::Scripted;
use crate::support::{TestGateway, within};

/// Beside the tests of the simulator, which was made after them.
const SAMPLES: &str = "tests/gateway/simulator/samples";

const RESPONSE: &str = "### RESPONSE (bytes as received)\n";

/// A recorded stream: the path that was asked, and the answer with its head.
struct Sample {
    name: PathBuf,
    path: String,
    answer: String,
}

impl Sample {
    /// None where the answer is no stream of events.
    fn read(name: PathBuf) -> Option<Self> {
        let text = String::from_utf8(std::fs::read(&name).unwrap()).ok()?;
        let (request, answer) = text.split_once(RESPONSE).unwrap_or(("", &text));
        let path = request.lines().find_map(|line| line.strip_prefix("POST "));
        let path = path.map_or("/v1/chat/completions", |line| line.split(' ').next().unwrap());
        let stream = answer.contains("content-type: text/event-stream");
        stream.then(|| Self { name, path: path.to_owned(), answer: answer.to_owned() })
    }

    /// The body as it was before it was cut into chunks.
    fn body(&self) -> String {
        let (_, mut rest) = self.answer.split_once("\r\n\r\n").unwrap();
        let mut body = String::new();
        loop {
            let (length, after) = rest.split_once("\r\n").unwrap();
            let length = usize::from_str_radix(length, 16).unwrap();
            if length == 0 {
                return body;
            }
            body += &after[..length];
            rest = &after[length + 2..];
        }
    }

    /// What a client is told of it: the text, and whether it ended well; and how many failures are counted.
    async fn through_the_gateway(&self) -> (String, bool, f64) {
        let answer = Arc::new(self.answer.clone());
        let node = Scripted::start(move |_, mut peer| {
            let answer = answer.clone();
            async move {
                while peer.request().await.is_some() {
                    peer.send(answer.as_bytes()).await;
                }
            }
        })
        .await;
        let gateway = TestGateway::before(node.addr).await;
        let request = gateway.post(&self.path).body(r#"{"model":"m","stream":true}"#);
        let reply = within(request.send()).await.unwrap();
        assert_eq!(reply.status(), 200, "{:?}", self.name);
        let (text, well) = read(reply).await;
        gateway.log_lines(1).await;
        (text, well, gateway.series("sluice_upstream_failures_total"))
    }
}

fn samples(folder: &str) -> Vec<Sample> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(SAMPLES).join(folder);
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.is_file()).filter_map(Sample::read).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_vllm_streams_passes_as_it_is() {
    let all = samples("plain").into_iter().chain(samples("options"));
    let mut passed = 0;
    for sample in all {
        let told = sample.through_the_gateway().await;
        assert_eq!(told, (sample.body(), true, 0.0), "{:?}", sample.name);
        passed += 1;
    }
    assert!(passed > 20, "{passed} samples");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_of_a_killed_engine_ends_with_our_error() {
    let samples = samples("");
    let killed =
        samples.iter().find(|sample| sample.name.ends_with("engine_killed_mid_stream.http"));
    let killed = killed.unwrap();
    let (text, well, failures) = killed.through_the_gateway().await;
    let body = killed.body();
    let (before, _) = body.split_once("data: {\"error\"").unwrap();
    assert!(well && text.starts_with(before) && !text[before.len()..].contains("[DONE]"));
    assert_eq!(text[before.len()..].matches("data: ").count(), 1, "{text}");
    assert_eq!((&*code_at_end(&text), failures), ("upstream_error", 1.0));
}
