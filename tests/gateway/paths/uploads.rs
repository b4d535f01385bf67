//! Uploads of 25 MB: each arrives byte for byte, and is heard to its end.

use bytes::Bytes;
use reqwest::Method;

use super::compared::{Ask, Ways};

const BOUNDARY: &str = "the-boundary-of-the-uploads";

/// A form with a WAV in which every byte differs from its neighbours; nothing in it is text.
fn form() -> Vec<u8> {
    let part = |head: &str| {
        format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n").into_bytes()
    };
    let mut form = part("name=\"model\"");
    form.extend(b"llama\r\n");
    form.extend(part("name=\"file\"; filename=\"a.wav\""));
    form.extend(b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\xff\xff\xff\xff");
    let sound = (0..25_u32 << 20).map(|place| (place.wrapping_mul(2_654_435_761) >> 23) as u8);
    form.extend(sound);
    form.extend(format!("\r\n--{BOUNDARY}--\r\n").into_bytes());
    form
}

async fn an_upload_arrives(path: &'static str) {
    let ways = Ways::to(&[(path, vec![Method::POST])]).await;
    let body = ("multipart/form-data; boundary=the-boundary-of-the-uploads", Bytes::from(form()));
    assert!(body.1.len() > 25 << 20);
    let ask = Ask { method: Method::POST, target: format!("{path}?a=b"), body: Some(body) };
    for gateway in [&ways.preset, &ways.short] {
        ways.compare(gateway, &ask).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transcription_of_25_mb_arrives_byte_for_byte() {
    an_upload_arrives("/v1/audio/transcriptions").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_translation_of_25_mb_arrives_byte_for_byte() {
    an_upload_arrives("/v1/audio/translations").await;
}
