//! What operators see of requests: series by node, model and key, streams under way, the last errors, the last five
//! minutes.

mod counted;
mod errors;
mod streams;
mod told;

use serde_json::Value;

use crate::support::TestGateway;

/// What operators see.
async fn status(gateway: &TestGateway) -> Value {
    let url = format!("http://{}/api/status", gateway.admin);
    gateway.client.get(url).send().await.unwrap().json().await.unwrap()
}
