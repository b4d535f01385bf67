//! What becomes of the files while the gateway runs (R38 to R41): a bad one never takes effect, a good one soon does.

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::alone::Alone;
use crate::support::gateway::{chat, preset};
use crate::support::scripted::Scripted;
use crate::support::{KEY, TestGateway, eventually, within};

/// A change is live within a second; ten times that where the gateway is not optimised, and the machine busy.
const LIVE: Duration = Duration::from_secs(10);

/// Two nodes, and the files that lead to either.
struct Two {
    nodes: [Scripted; 2],
    old: String,
    new: String,
}

async fn two() -> Two {
    let nodes = [Scripted::replying("old").await, Scripted::replying("new").await];
    let (old, new) = (preset(nodes[0].addr), preset(nodes[1].addr));
    Two { nodes, old, new }
}

/// Which of the two answers.
async fn who(gateway: &TestGateway) -> String {
    let reply = within(gateway.chat("m").send()).await.unwrap();
    assert_eq!(reply.status(), 200);
    reply.text().await.unwrap()
}

/// Chats that came to a node, each as it was sent: it is asked for its models, too.
fn chats(node: &Scripted) -> usize {
    let seen = node.seen();
    let chats = seen.iter().filter(|came| came.head.starts_with("POST /v1/chat/completions "));
    chats.inspect(|came| assert_eq!(came.body, chat("m").to_string().as_bytes())).count()
}

/// Waits until the new one answers, for no longer than a change may take.
async fn is_live(gateway: &TestGateway, since: Instant) {
    eventually(|| async { who(gateway).await == "new" }).await;
    assert!(since.elapsed() < LIVE, "{:?}", since.elapsed());
}

/// Ten lists, each of ten times the one before: a thousand million words in a kilobyte.
fn bomb(good: &str) -> Vec<u8> {
    let mut text = "x-0: &l0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..10 {
        let below = vec![format!("*l{}", level - 1); 10].join(", ");
        text += &format!("x-{level}: &l{level} [{below}]\n");
    }
    (text + good).into_bytes()
}

