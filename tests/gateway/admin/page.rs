//! The page on this machine, where nobody is asked for a key.

use reqwest::Method;

use super::{get, process, routes, submit, text};
use crate::support::{TestGateway, node, nowhere};

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_the_nodes_and_how_they_are() {
    let one = node(&["m"]).await;
    let gateway = TestGateway::start(&routes(one.addr())).await;
    let (status, page) = text(get(&gateway, "/")).await;
    assert_eq!(status, 200);
    for told in [
        "aria-live=polite>OK</p>",
        "configuration 1 in effect",
        &format!("<th scope=row>http://{}</th><td><span class=\"state up\">up</span>", one.addr()),
        &format!("<button name=drain value=\"http://{}\"", one.addr()),
    ] {
        assert!(page.contains(told), "{told} is not in {page}");
    }
    assert!(!page.contains("sk-"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_button_drains_a_node_without_a_script() {
    let one = node(&["m"]).await;
    let gateway = TestGateway::start(&routes(one.addr())).await;
    let url = format!("http://{}", one.addr());
    let pressed = submit(&gateway, "/nodes", ("drain", &url)).send().await.unwrap();
    assert_eq!(
        (pressed.status().as_u16(), &pressed.headers()["location"]),
        (303, &"/".parse().unwrap())
    );
    let (_, page) = text(get(&gateway, "/")).await;
    assert!(page.contains("an operator took it out") && page.contains("name=undrain"), "{page}");
    assert_eq!(text(submit(&gateway, "/nodes", ("undrain", &url))).await.0, 303);
    let (_, page) = text(get(&gateway, "/")).await;
    assert!(page.contains("<button name=drain"), "{page}");
    let gone = format!("http://{}", nowhere());
    let (status, page) = text(submit(&gateway, "/nodes", ("drain", &gone))).await;
    assert!(status == 404 && page.contains("there is no such node"), "{status} {page}");
    assert_eq!(text(submit(&gateway, "/nodes", ("other", &url))).await.0, 400);
    assert_eq!(text(submit(&gateway, "/nodes", ("drain", &"x".repeat(20_000)))).await.0, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn r43_pages_of_strangers_press_no_button() {
    let one = node(&["m"]).await;
    let gateway = TestGateway::start(&routes(one.addr())).await;
    let url = format!("http://{}", one.addr());
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "null"),
        ("origin", "http://evil.example"),
        ("host", "evil.example:9464"),
    ] {
        for (path, field) in [("/nodes", "drain"), ("/login", "key"), ("/logout", "x")] {
            let asked = submit(&gateway, path, (field, &url)).header(name, value);
            assert_eq!(text(asked).await.0, 403, "{path} {name} {value}");
        }
    }
    assert!(text(get(&gateway, "/")).await.1.contains("<button name=drain"));
    let own = submit(&gateway, "/nodes", ("drain", &url)).header("sec-fetch-site", "same-origin");
    let own = own.header("origin", format!("http://{}", gateway.admin));
    assert_eq!(text(own).await.0, 303);
    let rebound = get(&gateway, "/").header("host", "evil.example:9464");
    assert_eq!(text(rebound).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_says_what_a_page_may_do() {
    let one = node(&["m"]).await;
    let gateway = TestGateway::start(&routes(one.addr())).await;
    for (method, path, status, allow, kept) in [
        (Method::GET, "/", 200, None, "no-store"),
        (Method::HEAD, "/", 200, None, "no-store"),
        (Method::GET, "/api/status", 200, None, "no-store"),
        (Method::GET, "/metrics", 200, None, "no-store"),
        (Method::GET, "/livez", 200, None, "no-store"),
        (Method::GET, "/style.css", 200, None, "no-cache"),
        (Method::GET, "/app.js", 200, None, "no-cache"),
        (Method::GET, "/icon.svg", 200, None, "no-cache"),
        (Method::GET, "/none", 404, None, "no-store"),
        (Method::GET, "/nodes", 405, Some("POST"), "no-store"),
        (Method::POST, "/", 405, Some("GET, HEAD"), "no-store"),
    ] {
        let url = format!("http://{}{path}", gateway.admin);
        let reply = gateway.client.request(method.clone(), url).send().await.unwrap();
        let header = |name: &str| reply.headers().get(name).and_then(|value| value.to_str().ok());
        assert_eq!(reply.status().as_u16(), status, "{method} {path}");
        assert_eq!((header("allow"), header("cache-control")), (allow, Some(kept)), "{path}");
        let policy = header("content-security-policy").unwrap_or_default();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{path} {policy}");
        assert_eq!(header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(header("referrer-policy"), Some("same-origin"), "{path}");
        assert_eq!(header("cross-origin-opener-policy"), Some("same-origin"), "{path}");
        let length: usize = header("content-length").unwrap().parse().unwrap();
        let body = reply.bytes().await.unwrap();
        assert_eq!(body.is_empty(), method == Method::HEAD, "{path}");
        assert!(length > 0, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_the_page_are_asked_for_once_and_come_compressed() {
    let one = node(&["m"]).await;
    let gateway = TestGateway::start(&routes(one.addr())).await;
    for path in ["/style.css", "/app.js", "/icon.svg"] {
        let first = get(&gateway, path).header("accept-encoding", "gzip").send().await.unwrap();
        assert_eq!(first.headers().contains_key("content-encoding"), path != "/icon.svg", "{path}");
        let tag = first.headers()["etag"].clone();
        let again = get(&gateway, path).header("if-none-match", tag).send().await.unwrap();
        assert_eq!(again.status(), 304, "{path}");
        assert!(again.bytes().await.unwrap().is_empty());
    }
    let page = get(&gateway, "/").header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(page.headers()["content-encoding"], "gzip");
    assert_eq!(page.bytes().await.unwrap()[..2], [0x1f, 0x8b]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_drained_a_node_is_logged() {
    let one = node(&["m"]).await;
    let dir = tempfile::tempdir().unwrap();
    let (process, operators) = process(dir.path(), one.addr(), &[]).await;
    let client = reqwest::Client::new();
    let url = format!("{operators}/api/nodes/drain?node=http://{}", one.addr());
    assert_eq!(client.post(url).send().await.unwrap().status(), 200);
    process.complained("gets no new work, as this machine asked").await;
}
