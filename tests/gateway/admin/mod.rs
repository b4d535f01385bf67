//! The operators' listener: the page, who may see it, and what it may be told.

mod entrance;
mod metrics;
mod page;

use std::net::SocketAddr;
use std::path::Path;

use reqwest::RequestBuilder;

use crate::services::process::Process;
use crate::support::TestGateway;

/// `routes.yaml` of one upstream, which is not probed.
fn routes(node: SocketAddr) -> String {
    crate::support::gateway::preset(node)
}

fn get(gateway: &TestGateway, path: &str) -> RequestBuilder {
    gateway.client.get(format!("http://{}{path}", gateway.admin))
}

/// A form of the page: one field.
fn submit(gateway: &TestGateway, path: &str, field: (&str, &str)) -> RequestBuilder {
    gateway.client.post(format!("http://{}{path}", gateway.admin)).form(&[field])
}

async fn text(request: RequestBuilder) -> (u16, String) {
    let reply = request.send().await.unwrap();
    (reply.status().as_u16(), reply.text().await.unwrap())
}

/// A gateway as a process of its own, whose log can be read, and where its operators connect.
async fn process(dir: &Path, node: SocketAddr, variables: &[(&str, &str)]) -> (Process, String) {
    std::fs::write(dir.join("routes.yaml"), routes(node)).unwrap();
    let any = "127.0.0.1:0";
    let arguments = ["serve", "--config", ".", "--listen", any, "--admin-listen", any];
    let process = Process::start(dir, &arguments, variables);
    let told = process.complained("operators on http://").await;
    let (_, operators) = told.split_once("operators on ").unwrap();
    let end = operators.find(|c: char| !c.is_ascii_graphic() || c == '"').unwrap();
    (process, operators[..end].to_owned())
}
