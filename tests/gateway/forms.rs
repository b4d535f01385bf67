//! Multipart forms: the model is renamed where it stands, and no form names one model to us and another to a node.

use std::net::SocketAddr;

use crate::support::TestGateway;
use crate::support::gateway::{Setup, preset};
use crate::support::scripted::Scripted;
use crate::support::{eventually, within};

const LIMITED: &str = "sk-limited-key-of-the-tests";
const PATH: &str = "/v1/audio/transcriptions";
const PLAIN: &str = "multipart/form-data; boundary=XX";

async fn gateway(node: SocketAddr) -> TestGateway {
    Setup::routes(&(preset(node) + "aliases: { short: the-whole-name }\n"))
        .keys(&format!("keys:\n  - {{ name: team, key: {LIMITED}, models: [open, short] }}\n"))
        .start()
        .await
}

/// Parts, each with the lines of its head and its content.
fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (head, content) in parts {
        body.extend_from_slice(format!("--XX\r\n{head}\r\n\r\n").as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--XX--\r\n");
    body
}

const MODEL: &str = "Content-Disposition: form-data; name=\"model\"";
const FILE: &str =
    "Content-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav";

async fn send(gateway: &TestGateway, content_type: &str, body: Vec<u8>) -> (u16, String) {
    let request = gateway.client.post(gateway.url(PATH)).bearer_auth(LIMITED);
    let request = request.header("content-type", content_type).body(body);
    let reply = within(request.send()).await.unwrap();
    (reply.status().as_u16(), reply.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_in_a_form_is_renamed_and_nothing_else_changes() {
    let node = Scripted::replying("{}").await;
    let gateway = gateway(node.addr).await;
    // Content that looks like a form, and that no text could hold.
    let sound = b"\x00\xff\r\n--X\r\nname=\"model\"\r\n\r\nshort\r\n--XY\xfe".repeat(900_000);
    assert!(sound.len() > 25 << 20);
    for model_first in [true, false] {
        let parts = |model: &'static [u8]| {
            let mut parts = vec![(MODEL, model), (FILE, sound.as_slice())];
            if !model_first {
                parts.reverse();
            }
            form(&parts)
        };
        let (status, text) = send(&gateway, PLAIN, parts(b"short")).await;
        assert_eq!(status, 200, "{text}");
        let seen = node.seen();
        let came = seen.last().unwrap();
        assert!(came.body == parts(b"the-whole-name"), "{model_first}");
        assert_eq!(came.header("content-type"), Some(PLAIN));
    }
    eventually(|| async { gateway.series("sluice_held_request_bytes") == 0.0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_names_no_model_or_another_is_refused_to_a_limited_key() {
    let node = Scripted::replying("{}").await;
    let gateway = gateway(node.addr).await;
    for (body, expected, code) in [
        (form(&[(FILE, b"x")]), 400, "model_required"),
        (form(&[(MODEL, b"secret"), (FILE, b"x")]), 403, "model_not_allowed"),
        (form(&[(MODEL, b"open"), (MODEL, b"secret")]), 400, "duplicate_field"),
        (form(&[(MODEL, b"open"), (MODEL, b"open")]), 400, "duplicate_field"),
        (br#"{"model":"open"}"#.to_vec(), 400, "invalid_form"),
        (Vec::new(), 400, "invalid_form"),
    ] {
        let (status, text) = send(&gateway, PLAIN, body).await;
        assert_eq!(status, expected, "{text}");
        assert!(text.contains(code), "{text}");
    }
    assert_eq!(node.seen().len(), 0);
}

/// Each of these is `model` to the form parsers of Python, which take the last of two, and something else to others.
#[tokio::test(flavor = "multi_thread")]
async fn a_field_whose_name_has_two_readings_is_refused() {
    let node = Scripted::replying("{}").await;
    let gateway = gateway(node.addr).await;
    for head in [
        "Content-Disposition: form-data; name*=utf-8''model",
        "Content-Disposition: form-data; name*0=\"mo\"; name*1=\"del\"",
        "Content-Disposition: form-data; name=\"x\"; name=\"model\"",
        "Content-Disposition: form-data; name=\"x\"; NAME=\"model\"",
        "Content-Disposition: form-data; name=\"model\"; name=\"x\"",
        "Content-Disposition: form-data; name=\"x\"\r\nContent-Disposition: form-data; name=\"model\"",
        "Content-Disposition: form-data; name=\"model\"\r\nContent-Disposition: form-data; name=\"x\"",
        "Content-Disposition: form-data; filename=\"; name=x\"; name=\"model\"",
        "Content-Disposition: form-data; filename=\"a\\\"; name=\"model",
        "Content-Disposition: form-data; name=\"mod\\el\"",
        "Content-Disposition: form-data; x=\"name=y; \"; name=\"model\"",
        "Content-Disposition: form-data;\r\n name=\"model\"",
    ] {
        let body = form(&[(MODEL, b"open"), (head, b"secret")]);
        let (status, text) = send(&gateway, PLAIN, body).await;
        assert_eq!(status, 400, "{head}: {text}");
    }
    assert_eq!(node.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_whose_boundary_or_charset_has_two_readings_is_refused() {
    let node = Scripted::replying("{}").await;
    let gateway = gateway(node.addr).await;
    let inner = String::from_utf8(form(&[(MODEL, b"open")])).unwrap();
    let hidden = inner.replace("XX", "YY").replace("open", "secret");
    let both = form(&[(MODEL, b"open"), (FILE, hidden.as_bytes())]);
    for content_type in [
        "multipart/form-data; boundary=XX; boundary=YY",
        "multipart/form-data; boundary=XX; Boundary=YY",
        "multipart/form-data; boundary=XX; boundary*=utf-8''YY",
        "multipart/form-data; boundary=XX; boundary*0=YY",
        "multipart/form-data; boundary=XX; charset=utf-7",
        "multipart/mixed; boundary=XX",
        "application/json",
    ] {
        let (status, text) = send(&gateway, content_type, both.clone()).await;
        assert_eq!(status, 400, "{content_type}: {text}");
    }
    let request = gateway.client.post(gateway.url(PATH)).bearer_auth(LIMITED);
    let request = request
        .header("content-type", PLAIN)
        .header("content-type", "multipart/form-data; boundary=YY");
    assert_eq!(request.body(both).send().await.unwrap().status(), 400);
    assert_eq!(node.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_as_the_usual_clients_write_them_are_taken() {
    let node = Scripted::replying("{}").await;
    let gateway = gateway(node.addr).await;
    for file in [
        "Content-Disposition: form-data; name=\"file\"; filename=\"a; b=c.wav\"",
        "content-disposition: form-data; name=\"file\"; filename=\"%22x%22.wav\"\r\ncontent-type: audio/wav",
        "Content-Disposition: form-data; name=\"file\"; filename*=utf-8''%D1%84.wav",
        "Content-Disposition: form-data; name=\"file\"; filename=\"f.wav\"; filename*=utf-8''f.wav",
        "Content-Disposition: form-data; name=\"file\"; filename=\"\u{444}.wav\"",
        "Content-Disposition: form-data; name=\"timestamp_granularities[]\"",
        "Content-Type: audio/wav\r\nContent-Length: 1\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"",
        "Content-Disposition: form-data; name=file",
    ] {
        let body = form(&[(file, b"x"), (MODEL, b"open")]);
        let (status, text) = send(&gateway, "multipart/form-data; boundary=\"XX\"", body).await;
        assert_eq!(status, 200, "{file}: {text}");
    }
}
