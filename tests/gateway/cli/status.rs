//! `sluice status` against a gateway that does well.

use crate::services::process::{Ended, Process};
use crate::support::{TestGateway, node, within};

async fn status(gateway: &TestGateway, more: &[&str]) -> Ended {
    let admin = gateway.admin.to_string();
    let arguments = [&["status", "--config", ".", "--admin-listen", &admin], more].concat();
    Process::start(gateway.dir.path(), &arguments, &[]).ended().await
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_and_a_configuration_that_is_not_taken_is_told() {
    let node = node(&["m"]).await;
    let gateway = TestGateway::before(node.addr()).await;
    within(gateway.chat("m").send()).await.unwrap().bytes().await.unwrap();
    let short = status(&gateway, &[]).await;
    assert_eq!(short.code, Some(0), "{}", short.err);
    assert!(short.out.starts_with("OK  sluice "), "{}", short.out);
    let row = short.out.lines().find(|line| line.starts_with("llama ")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells[1..4], [&*node.addr().to_string(), "up", "0"], "{row}");
    assert!(!short.out.contains("MODEL") && !short.out.contains("NOT TAKEN"), "{}", short.out);
    let all = status(&gateway, &["--all"]).await;
    assert!(all.out.contains("\nMODEL") && all.out.contains("\nKEY"), "{}", all.out);
    let json: serde_json::Value =
        serde_json::from_str(&status(&gateway, &["--json"]).await.out).unwrap();
    assert_eq!(json["state"], "ok");

    gateway.rewrite_routes("routes: [").await;
    let told = status(&gateway, &[]).await;
    assert!(told.out.contains("CONFIGURATION NOT TAKEN"), "{}", told.out);
    assert!(told.out.contains("routes.yaml"), "{}", told.out);
    let admin = gateway.admin.to_string();
    let watch = ["status", "--config", ".", "--admin-listen", &admin, "--watch"];
    let watch = Process::start(gateway.dir.path(), &watch, &[]);
    assert!(
        !watch.said("CONFIGURATION NOT TAKEN").await.contains('\u{1b}'),
        "no terminal, no codes"
    );
}
