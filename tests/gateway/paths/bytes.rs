//! Answers that are no text come back byte for byte, with a length or in chunks.

use reqwest::multipart::Form;

use crate::support::gateway::preset;
use crate::support::scripted::{Peer, Scripted};
use crate::support::{TestGateway, within};

/// All bytes that there are, again and again, so that they stand at the begin and the end of many reads.
fn answer() -> Vec<u8> {
    (0..=255).cycle().skip(10).take(300_001).collect()
}

/// Writes the answer with a length, or in chunks of odd sizes.
async fn write(peer: &mut Peer, chunked: bool) {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: audio/octet-stream\r\n";
    if !chunked {
        let length = answer().len();
        peer.send(format!("{head}content-length: {length}\r\n\r\n").as_bytes()).await;
        return peer.send(&answer()).await;
    }
    peer.send(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes()).await;
    for (place, chunk) in answer().chunks(4_099).enumerate() {
        let chunk = [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
        // In two writes: a chunk need not come in one piece.
        let (one, other) = chunk.split_at(place % chunk.len());
        peer.send(one).await;
        peer.send(other).await;
    }
    peer.send(b"0\r\n\r\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_any_bytes_comes_back_as_it_was() {
    for chunked in [false, true] {
        let upstream = Scripted::start(move |_, mut peer| async move {
            while peer.request().await.is_some() {
                write(&mut peer, chunked).await;
            }
        })
        .await;
        let short = format!(
            "routes:\n  - {{ path: /v1/audio/speech, methods: [POST], upstream_url: \"http://{}/v1/audio/speech\" }}\n",
            upstream.addr
        );
        let by_preset = ["/v1/embeddings", "/pooling", "/v1/audio/translations"];
        for (routes, paths) in
            [(preset(upstream.addr), by_preset.as_slice()), (short, &["/v1/audio/speech"])]
        {
            let gateway = TestGateway::start(&routes).await;
            for path in paths {
                let form = Form::new().text("model", "m");
                let request = gateway.post(path);
                let request = match path.ends_with("translations") {
                    true => request.multipart(form),
                    false => request.body("{\"model\":\"m\"}"),
                };
                let reply = within(request.send()).await.unwrap();
                assert_eq!(reply.status(), 200, "{path}");
                assert_eq!(reply.headers()["content-type"], "audio/octet-stream");
                let length = reply.headers().get("content-length").map(|n| n.to_str().unwrap());
                assert_eq!(length, (!chunked).then_some("300001"), "{path}");
                assert!(within(reply.bytes()).await.unwrap() == answer(), "{path} {chunked}");
            }
        }
    }
}
