//! `/metrics` with a key of its own.

use super::{get, process, routes, text};
use crate::support::gateway::Setup;
use crate::support::{KEY, node};

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_key_opens_the_metrics_and_nothing_else() {
    let one = node(&["m"]).await;
    let setup = Setup::routes(&routes(one.addr())).operators_from_anywhere();
    let gateway = setup.flags(|flags| flags.metrics_key = Some("prom-key".into())).start().await;
    let refused = get(&gateway, "/metrics").send().await.unwrap();
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["www-authenticate"]),
        (401, &"Bearer".parse().unwrap())
    );
    for (key, status) in [("prom-key", 200), ("prom-ke", 401), ("prom-key1", 401), (KEY, 401)] {
        assert_eq!(text(get(&gateway, "/metrics").bearer_auth(key)).await.0, status, "{key}");
    }
    assert_eq!(text(get(&gateway, "/").bearer_auth("prom-key")).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_scrape_that_is_refused_is_logged() {
    let one = node(&["m"]).await;
    let dir = tempfile::tempdir().unwrap();
    let key = [("SLUICE_METRICS_KEY", "prom-key")];
    let (process, operators) = process(dir.path(), one.addr(), &key).await;
    let client = reqwest::Client::new();
    for _ in 0..2 {
        let asked = client.get(format!("{operators}/metrics")).send().await.unwrap();
        assert_eq!(asked.status(), 401);
    }
    process.complained("/metrics was refused").await;
    let told = process.stop().await.err;
    assert_eq!(told.matches("/metrics was refused").count(), 1, "{told}");
    assert!(!told.contains("prom-key"), "{told}");
}
