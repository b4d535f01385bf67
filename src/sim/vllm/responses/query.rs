//! What a `GET` of an answer asks for.

use http::StatusCode;

use crate::sim::vllm::refusal::Refusal;

/// What a `GET` asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// The events, not the answer.
    pub(super) stream: bool,
    /// Those after the event of this number.
    pub(super) starting_after: Option<i64>,
}

impl Query {
    /// Reads the query of a request; of several values of one name the last holds.
    ///
    /// # Errors
    /// A value is none of its kind.
    pub(super) fn of(query: &str) -> Result<Self, Refusal> {
        let mut read = Self::default();
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "stream" => read.stream = switch(value)?,
                "starting_after" => read.starting_after = Some(number(value)?),
                _ => {}
            }
        }
        Ok(read)
    }
}

fn switch(value: &str) -> Result<bool, Refusal> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" | "t" | "yes" | "y" | "on" => Ok(true),
        "0" | "false" | "f" | "no" | "n" | "off" => Ok(false),
        _ => Err(unread(
            ("stream", "bool_parsing"),
            "Input should be a valid boolean, unable to interpret input",
            value,
        )),
    }
}

fn number(value: &str) -> Result<i64, Refusal> {
    value.trim().parse().map_err(|_| {
        unread(
            ("starting_after", "int_parsing"),
            "Input should be a valid integer, unable to parse string as an integer",
            value,
        )
    })
}

/// A parameter of the query that is none.
fn unread((name, kind): (&str, &str), says: &str, value: &str) -> Refusal {
    Refusal::Other {
        status: StatusCode::BAD_REQUEST,
        kind: "Bad Request",
        says: format!(
            "1 validation error:\n  {{'type': '{kind}', 'loc': 'query.{name}', 'msg': '{says}', 'input': '{value}'}}"
        ),
        param: Some(format!("query.{name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_pydantic_reads_it() {
        let query = Query::of("starting_after=7&x&stream=Yes").unwrap();
        assert_eq!(query, Query { stream: true, starting_after: Some(7) });
        assert_eq!(Query::of("").unwrap(), Query::default());
        assert!(Query::of("stream=maybe").is_err() && Query::of("starting_after=z").is_err());
    }
}
