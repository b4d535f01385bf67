//! The page where others than this machine can reach it: a key opens it, for a while.

use std::time::Duration;

use reqwest::header::{COOKIE, SET_COOKIE};

use super::{get, routes, submit, text};
use crate::support::gateway::Setup;
use crate::support::{TestGateway, node};

const ADMIN: &str = "sk-operator-of-the-tests";

const KEYS: &str = "keys:\n  - { name: operator, key: sk-operator-of-the-tests, scopes: [admin] }\n  - { name: team, key: sk-team }\n";

async fn gateway() -> (TestGateway, impl Sized) {
    let one = node(&["m"]).await;
    let setup = Setup::routes(&routes(one.addr())).keys(KEYS).operators_from_anywhere();
    (setup.start().await, one)
}

/// Signs in: the cookie.
async fn sign_in(gateway: &TestGateway) -> String {
    let reply = submit(gateway, "/login", ("key", ADMIN)).send().await.unwrap();
    assert_eq!((reply.status().as_u16(), reply.headers()["location"].as_bytes()), (303, &b"/"[..]));
    let cookie = reply.headers()[SET_COOKIE].to_str().unwrap();
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(attributes, "Max-Age=43200; Path=/; HttpOnly; SameSite=Strict");
    assert_eq!(pair.strip_prefix("sluice_session=").unwrap().len(), 64);
    pair.to_owned()
}

async fn with_cookie(gateway: &TestGateway, path: &str, cookie: &str) -> (u16, String) {
    text(get(gateway, path).header(COOKIE, cookie)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn r43_a_key_of_scope_admin_opens_the_page_until_somebody_signs_out() {
    let (gateway, _node) = gateway().await;
    let (status, form) = text(get(&gateway, "/")).await;
    assert_eq!(status, 401);
    assert!(form.contains("type=password autocomplete=off") && !form.contains("http://127."));
    assert_eq!(text(get(&gateway, "/api/status")).await.0, 401);
    let (status, form) = text(submit(&gateway, "/login", ("key", "sk-wrong"))).await;
    assert!(status == 401 && form.contains("there is no such key"), "{form}");
    let (status, form) = text(submit(&gateway, "/login", ("key", "sk-team"))).await;
    assert!(status == 403 && form.contains("no scope `admin`"), "{form}");
    let cookie = sign_in(&gateway).await;
    let (status, page) = with_cookie(&gateway, "/", &cookie).await;
    assert_eq!(status, 200);
    assert!(page.contains("operator <button>Sign out</button>") && !page.contains(ADMIN));
    assert_eq!(with_cookie(&gateway, "/api/status", &cookie).await.0, 200);
    assert_eq!(with_cookie(&gateway, "/", "sluice_session=ab; a=b").await.0, 401);
    let out = submit(&gateway, "/logout", ("x", "")).header(COOKIE, &cookie);
    let out = out.send().await.unwrap();
    assert_eq!(out.status(), 303);
    assert!(out.headers()[SET_COOKIE].to_str().unwrap().contains("Max-Age=0;"));
    assert_eq!(with_cookie(&gateway, "/", &cookie).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_bring_their_key_with_each_request() {
    let (gateway, node) = gateway().await;
    let (status, page) = text(get(&gateway, "/").bearer_auth(ADMIN)).await;
    assert!(status == 200 && !page.contains("Sign out"), "{status}");
    assert_eq!(text(get(&gateway, "/").bearer_auth("sk-team")).await.0, 403);
    let url = "http://127.0.0.1:1";
    assert_eq!(text(submit(&gateway, "/nodes", ("drain", url))).await.0, 401);
    assert_eq!(text(submit(&gateway, "/nodes", ("drain", url)).bearer_auth(ADMIN)).await.0, 404);
    drop(node);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_key() {
    let (gateway, _node) = gateway().await;
    let rewrite = async |keys: &str| {
        let file = gateway.file("keys.yaml");
        gateway.after_reload(|| std::fs::write(file, keys).unwrap()).await;
    };
    let cookie = sign_in(&gateway).await;
    rewrite(&KEYS.replace("name: team,", "name: other,")).await;
    assert_eq!(with_cookie(&gateway, "/", &cookie).await.0, 200);
    rewrite(&KEYS.replace("scopes: [admin]", "scopes: [inference]")).await;
    let (status, form) = with_cookie(&gateway, "/", &cookie).await;
    assert!(status == 403 && form.contains("type=password"), "{form}");
    rewrite(&KEYS.replace(ADMIN, "sk-another")).await;
    assert_eq!(with_cookie(&gateway, "/", &cookie).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_tries_keys_out_waits() {
    let (gateway, _node) = gateway().await;
    for _ in 0..10 {
        assert_eq!(text(submit(&gateway, "/login", ("key", "sk-wrong"))).await.0, 401);
    }
    let refused = submit(&gateway, "/login", ("key", ADMIN)).send().await.unwrap();
    assert_eq!(refused.status(), 429);
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(Duration::from_secs(wait) <= Duration::from_secs(61), "{wait}");
    assert!(refused.text().await.unwrap().contains("wait a minute"));
}
