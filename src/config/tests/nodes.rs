//! Where nodes are: listed, or found by name.

use super::*;

/// A table with one upstream of these fields, which begin at column 8 of line 2.
fn upstream(fields: &str) -> String {
    format!("upstreams:\n  u: {{ {fields} }}\nroutes: [{{ preset: vllm, upstream: u }}]\n")
}

fn nodes(fields: &str) -> Nodes {
    good(&upstream(fields)).upstreams.remove(0).nodes
}

#[test]
fn nodes_are_listed_in_order_or_found_by_name() {
    for (fields, urls) in [
        ("nodes: ['http://h']", &["http://h:80"][..]),
        (
            "nodes: ['http://gpu-1:8000', 'http://gpu-0:8000/', 'https://gpu-0:8000']",
            &["http://gpu-1:8000", "http://gpu-0:8000", "https://gpu-0:8000"],
        ),
        (
            "nodes: ['http://h/a', 'http://h/b', 'http://[::1]:1', 'http://10.0.0.1']",
            &["http://h:80/a", "http://h:80/b", "http://[::1]:1", "http://10.0.0.1:80"],
        ),
        ("dns: 'http://vllm.svc:8000/v1'", &["http://vllm.svc:8000"]),
        ("dns: 'https://VLLM/base', nodes: ~", &["https://vllm:443/base"]),
    ] {
        let found = nodes(fields);
        assert_eq!(found.urls().iter().map(NodeUrl::to_string).collect::<Vec<_>>(), urls);
        assert_eq!(found.first().to_string(), urls[0]);
        assert_eq!(matches!(found, Nodes::Dns(_)), fields.starts_with("dns"), "{fields}");
    }
}

#[test]
fn what_is_no_list_and_no_name_is_refused() {
    let exclude =
        "routes.yaml:2:3: upstreams.u: `nodes` and `dns` exclude each other; keep one of them";
    let address = "`dns` takes a name that is looked up, and this is an address; write `nodes: [http://host:port]` for an address";
    for (fields, told) in [
        ("nodes: ['http://a'], dns: 'http://b'", exclude.to_owned()),
        (
            "kind: vllm",
            "routes.yaml:2:3: upstreams.u: `nodes` is missing; write `nodes: [http://host:port]`, or `dns: http://name:port`".to_owned(),
        ),
        (
            "nodes: []",
            "routes.yaml:2:8: upstreams.u.nodes: at least one node is needed; write `nodes: [http://host:port]`".to_owned(),
        ),
        ("nodes: 'http://h'", "routes.yaml:2:15: upstreams.u.nodes: this must be a list".to_owned()),
        ("nodes: [7]", "routes.yaml:2:16: upstreams.u.nodes[0]: this must be a text; put it in quotes".to_owned()),
        (
            "nodes: ['http://h', 'HTTP://H:80/v1/']",
            "routes.yaml:2:28: upstreams.u.nodes[1]: this node stands here twice; keep one of them".to_owned(),
        ),
        ("dns: 'http://10.0.0.1:8000'", format!("routes.yaml:2:13: upstreams.u.dns: {address}")),
        ("dns: 'http://[::1]:8000'", format!("routes.yaml:2:13: upstreams.u.dns: {address}")),
        (
            "dns: vllm:8000",
            "routes.yaml:2:13: upstreams.u.dns: this is no URL of a node; write `http://host:port` or `https://host`".to_owned(),
        ),
        ("dns: ['http://h']", "routes.yaml:2:8: upstreams.u.dns: this must be a text".to_owned()),
        ("dnss: 'http://h'", "routes.yaml:2:8: upstreams.u.dnss: unknown field; did you mean `dns`?".to_owned()),
        ("node: ['http://h']", "routes.yaml:2:8: upstreams.u.node: unknown field; did you mean `nodes`?".to_owned()),
    ] {
        assert_lines(&bad(&upstream(fields)), &[&told]);
    }
}

#[test]
fn an_upstream_has_a_bound_of_nodes() {
    let list = |count: usize| {
        let urls: Vec<String> = (0..count).map(|n| format!("'http://h{n}'")).collect();
        format!("nodes: [{}]", urls.join(", "))
    };
    assert_eq!(nodes(&list(defaults::NODES_MAX)).urls().len(), 256);
    assert_lines(
        &bad(&upstream(&list(defaults::NODES_MAX + 1))),
        &["routes.yaml:2:8: upstreams.u.nodes: an upstream has at most 256 nodes"],
    );
}

#[test]
fn nodes_of_routes_and_of_the_environment_are_a_list_of_one() {
    let of_env = |variables| parse_all(None, None, &env(variables)).unwrap();
    for config in [
        good(ROUTES),
        of_env(&[("VLLM_BASE_URL", "http://h:1")]),
        of_env(&[("LLM_SERVER_URL", "http://h:1/v1/completions")]),
    ] {
        let upstream = &config.upstreams[0];
        let node = NodeUrl::parse("http://h:1").unwrap();
        assert_eq!(upstream.nodes, Nodes::Listed(vec![node]));
        assert_eq!(upstream.health.is_some(), upstream.kind == Kind::Vllm);
    }
}
