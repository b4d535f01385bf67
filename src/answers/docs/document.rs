//! `/openapi.json`: what is known of every endpoint, of those that this configuration has.

use std::sync::OnceLock;

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::{Map, Value, json};

use super::{answer, refusals, sum};
use crate::access::permission;
use crate::answers::Answer;
use crate::refusal::Dialect;
use crate::routing::table::{RouteTable, shape_of};
use crate::wire::chats::Call;
use crate::wire::paths;

/// The document but for its paths.
const ABOUT: &str = include_str!("openapi/about.json");

/// What the gateway answers itself.
const GATEWAY: &str = include_str!("openapi/gateway.json");
const SESSIONS: &str = include_str!("openapi/sessions.json");

/// What nodes answer, where there are routes.
const NODES: [&str; 3] = [
    include_str!("openapi/inference.json"),
    include_str!("openapi/pooling.json"),
    include_str!("openapi/nodes.json"),
];

/// A path of [`NODES`] or [`GATEWAY`] that is described where another one is.
const SAME_AS: &str = "x-same-as";

const METHODS: [(Method, &str); 5] = [
    (Method::GET, "get"),
    (Method::POST, "post"),
    (Method::PUT, "put"),
    (Method::PATCH, "patch"),
    (Method::DELETE, "delete"),
];

/// The document of one configuration. Written when somebody first asks for it.
#[derive(Default)]
pub struct Document(OnceLock<(Bytes, String)>);

impl Document {
    /// The answer to a GET with these `headers`: of what is in `table`, and of `sessions` where there are any.
    pub fn answer(&self, table: &RouteTable, sessions: bool, headers: &HeaderMap) -> Answer {
        let (text, sum) = self.0.get_or_init(|| {
            let text = Bytes::from(of(table, sessions).to_string());
            let sum = sum(&text);
            (text, sum)
        });
        answer(headers, text.clone(), sum, "application/json")
    }
}

fn of(table: &RouteTable, sessions: bool) -> Value {
    let mut document = Value::Object(read(ABOUT));
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    document["components"]["responses"] = refusals::responses();
    let mut items = read(GATEWAY);
    if sessions {
        items.extend(read(SESSIONS));
    }
    let known: Map<String, Value> = NODES.into_iter().flat_map(read).collect();
    let shapes: Vec<(String, &String)> = known.keys().map(|path| (shape_of(path), path)).collect();
    for (path, methods) in table.paths() {
        let shape = shape_of(path);
        let described =
            shapes.iter().find(|(known, _)| *known == shape).map(|(_, path)| path.as_str());
        let path = described.unwrap_or(path);
        for (method, name) in METHODS.into_iter().filter(|(method, _)| methods.contains(&method)) {
            let here = (method == Method::GET && paths::answered_here(path))
                || (sessions && Call::of_path(path).is_some());
            if here {
                continue;
            }
            let operation = known.get(path).and_then(|methods| methods.get(name)).cloned();
            let item = items.entry(path).or_insert_with(|| json!({}));
            item[name] = routed(operation.unwrap_or_else(|| unknown(&method, path)), path);
        }
    }
    document["paths"] = items.into();
    document
}

/// A part of the document. What is compiled in can be read: a test reads it.
fn read(text: &str) -> Map<String, Value> {
    let mut read: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    let whole = read.clone();
    for item in read.values_mut() {
        let other = item.get(SAME_AS).and_then(|path| whole.get(path.as_str()?));
        *item = other.unwrap_or(item).clone();
    }
    read
}

/// `operation` with all that holds of every request to a node.
fn routed(mut operation: Value, path: &str) -> Value {
    let mut parameters = vec!["TimeoutHeader", "TimeoutQuery", "RequestId"];
    if paths::operates(path) {
        parameters.push("Node");
    }
    let parameters = parameters
        .into_iter()
        .map(|name| json!({ "$ref": format!("#/components/parameters/{name}") }));
    match &mut operation["parameters"] {
        Value::Array(own) => own.extend(parameters),
        none => *none = parameters.collect(),
    }
    let scope = permission::scope_of(path);
    if scope == "admin" {
        let own = operation["description"].as_str().unwrap_or_default();
        let told = format!("{own} Needs a key with the scope `{scope}`.");
        operation["description"] = told.trim_start().into();
    }
    for (status, response) in refusals::of_nodes(Dialect::of(path)) {
        operation["responses"][status] = response;
    }
    operation
}

/// A route to what is not known here.
fn unknown(method: &Method, path: &str) -> Value {
    let parameters = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameter = |name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } });
    let mut operation = json!({
        "tags": ["Others"],
        "summary": "Passed on to a node",
        "parameters": parameters.map(parameter).collect::<Vec<_>>(),
        "responses": { "200": { "description": "What the node answers.", "content": { "*/*": {} } } },
    });
    if ![Method::GET, Method::DELETE].contains(method) {
        operation["requestBody"] = json!({ "content": { "application/json": {}, "*/*": {} } });
    }
    operation
}
