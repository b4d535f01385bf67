//! What one line of an event stream tells of the stream's end.

use super::Form;

/// What OpenAI's older streams end with.
const DONE: &[u8] = b"[DONE]";

/// What the data of an error begins with, after a brace.
const ERROR_FIELD: &[u8] = b"\"error\"";

/// The type of an event that is an error.
const ERROR_EVENT: &[u8] = b"error";

/// What a line is, as far as it has come.
pub(super) enum Kind<'a> {
    /// It must be whole to be known.
    Open,
    Done,
    EndEvent,
    ErrorEvent,
    /// The data of an error, or what looks like it.
    Error(&'a [u8]),
    Other,
}

/// `whole`: the line's end has come. `error`: its event has said that it is one.
pub(super) fn kind(form: Form, (line, whole): (&[u8], bool), error: bool) -> Kind<'_> {
    let may_become = |known: &[u8], given: &[u8]| !whole && known.starts_with(given);
    if let Some(data) = value(line, b"data:") {
        return of_data(form, (data, whole), error);
    }
    if let Some(name) = value(line, b"event:") {
        let ends = match form {
            Form::Choices => &[],
            Form::Events(ends) => ends,
        };
        return if whole && name == ERROR_EVENT {
            Kind::ErrorEvent
        } else if whole && ends.contains(&name) {
            Kind::EndEvent
        } else if [ERROR_EVENT].iter().chain(ends).any(|known| may_become(known, name)) {
            Kind::Open
        } else {
            Kind::Other
        };
    }
    let open = may_become(b"data:", line) || may_become(b"event:", line);
    if open { Kind::Open } else { Kind::Other }
}

fn of_data(form: Form, (data, whole): (&[u8], bool), error: bool) -> Kind<'_> {
    let may_become = |known: &[u8], given: &[u8]| !whole && known.starts_with(given);
    let begin = data.trim_ascii_start();
    let object = begin.strip_prefix(b"{").map(<[u8]>::trim_ascii_start);
    if error || object.is_some_and(|object| object.starts_with(ERROR_FIELD)) {
        return if whole { Kind::Error(data) } else { Kind::Open };
    }
    let may_be_object = begin.is_empty() && !whole;
    let may_be_error = object.is_some_and(|object| may_become(ERROR_FIELD, object));
    let text = data.trim_ascii_end();
    let may_be_done = may_become(DONE, data) || (!whole && text == DONE);
    if may_be_object || may_be_error || may_be_done {
        return Kind::Open;
    }
    let done = whole && form == Form::Choices && text == DONE;
    if done { Kind::Done } else { Kind::Other }
}

/// The value of a line of this field (WHATWG HTML, "Server-sent events": one space before it is not its).
fn value<'a>(line: &'a [u8], field: &[u8]) -> Option<&'a [u8]> {
    let value = line.strip_prefix(field)?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}
