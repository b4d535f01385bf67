//! The model's place in a form is where its name stands, whatever the form.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sluice::wire::form;

fuzz_target!(|body: &[u8]| {
    let body = Bytes::copy_from_slice(body);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let read = runtime.block_on(form::read("multipart/form-data; boundary=X", &body));
    if let Ok(form::FormHead { model: Some(model), model_at: Some(at) }) = read {
        assert_eq!(&body[at], model.as_bytes());
    }
});
