//! What each node serves, learnt from its list: nodes of one upstream may have adapters of their own.

use super::{QUICK, chats, upstream};
use crate::support::{TestGateway, node};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_to_a_node_that_has_its_model() {
    let (one, two) = (node(&["base", "lora-a"]).await, node(&["base", "lora-b"]).await);
    let gateway = TestGateway::start(&upstream(&[one.addr(), two.addr()], QUICK)).await;
    for _ in 0..4 {
        for model in ["lora-a", "lora-b"] {
            assert_eq!(gateway.chat(model).send().await.unwrap().status(), 200, "{model}");
        }
    }
    assert_eq!((chats(&one), chats(&two)), (4, 4));
    for _ in 0..4 {
        assert_eq!(gateway.chat("base").send().await.unwrap().status(), 200);
    }
    assert_eq!((chats(&one), chats(&two)), (6, 6));
    // What nobody has, a node judges.
    let reply = gateway.chat("lora-c").send().await.unwrap();
    assert_eq!(reply.status(), 404);
    assert!(reply.text().await.unwrap().contains("NotFoundError"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_models_is_that_of_all_nodes() {
    let (one, two) = (node(&["base", "lora-a"]).await, node(&["base", "lora-b"]).await);
    let gateway = TestGateway::start(&upstream(&[one.addr(), two.addr()], QUICK)).await;
    let list = async || {
        let reply = gateway.get("/v1/models").send().await.unwrap();
        assert_eq!(reply.status(), 200);
        assert!(!reply.headers().contains_key("x-sluice-partial"));
        let list: serde_json::Value = reply.json().await.unwrap();
        let ids = list["data"].as_array().unwrap().iter();
        ids.map(|one| one["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list().await, ["base", "lora-a", "lora-b"]);
    two.refuse().await;
    assert_eq!(list().await.len(), 3, "a moment ago it was there");
}