/// Files that say nothing, or nothing that makes sense.
fn bad_files(good: &str) -> Vec<(String, Vec<u8>)> {
    let bytes = |text: &str| text.as_bytes().to_vec();
    let swapped = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        (format!("{from} → {to}"), bytes(&good.replace(from, to)))
    };
    let mut files = vec![
        ("empty".to_owned(), Vec::new()),
        ("blank".to_owned(), bytes(" \n\n")),
        ("a comment".to_owned(), bytes("# nothing\n")),
        ("null".to_owned(), bytes("~\n")),
        ("a list".to_owned(), bytes("- routes\n")),
        ("a word".to_owned(), bytes("routes\n")),
        ("10 MB of comments".to_owned(), vec![b'#'; 10 << 20]),
        ("10 MB of binary".to_owned(), (0..10 << 20).map(|byte: u32| (byte % 251) as u8).collect()),
        ("17 MB behind a good file".to_owned(), {
            let mut huge = bytes(good);
            huge.extend(vec![b'#'; 17 << 20]);
            huge
        }),
        ("a program".to_owned(), b"\x7fELF\x02\x01\x01\0\xff\xfe\xfd".to_vec()),
        ("not UTF-8 at its end".to_owned(), [good.as_bytes(), b"# \xff\xfe\n"].concat()),
        ("UTF-16".to_owned(), good.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("a NUL".to_owned(), bytes(&good.replacen("nodes", "no\0des", 1))),
        ("two documents".to_owned(), bytes(&format!("{good}---\n{good}"))),
        ("an anchors bomb".to_owned(), bomb(good)),
        ("nested lists".to_owned(), bytes(&format!("x-deep: {}\n{good}", "[".repeat(20_000)))),
        ("nested maps".to_owned(), bytes(&format!("x-deep: {}1\n{good}", "{a: ".repeat(20_000)))),
        ("an unknown alias".to_owned(), bytes(&format!("x-a: *nobody\n{good}"))),
        ("a double section".to_owned(), bytes(&format!("{good}{good}"))),
        ("an unknown section".to_owned(), bytes(&format!("{good}rotues: []\n"))),
        ("a double upstream".to_owned(), {
            let (_, rest) = good.split_once('\n').unwrap();
            let (line, _) = rest.split_once('\n').unwrap();
            bytes(&good.replace(line, &format!("{line}\n{line}")))
        }),
        ("a double field".to_owned(), bytes(&good.replace("kind: vllm", "kind: vllm, kind: vllm"))),
    ];
    files.extend([
        swapped("kind: vllm", "kind: vlm"),
        swapped("kind: vllm", "kind: vllm, knd: 1"),
        swapped("kind: vllm", "kind: vllm, timeouts: { first_byte: 0s }"),
        swapped("kind: vllm", "kind: vllm, key_file: ../nothing.key"),
        swapped("kind: vllm", "kind: vllm, retry: { attempts: -1 }"),
        swapped("http://127.0.0.1:", "http://127.0.0.1:9"),
        swapped("http://127.0.0.1:", "http://:"),
        swapped("http://127.0.0.1:", "ftp://127.0.0.1:"),
        swapped("http://127.0.0.1:", "http://127.0.0.1:-"),
        swapped("http://127.0.0.1:", "http://user:pass@127.0.0.1:"),
        swapped("http://127.0.0.1:", "http://[::1:"),
        swapped("upstream: llama", "upstream: lama"),
        swapped("upstream: llama", "upstream: [llama]"),
        swapped("preset: vllm", "preset: vlm"),
        swapped("preset: vllm", "path: no-slash, methods: [POST]"),
        swapped("preset: vllm", "path: /a, methods: [PSOT]"),
        swapped("preset: vllm", "path: /a, methods: []"),
        swapped("  - { preset", "\t- { preset"),
    ]);
    // Cut off in the middle of a value: between a brace and its end nothing is whole.
    let open = |end: &usize| {
        let count = |brace| good[..*end].matches(brace).count();
        count('{') > count('}')
    };
    let cuts = (0..good.len()).filter(open).step_by(11);
    files.extend(cuts.map(|end| (format!("cut at {end}"), bytes(&good[..end]))));
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn r38_no_bad_file_takes_effect_and_each_is_counted_and_told() {
    let Two { nodes, old, new } = &two().await;
    let gateway = TestGateway::start(old).await;
    let file = gateway.file("routes.yaml");
    let files = bad_files(new);
    assert!(files.len() > 45, "{}", files.len());
    let status = format!("http://{}/api/status", gateway.admin);
    for (what, bytes) in &files {
        let failed = gateway.series_with("sluice_config_reloads_total", "failed");
        gateway.after_reload(|| std::fs::write(&file, bytes).unwrap()).await;
        assert_eq!(who(&gateway).await, "old", "{what}");
        assert!(gateway.series_with("sluice_config_reloads_total", "failed") > failed, "{what}");
        assert_eq!(gateway.series("sluice_config_last_reload_successful"), 0.0, "{what}");
        let told = gateway.client.get(&status).bearer_auth(KEY).send().await.unwrap();
        let told: serde_json::Value = told.json().await.unwrap();
        let told = told["failed_reload"]["message"].as_str().unwrap();
        assert!(told.contains("routes.yaml"), "{what}: {told}");
        assert!(told.len() < 4_096 && !told.contains("user:pass"), "{what}: {told}");
    }
    assert_eq!(gateway.series("sluice_config_generation"), 1.0);
    assert_eq!(gateway.series_with("sluice_config_reloads_total", "ok"), 1.0, "the start");
    assert_eq!(chats(&nodes[1]), 0);
    let written = Instant::now();
    std::fs::write(&file, new).unwrap();
    is_live(&gateway, written).await;
    assert_eq!(gateway.series("sluice_config_last_reload_successful"), 1.0);
    assert!(chats(&nodes[0]) >= files.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn r38_what_is_no_file_takes_no_effect_and_holds_nobody_up() {
    let Two { nodes, old, new } = &two().await;
    let gateway = TestGateway::start(old).await;
    let file = gateway.file("routes.yaml");
    let pipe = || {
        let made = std::process::Command::new("mkfifo").arg(&file).status().unwrap();
        assert!(made.success());
    };
    let kinds: [(&str, &dyn Fn()); 4] = [
        ("nothing", &|| {}),
        ("a folder", &|| std::fs::create_dir(&file).unwrap()),
        ("a link to itself", &|| symlink("routes.yaml", &file).unwrap()),
        ("a pipe that nobody writes to", &pipe),
    ];
    for (what, make) in kinds {
        gateway
            .after_reload(|| {
                match file.symlink_metadata() {
                    Ok(there) if there.is_dir() => std::fs::remove_dir(&file).unwrap(),
                    Ok(_) => std::fs::remove_file(&file).unwrap(),
                    Err(_) => {}
                }
                make();
            })
            .await;
        assert_eq!(who(&gateway).await, "old", "{what}");
        assert_eq!(gateway.series("sluice_config_last_reload_successful"), 0.0, "{what}");
    }
    std::fs::write(gateway.file("good"), new).unwrap();
    let written = Instant::now();
    std::fs::rename(gateway.file("good"), &file).unwrap();
    is_live(&gateway, written).await;
    assert!(chats(&nodes[0]) >= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn r38_a_bad_file_is_logged_by_line_and_without_its_text() {
    let node = Scripted::replying("{}").await;
    let gateway = Alone::before(node.addr, "").await;
    let typing_error =
        "routes:\n  - path: /a\n    metods: [POST]\n    upstream_url: http://user:sk-secret@h/a\n";
    std::fs::write(gateway.file("routes.yaml"), typing_error).unwrap();
    let told = gateway.process.complained("not taken").await;
    assert!(told.contains("routes.yaml:3:") && told.contains("methods"), "{told}");
    assert!(!told.contains("sk-secret"), "{told}");
    assert_eq!(within(gateway.chat().send()).await.unwrap().status(), 200);
    assert_eq!(gateway.series("sluice_config_last_reload_successful").await, 0.0);
    assert_eq!(node.seen().len(), 1);
}

/// Tools that keep the time of a file, and files of the same length: only what is in them tells.
#[tokio::test(flavor = "multi_thread")]
async fn r39_a_change_is_seen_by_what_is_in_the_file() {
    let nodes = [Scripted::replying("old").await, Scripted::replying("new").await];
    let both = nodes.each_ref().map(|node| preset(node.addr));
    // Of the same length, whatever the ports are.
    let longest = both[0].len().max(both[1].len());
    let [old, new] = both.map(|text| format!("{text}{}", "#".repeat(longest - text.len())));
    let gateway = TestGateway::start(&old).await;
    let file = gateway.file("routes.yaml");
    let time = std::fs::metadata(&file).unwrap().modified().unwrap();
    let in_place = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let opened = std::fs::File::options().write(true).open(&file).unwrap();
        opened.set_modified(time).unwrap();
    };
    let beside = |text: &str| {
        std::fs::write(gateway.file("beside"), text).unwrap();
        let opened = std::fs::File::options().write(true).open(gateway.file("beside")).unwrap();
        opened.set_modified(time).unwrap();
    };
    let renamed = |text: &str| {
        beside(text);
        std::fs::rename(gateway.file("beside"), &file).unwrap();
    };
    let linked = |text: &str| {
        let version = gateway.file(if text == new { "..new" } else { "..old" });
        std::fs::write(&version, text).unwrap();
        symlink(&version, gateway.file("link")).unwrap();
        std::fs::rename(gateway.file("link"), &file).unwrap();
    };
    let ways = ["in place", "renamed", "linked"];
    for way in ways {
        let write = |text: &str| match way {
            "in place" => in_place(text),
            "renamed" => renamed(text),
            _ => linked(text),
        };
        assert_eq!(who(&gateway).await, "old", "{way}");
        let written = Instant::now();
        write(&new);
        is_live(&gateway, written).await;
        write(&old);
        eventually(|| async { who(&gateway).await == "old" }).await;
    }
    assert_eq!(gateway.series_with("sluice_config_reloads_total", "failed"), 0.0);
}

/// Each table has a path of its own, and no request fails meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn r40_two_hundred_reloads_leave_neither_descriptors_nor_memory_behind() {
    const WARM: usize = 20;
    const RELOADS: usize = 200;
    let node = Scripted::replying("{}").await;
    let gateway = Alone::before(node.addr, "").await;
    let good = std::fs::read_to_string(gateway.file("routes.yaml")).unwrap();
    let reload = async |number: usize| {
        let more = format!("  - {{ path: /turn/{number}, methods: [POST], upstream: llama }}\n");
        std::fs::write(gateway.file("routes.yaml"), good.clone() + &more).unwrap();
        eventually(|| async {
            let sent = gateway.post(&format!("/turn/{number}")).body("{}").send();
            within(sent).await.unwrap().status() == 200
        })
        .await;
    };
    for number in 0..WARM {
        reload(number).await;
    }
    let before = (gateway.descriptors(), gateway.resident_bytes());
    for number in WARM..WARM + RELOADS {
        reload(number).await;
    }
    eventually(|| async { gateway.descriptors() <= before.0 + 3 }).await;
    let grown = gateway.resident_bytes().saturating_sub(before.1);
    assert!(grown < 20 << 20, "{grown}");
    let turns = node.seen();
    assert_eq!(turns.len(), WARM + RELOADS, "each path was found once, by its own table");
    assert!(turns.iter().enumerate().all(|(number, came)| {
        came.head.starts_with(&format!("POST /turn/{number} ")) && came.body == b"{}"
    }));
}

#[tokio::test(flavor = "multi_thread")]
async fn r41_the_last_of_a_hundred_writes_a_second_wins_and_none_fails_a_request() {
    const WRITES: usize = 100;
    let Two { nodes, old, new } = &two().await;
    let gateway = TestGateway::start(old).await;
    let file = gateway.file("routes.yaml");
    let (over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let write = async {
        let mut turn = tokio::time::interval(Duration::from_secs(1) / WRITES as u32);
        for number in 1..WRITES {
            turn.tick().await;
            // Each is another one, and now and then one that is none.
            let text = if number % 10 == 0 { "routes: [" } else { old };
            std::fs::write(&file, format!("{text}# {number}\n")).unwrap();
        }
        std::fs::write(&file, new).unwrap();
        let written = Instant::now();
        over.store(true, Ordering::Relaxed);
        written
    };
    let load = async {
        while !over.load(Ordering::Relaxed) {
            assert!(["old", "new"].contains(&&*who(&gateway).await));
            asked.fetch_add(1, Ordering::Relaxed);
        }
    };
    let (written, ()) = within(async { tokio::join!(write, load) }).await;
    is_live(&gateway, written).await;
    assert!(asked.load(Ordering::Relaxed) > 0);
    let tried = gateway.series("sluice_config_reloads_total");
    assert!(tried < WRITES as f64 / 2.0, "nobody reads them all: {tried}");
    assert!(chats(&nodes[0]) + chats(&nodes[1]) >= asked.load(Ordering::Relaxed));
}
