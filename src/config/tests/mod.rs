//! Tests of the configuration as a whole: text in, values or problems out.

mod effective;
mod environment;
mod health;
mod keys;
mod models;
mod node_tls;
mod nodes;
mod properties;
mod routes;
mod schema;
mod secrets;
mod settings;
mod upstreams;
mod yaml;

use std::io;
use std::path::Path;

use super::*;

/// The secret that no output may show.
const SECRET: &str = "sk-hunter2-never-shown";

/// Without a variable.
fn nothing() -> Environment {
    Environment::default()
}

/// With these variables.
fn env(variables: &[(&str, &str)]) -> Environment {
    variables.iter().copied().collect()
}

/// A file of any name is not there.
fn no_files(_: &Path) -> io::Result<Vec<u8>> {
    Err(io::ErrorKind::NotFound.into())
}

fn parse_all(
    routes: Option<&str>,
    keys: Option<&str>,
    environment: &Environment,
) -> Result<Config, Problems> {
    parse(Texts { routes, keys }, environment, None, &no_files)
}

/// A route table that must be right.
fn good(routes: &str) -> Config {
    parse_all(Some(routes), None, &nothing()).unwrap()
}

/// What is wrong with a route table, a line each.
fn bad(routes: &str) -> Vec<String> {
    lines(parse_all(Some(routes), None, &nothing()).unwrap_err())
}

/// What is wrong with a keys file, beside a good route table.
fn bad_keys(keys: &str) -> Vec<String> {
    lines(parse_all(Some(ROUTES), Some(keys), &nothing()).unwrap_err())
}

/// What is wrong with an environment without files.
fn bad_env(variables: &[(&str, &str)]) -> Vec<String> {
    lines(parse_all(None, None, &env(variables)).unwrap_err())
}

fn lines(problems: Problems) -> Vec<String> {
    problems.list.iter().map(ToString::to_string).collect()
}

/// The smallest route table.
const ROUTES: &str = "routes: [{path: /a, methods: [GET], upstream_url: 'http://h:1/a'}]";

/// One line per list, compared as text so that a failure shows both.
#[track_caller]
fn assert_lines(found: &[String], expected: &[&str]) {
    assert_eq!(found.join("\n"), expected.join("\n"));
}
