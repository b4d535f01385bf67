//! `sluice init`: from nothing to a gateway that serves.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sluice::config::{Environment, Texts, parse};

use super::{folder, sluice};
use crate::services::process::{Port, Process};
use crate::support::gateway::written;
use crate::support::node;
use crate::support::tls::Authority;

/// Every file that is written, and who may read it.
const FILES: [(&str, u32); 6] = [
    ("keys.schema.json", 0o644),
    ("keys.yaml", 0o600),
    ("routes.schema.json", 0o644),
    ("routes.yaml", 0o600),
    ("server.schema.json", 0o644),
    ("server.yaml", 0o644),
];

/// The files of a folder by name, with what is in them.
fn contents(dir: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.map(|one| (one.file_name().into_string().unwrap(), written(&one.path()))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_init_writes_is_checked_served_and_asked_as_it_says() {
    let upstream = node(&["llama"]).await;
    let (dir, port) = (folder(&[]), Port::of([127, 0, 0, 1]));
    let number = port.number();
    let variables = [("PORT", &*number)];
    let init = sluice(dir.path(), &["init"], &variables).await;
    assert_eq!(init.code, 0, "{}", init.err);

    let config = dir.path().join("config");
    let files = contents(&config);
    assert_eq!(
        files.keys().collect::<Vec<_>>(),
        FILES.map(|(name, _)| name).iter().collect::<Vec<_>>()
    );
    for (name, mode) in FILES {
        let metadata = std::fs::metadata(config.join(name)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{name}");
    }
    let key = init.line("  sk-").trim();
    assert!(files.values().all(|text| !text.contains(key)), "the key itself is stored nowhere");
    let check = sluice(dir.path(), &["check"], &variables).await;
    assert_eq!((check.code, &*check.err), (0, ""), "{}", check.out);

    let routes = files["routes.yaml"].replace("vllm:8000", &upstream.addr().to_string());
    std::fs::write(config.join("routes.yaml"), routes).unwrap();
    let online = sluice(dir.path(), &["check", "--online"], &variables).await;
    assert_eq!(online.code, 0, "{}", online.out);
    let process = Process::serve(dir.path(), &[], &variables, port.addr).await;
    // curl URL -H 'NAME: VALUE'
    let line: Vec<&str> = init.line("  curl ").split('\'').collect();
    let (url, (name, value)) =
        (line[0].split_whitespace().nth(1).unwrap(), line[1].split_once(": ").unwrap());
    assert_eq!(url, format!("http://{}/v1/models", port.addr));
    let reply = reqwest::Client::new().get(url).header(name, value).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert!(reply.text().await.unwrap().contains("llama"));
    assert_eq!(reqwest::get(url).await.unwrap().status(), 401);
    assert_eq!(process.stop().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_overwritten_and_nothing_half_written() {
    let mine = [("some/server.yaml", "no: setting\n"), ("file", "mine\n")];
    let dir = folder(&mine);
    for _ in 0..2 {
        let ended = sluice(dir.path(), &["init", "--config", "some"], &[]).await;
        assert_eq!((ended.code, &*ended.out), (1, ""));
        assert!(
            ended.err.contains("some/server.yaml") && !ended.err.contains("routes"),
            "{}",
            ended.err
        );
        assert_eq!(contents(&dir.path().join("some")).len(), 1);
    }
    let ended = sluice(dir.path(), &["init", "--config", "file"], &[]).await;
    assert_eq!((ended.code, &*ended.out), (1, ""));
    assert_eq!(written(&dir.path().join("file")), "mine\n");

    let first = sluice(dir.path(), &["init", "--config", "it's/new"], &[]).await;
    assert_eq!(first.code, 0, "{}", first.err);
    assert_eq!(first.line("  sluice serve"), r"  sluice serve --config 'it'\''s/new'");
    let before = contents(&dir.path().join("it's/new"));
    let again = sluice(dir.path(), &["init"], &[("SLUICE_CONFIG", "it's/new")]).await;
    assert_eq!((again.code, &*again.out), (1, ""));
    assert!(FILES.iter().all(|(name, _)| again.err.contains(name)), "{}", again.err);
    assert_eq!(contents(&dir.path().join("it's/new")), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_for_everybody_has_its_line_to_paste_too() {
    let dir = folder(&[]);
    let ended = sluice(dir.path(), &["init"], &[("HOST", "0.0.0.0"), ("PORT", "9")]).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    let asked = SocketAddr::from(([127, 0, 0, 1], 9));
    assert!(ended.line("  curl ").contains(&format!("http://{asked}/")), "{}", ended.out);
    let bad = folder(&[]);
    let ended = sluice(bad.path(), &["init"], &[("PORT", "http")]).await;
    assert_eq!(ended.code, 78, "{}", ended.out);
    assert!(contents(bad.path()).is_empty());
}

/// Lines of a file that hold a field in a comment, as in `    # balance: least_load`, with the field uncovered.
fn commented(text: &str) -> impl Iterator<Item = (&str, String)> {
    text.lines().filter_map(|line| {
        let (indent, rest) = line.split_once("# ")?;
        let (field, _) = rest.split_once(": ")?;
        let word = |c: char| c.is_ascii_lowercase() || c == '_';
        let is_field = indent.trim().is_empty() && field.chars().all(word);
        is_field.then(|| (line, format!("{indent}{rest}")))
    })
}

#[test]
fn what_stands_in_comments_of_the_shipped_routes_works_too() {
    let text = written(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config/routes.yaml"));
    let environment = Environment::from_iter([("VLLM_API_KEY", "k")]);
    let authority = Authority::new().pem;
    let mut fields = Vec::new();
    for (line, uncovered) in commented(&text) {
        fields.push(uncovered.trim().split_once(':').unwrap().0.to_owned());
        let mut routes = text.replacen(line, &uncovered, 1);
        if uncovered.trim().starts_with("dns:") {
            routes = routes.replacen("    nodes:", "    x-nodes:", 1);
        }
        if uncovered.trim().starts_with("tls:") {
            routes = routes.replacen("[http://vllm", "[https://vllm", 1);
        }
        let texts = Texts { routes: Some(&routes), keys: None };
        let read = parse(texts, &environment, None, &|path: &Path| {
            Ok(if path.ends_with("ca.pem") { authority.clone() } else { "key".to_owned() }.into())
        });
        assert!(read.is_ok(), "{line}: {}", read.unwrap_err());
    }
    for field in
        ["dns", "key", "tls", "models", "balance", "health", "timeouts", "retry", "fallbacks"]
    {
        assert!(fields.iter().any(|found| found == field), "{field} is not shown");
    }
}

/// With `UPDATE_DOCS=1` in the environment they are written instead.
#[test]
fn init_writes_the_shipped_examples() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["server.yaml", "routes.yaml", "keys.yaml"] {
        let (example, template) =
            (root.join("config").join(name), root.join("src/cli/init").join(name));
        if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
            std::fs::copy(&example, &template).unwrap();
        }
        let same = written(&example) == written(&template);
        assert!(same, "{name}: UPDATE_DOCS=1 cargo test --test gateway init writes the template");
    }
}
