//! `routes.yaml` takes effect while the gateway runs, however it is changed (row A2).

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::chat_route;
use super::process::{Port, Process};
use crate::support::gateway::{Setup, chat};
use crate::support::scripted::Scripted;
use crate::support::{KEY, TestGateway, eventually, within};

/// Two nodes, and the tables that lead to either.
struct Two {
    _nodes: [Scripted; 2],
    old: String,
    new: String,
}

async fn two() -> Two {
    let nodes = [Scripted::replying("old").await, Scripted::replying("new").await];
    let table = |node: &Scripted| format!("routes:\n{}", chat_route(node.addr, "k"));
    let (old, new) = (table(&nodes[0]), table(&nodes[1]));
    Two { _nodes: nodes, old, new }
}

/// Which of the two answers.
async fn who(gateway: &TestGateway) -> String {
    gateway.chat("m").send().await.unwrap().text().await.unwrap()
}

fn last_was_good(gateway: &TestGateway) -> bool {
    gateway.series("sluice_config_last_reload_successful") == 1.0
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_routes_yaml_takes_effect_edited_in_place_renamed_over_or_swapped_by_symlink() {
    let Two { old, new, .. } = &two().await;
    let gateway = TestGateway::start(old).await;
    let file = gateway.file("routes.yaml");
    assert_eq!(who(&gateway).await, "old");

    gateway.after_reload(|| std::fs::write(&file, new).unwrap()).await;
    assert_eq!(who(&gateway).await, "new");

    let beside = gateway.file("routes.yaml.tmp");
    std::fs::write(&beside, old).unwrap();
    gateway.after_reload(|| std::fs::rename(&beside, &file).unwrap()).await;
    assert_eq!(who(&gateway).await, "old");

    // As Kubernetes mounts a ConfigMap: routes.yaml → ..data/routes.yaml, ..data → a folder of this version.
    let version = |name: &str, text: &str| {
        std::fs::create_dir(gateway.file(name)).unwrap();
        std::fs::write(gateway.file(name).join("routes.yaml"), text).unwrap();
    };
    let point = |link: &str, to: &str| {
        let beside = gateway.file("link.tmp");
        symlink(Path::new(to), &beside).unwrap();
        std::fs::rename(&beside, gateway.file(link)).unwrap();
    };
    version("..2026_01", old);
    version("..2026_02", new);
    point("..data", "..2026_01");
    point("routes.yaml", "..data/routes.yaml");
    gateway.after_reload(|| point("..data", "..2026_02")).await;
    assert_eq!(who(&gateway).await, "new");
    std::fs::remove_dir_all(gateway.file("..2026_01")).unwrap();
    version("..2026_03", old);
    gateway.after_reload(|| point("..data", "..2026_03")).await;
    assert_eq!(who(&gateway).await, "old");
    assert!(last_was_good(&gateway));
    assert_eq!(gateway.series("sluice_config_generation"), 5.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_a_file_that_is_gone_leaves_the_old_table_until_it_returns() {
    let Two { old, new, .. } = &two().await;
    let gateway = TestGateway::start(old).await;
    let file = gateway.file("routes.yaml");
    gateway.after_reload(|| std::fs::remove_file(&file).unwrap()).await;
    assert_eq!(who(&gateway).await, "old");
    assert!(!last_was_good(&gateway));
    gateway.after_reload(|| std::fs::write(&file, new).unwrap()).await;
    assert_eq!(who(&gateway).await, "new");
    assert!(last_was_good(&gateway));
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_a_broken_file_leaves_the_old_table() {
    let Two { old, new, .. } = &two().await;
    let gateway = TestGateway::start(old).await;
    let file = gateway.file("routes.yaml");
    let half = &new.as_bytes()[..new.len() / 2];
    let huge = vec![b'#'; 17 << 20];
    let broken: [&[u8]; 6] =
        [b"", b"routes: []\n", b"routes:\n  - path: [\n", b"\x7fELF\0\xff\xfe", half, &huge];
    for bytes in broken {
        gateway.after_reload(|| std::fs::write(&file, bytes).unwrap()).await;
        assert!(!last_was_good(&gateway), "{:?}", &bytes[..bytes.len().min(99)]);
        assert_eq!(who(&gateway).await, "old");
    }
    let scraped = gateway.client.get(format!("http://{}/metrics", gateway.admin));
    let scraped = scraped.send().await.unwrap().text().await.unwrap();
    assert!(scraped.contains("\nsluice_config_last_reload_successful 0\n"), "{scraped}");
    assert_eq!(gateway.series("sluice_config_generation"), 1.0);
    gateway.after_reload(|| std::fs::write(&file, new).unwrap()).await;
    assert_eq!(who(&gateway).await, "new");
    assert!(last_was_good(&gateway));
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_a_hundred_writes_in_a_second_fail_no_request() {
    let Two { old, new, .. } = &two().await;
    let gateway = TestGateway::start(old).await;
    let file = gateway.file("routes.yaml");
    let written = AtomicBool::new(false);
    let write = async {
        let mut turn = tokio::time::interval(Duration::from_millis(10));
        for number in 0..100 {
            turn.tick().await;
            std::fs::write(&file, if number % 2 == 0 { new } else { old }).unwrap();
        }
        std::fs::write(&file, new).unwrap();
        written.store(true, Ordering::Relaxed);
    };
    let load = || async {
        let mut answered = 0;
        while !written.load(Ordering::Relaxed) {
            let reply = gateway.chat("m").send().await.unwrap();
            assert_eq!(reply.status(), 200);
            assert!(["old", "new"].contains(&&*reply.text().await.unwrap()));
            answered += 1;
        }
        assert!(answered > 0);
    };
    within(async { tokio::join!(write, load(), load(), load()) }).await;
    eventually(|| async { who(&gateway).await == "new" && last_was_good(&gateway) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_requests_in_flight_end_on_the_table_they_began_with() {
    let (came, mut arrived) = tokio::sync::mpsc::channel(1);
    let (release, released) = tokio::sync::watch::channel(false);
    let slow = Scripted::start(move |_, mut peer| {
        let (came, mut released) = (came.clone(), released.clone());
        async move {
            peer.request().await;
            came.send(()).await.unwrap();
            released.wait_for(|released| *released).await.unwrap();
            peer.answer("200 OK", "old").await;
        }
    })
    .await;
    let Two { new, .. } = &two().await;
    let gateway = Setup::routes(&format!("routes:\n{}", chat_route(slow.addr, "k"))).start().await;
    let change = async {
        within(arrived.recv()).await.unwrap();
        gateway.rewrite_routes(new).await;
        assert_eq!(who(&gateway).await, "new");
        release.send(true).unwrap();
    };
    assert_eq!(tokio::join!(who(&gateway), change).0, "old");
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_sighup_reads_the_files_anew() {
    let Two { old, .. } = &two().await;
    let (dir, port) = (tempfile::tempdir().unwrap(), Port::of([127, 0, 0, 1]));
    std::fs::write(dir.path().join("routes.yaml"), old).unwrap();
    let listen = port.addr.to_string();
    let arguments = ["--config", ".", "--listen", &listen];
    let variables = [("PROXY_SECRET_KEY", KEY)];
    let process = Process::serve(dir.path(), &arguments, &variables, port.addr).await;
    process.signal("HUP");
    // Unchanged files are read too: an operator who asks is answered.
    process.complained("configuration 2 is in effect").await;
    let client = reqwest::Client::new();
    let url = format!("http://{listen}/v1/chat/completions");
    let reply = client.post(url).bearer_auth(KEY).json(&chat("m")).send().await.unwrap();
    assert_eq!(reply.text().await.unwrap(), "old");
    assert_eq!(process.stop().await.code, Some(0));
}
