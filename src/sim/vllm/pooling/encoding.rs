//! How numbers are sent: as JSON, as base64 in JSON, or as bytes alone (`encoding_format`).

use std::future::poll_fn;

use bytes::{BufMut, Bytes, BytesMut};
use data_encoding::BASE64;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde_json::Value;

use super::tensor::Tensor;
use super::{Pooled, refused};
use crate::sim::call::{Call, EngineDied};
use crate::sim::engine::{Finish, Flight};
use crate::sim::events::{Pause, Script, Step};
use crate::sim::reply::Reply;
use crate::sim::text::quoted;
use crate::sim::vllm::refusal::Refusal;

/// What a body asks for.
pub(super) struct Encoding {
    format: Format,
    /// As the body has it.
    endianness: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Float,
    Base64,
    /// Chunks of bytes, and in the header `metadata` what they are.
    Bytes,
    /// The same without that header.
    BytesOnly,
}

impl Encoding {
    /// What `body` asks for, which has one of the forms that know it.
    ///
    /// # Errors
    /// It asks for numbers that are not of 32 bits.
    pub(super) fn of(body: &Value) -> Result<Self, Refusal> {
        let word = |name: &str| body.get(name).and_then(Value::as_str);
        if let Some(dtype) = word("embed_dtype").filter(|dtype| *dtype != "float32") {
            return Err(refused(format!("The simulator makes float32 alone, not {dtype}.")));
        }
        let format = match word("encoding_format") {
            Some("base64") => Format::Base64,
            Some("bytes") => Format::Bytes,
            Some("bytes_only") => Format::BytesOnly,
            _ => Format::Float,
        };
        Ok(Self { format, endianness: word("endianness").unwrap_or("native").to_owned() })
    }

    /// The answer with what the engine made of each prompt; in JSON each is the field `name` of an `object`.
    pub(super) async fn reply(
        &self,
        call: &Call,
        pooled: &Pooled,
        tensors: Vec<Tensor>,
        (object, name): (&str, &str),
    ) -> Result<Reply, EngineDied> {
        if matches!(self.format, Format::Bytes | Format::BytesOnly) {
            return Ok(self.bytes_reply(call, pooled, &tensors).await);
        }
        let item = |(index, tensor): (usize, &Tensor)| {
            let numbers = match self.format {
                Format::Base64 => format!(r#""{}""#, BASE64.encode(&self.bytes(tensor))),
                _ => tensor.json(),
            };
            format!(r#"{{"index":{index},"object":"{object}","{name}":{numbers}}}"#)
        };
        let items = || tensors.iter().enumerate().map(item).collect::<Vec<_>>();
        pooled.whole(call, || pooled.list(&items())).await
    }

    /// One chunk for each prompt. The head waits for the engine too.
    async fn bytes_reply(&self, call: &Call, pooled: &Pooled, tensors: &[Tensor]) -> Reply {
        let chunks: Vec<Bytes> = tensors.iter().map(|tensor| self.bytes(tensor).into()).collect();
        let mut flight = pooled.begin(call);
        poll_fn(|cx| flight.poll_first_token(cx)).await;
        let mut reply = call.stream(flight, Chunks(chunks.into_iter()));
        let headers = reply.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        let metadata = HeaderValue::from_maybe_shared(Bytes::from(self.metadata(pooled, tensors)));
        if let (Format::Bytes, Ok(metadata)) = (self.format, metadata) {
            headers.insert("metadata", metadata);
        }
        reply
    }

    fn bytes(&self, tensor: &Tensor) -> Vec<u8> {
        let big = match self.endianness.as_str() {
            "big" => true,
            "little" => false,
            _ => cfg!(target_endian = "big"),
        };
        tensor.bytes(big)
    }

    /// Where each prompt's bytes are, with the spaces that Python writes.
    fn metadata(&self, pooled: &Pooled, tensors: &[Tensor]) -> String {
        let mut start = 0;
        let items: Vec<_> = tensors
            .iter()
            .enumerate()
            .map(|(index, tensor)| {
                let (end, shape) = (start + tensor.bytes(false).len(), tensor.shape());
                let endianness = quoted(&self.endianness);
                let item = format!(
                    r#"{{"index": {index}, "embed_dtype": "float32", "endianness": {endianness}, "start": {start}, "end": {end}, "shape": {shape}}}"#
                );
                start = end;
                item
            })
            .collect();
        let Pooled { id, created, model, .. } = pooled;
        let (items, tokens) = (items.join(", "), pooled.tokens());
        format!(
            r#"{{"id": "{id}", "created": {created}, "model": {model}, "data": [{items}], "usage": {{"prompt_tokens": {tokens}, "total_tokens": {tokens}}}}}"#
        )
    }
}

/// The body of an answer in bytes.
struct Chunks(std::vec::IntoIter<Bytes>);

impl Script for Chunks {
    fn next(&mut self, _: &Flight, out: &mut BytesMut) -> Option<Step> {
        out.put_slice(&self.0.next()?);
        Some(Step { pause: Pause::None, tokens: 0 })
    }

    fn finish(&self) -> Finish {
        Finish::Stop
    }

    fn last_words(&self) -> &'static [&'static str] {
        &[]
    }
}
