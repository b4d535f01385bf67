//! No command shows a key: neither where all is well, nor where something is wrong.

use super::{folder, sluice};
use crate::support::nowhere;

const SECRETS: [&str; 5] = ["hunter2", "5f4dcc3b", "Bearer-hunter", "xyzzy", "aHVudGVyMg"];

#[tokio::test(flavor = "multi_thread")]
async fn no_command_prints_a_key_however_it_is_given() {
    let dead = nowhere();
    let routes = format!(
        "upstreams:\n  \
         a: {{kind: vllm, nodes: ['http://{dead}'], key: 'sk-hunter2-a', key_prefix: 'Bearer-hunter '}}\n  \
         b: {{nodes: ['http://{dead}'], key_file: secret}}\n  \
         c: {{nodes: ['http://{dead}'], key: '${{NODE_KEY}}', key_header: x-api-key, key_prefix: ''}}\n\
         routes:\n  \
         - {{preset: vllm, upstream: a}}\n  \
         - {{path: /v1/score, methods: [POST], upstream: b}}\n  \
         - {{path: /v1/score, methods: [POST], upstream: c}}\n  \
         - {{path: /x, methods: [POST], upstream_url: 'http://{dead}/x', upstream_key: aHVudGVyMg}}\n"
    );
    let hash = "5f4dcc3b5aa765d61d8327deb882cf995f4dcc3b5aa765d61d8327deb882cf99";
    let keys = format!(
        "keys:\n  - {{name: plain, key: sk-hunter2-b}}\n  - {{name: hashed, key_sha256: {hash}}}\n  \
         - {{name: filed, key_file: secret, models: [m], expires: 2020-01-01T00:00:00Z}}\n"
    );
    let dir = folder(&[
        ("config/routes.yaml", &routes),
        ("config/keys.yaml", &keys),
        ("config/secret", "xyzzy-hunter2-c\n"),
        ("gateway.env", "INTERNAL_API_KEY=sk-hunter2-d\n"),
    ]);
    let variables = [
        ("NODE_KEY", "sk-hunter2-e"),
        ("PROXY_SECRET_KEY", "sk-hunter2-f"),
        ("ALLOWED_API_KEYS", "sk-hunter2-g,sk-hunter2-h"),
        ("VLLM_API_KEY", "sk-hunter2-i"),
        ("LOG_LEVEL", "trace"),
    ];
    let chat = ["explain", "POST", "/v1/chat/completions", "--model", "m", "--key"];
    let score = ["explain", "POST", "/v1/score", "--model", "m", "--key"];
    let mut commands = vec![
        vec!["check", "--effective", "--online"],
        vec!["explain", "POST", "/x?api_key=1"],
        vec!["schema", "keys"],
    ];
    for key in
        ["plain", "hashed", "filed", "proxy-secret-key", "internal-api-key", "allowed-2", "no"]
    {
        commands.push([&chat[..], &[key]].concat());
        commands.push([&score[..], &[key]].concat());
    }
    for arguments in &commands {
        let arguments = [&arguments[..], &["--env-file", "gateway.env"]].concat();
        let arguments = if arguments[0] == "schema" { &arguments[..2] } else { &arguments[..] };
        let ended = sluice(dir.path(), arguments, &variables).await;
        assert!(ended.code < 2, "{arguments:?}: {}", ended.err);
        let all = ended.out + &ended.err;
        assert!(SECRETS.iter().all(|secret| !all.contains(secret)), "{arguments:?}: {all}");
    }
    let broken =
        routes.replace("key_prefix", "key_perfix").replace("upstream_key:", "upstream_kye:");
    std::fs::write(dir.path().join("config/routes.yaml"), broken).unwrap();
    for arguments in [&["check", "--effective"][..], &["explain", "POST", "/x"]] {
        let ended = sluice(dir.path(), arguments, &variables).await;
        assert_eq!(ended.code, 78, "{arguments:?}");
        let all = ended.out + &ended.err;
        assert!(SECRETS.iter().all(|secret| !all.contains(secret)), "{arguments:?}: {all}");
    }
}
