//! Endpoints that act on a node: who may use them, and what becomes of them on the way.

use crate::support::gateway::{Setup, preset};
use crate::support::scripted::Scripted;
use crate::support::{TestGateway, within};

/// What vLLM takes there.
const OPERATING: [(&str, &str); 7] = [
    ("POST", "/pause"),
    ("POST", "/resume"),
    ("GET", "/is_paused"),
    ("GET", "/metrics"),
    ("GET", "/load"),
    ("POST", "/scale_elastic_ep"),
    ("POST", "/is_scaling_elastic_ep"),
];

const KEYS: &str = "keys:
  - { name: application, key: sk-application }
  - { name: operator, key: sk-operator, scopes: [admin] }
  - { name: both, key: sk-both, scopes: [inference, admin], models: [other] }
";

const BODY: &str = r#"{"new_data_parallel_size": 2}"#;

async fn gateway(node: &Scripted) -> TestGateway {
    Setup::bare().file("routes.yaml", &preset(node.addr)).keys(KEYS).start().await
}

/// Status and body of the answer to `key`.
async fn ask(gateway: &TestGateway, key: &str, (method, path): (&str, &str)) -> (u16, String) {
    let request = gateway.client.request(method.parse().unwrap(), gateway.url(path));
    let request = request.bearer_auth(key);
    let request = if method == "POST" { request.body(BODY) } else { request };
    let reply = within(request.send()).await.unwrap();
    (reply.status().as_u16(), reply.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_may_operate_nothing() {
    let node = Scripted::replying("{}").await;
    let gateway = gateway(&node).await;
    for endpoint in OPERATING {
        let (status, body) = ask(&gateway, "sk-application", endpoint).await;
        assert_eq!(status, 403, "{endpoint:?}");
        assert!(body.contains(r#""code":"scope_not_allowed""#), "{body}");
    }
    assert!(node.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_reaches_the_node_and_the_answer_is_the_nodes() {
    const ANSWER: &str = "{\"is_paused\" : false}\n";
    let node = Scripted::replying(ANSWER).await;
    let gateway = gateway(&node).await;
    for (method, path) in OPERATING {
        // Also for a key that is limited to models: none is used.
        for key in ["sk-operator", "sk-both"] {
            let sent = format!("{path}?rank=0");
            let answer = ask(&gateway, key, (method, &sent)).await;
            assert_eq!(answer, (200, ANSWER.to_owned()), "{method} {path} {key}");
            let came = node.seen().pop().unwrap();
            assert!(
                came.head.starts_with(&format!("{method} {sent} HTTP/1.1\r\n")),
                "{}",
                came.head
            );
            assert_eq!(came.body, if method == "POST" { BODY } else { "" }.as_bytes());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_uses_no_model() {
    let node = Scripted::replying("{}").await;
    let gateway = gateway(&node).await;
    for endpoint in
        [("POST", "/v1/responses"), ("GET", "/version"), ("GET", "/v1/responses/resp_1")]
    {
        let (status, body) = ask(&gateway, "sk-operator", endpoint).await;
        assert_eq!(status, 403, "{endpoint:?}");
        assert!(body.contains("the scope `inference`"), "{body}");
    }
    assert!(node.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_operates_a_node_is_sent_twice() {
    for answer in [
        "",
        "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 502 No\r\ncontent-length: 0\r\n\r\n",
    ] {
        let node = Scripted::start(move |_, mut peer| async move {
            if peer.request().await.is_some() {
                peer.send(answer.as_bytes()).await;
            }
        })
        .await;
        let gateway = gateway(&node).await;
        for endpoint in OPERATING {
            let before = node.seen().len();
            let (status, _) = ask(&gateway, "sk-operator", endpoint).await;
            assert!(status >= 500, "{endpoint:?} {answer:?}: {status}");
            assert_eq!(node.seen().len(), before + 1, "{endpoint:?} {answer:?}");
        }
    }
}
