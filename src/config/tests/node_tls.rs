//! What makes an https node the right one.

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

use super::*;

/// An authority's certificate, and its key.
fn authority() -> (String, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn upstream(nodes: &str, tls: &str) -> String {
    format!(
        "upstreams:\n  u:\n    nodes: [{nodes}]\n    tls: {tls}\nroutes: [{{ preset: vllm, upstream: u }}]\n"
    )
}

/// An upstream whose `ca_file` is called `f` and holds `content`.
fn with_file(content: &[u8]) -> Result<Config, Problems> {
    let routes = upstream("'https://h'", "{ ca_file: f }");
    let read = |_: &Path| Ok(content.to_vec());
    parse(Texts { routes: Some(&routes), keys: None }, &nothing(), None, &read)
}

fn tls_of(config: &Config) -> &NodeTls {
    &config.upstreams[0].tls
}

#[test]
fn who_certifies_nodes_is_read_and_watched_and_a_change_of_them_is_another_mark() {
    let ((one, _), (two, _)) = (authority(), authority());
    let config = with_file(one.as_bytes()).unwrap();
    let authorities = tls_of(&config).authorities.as_ref().unwrap();
    assert_eq!((&*authorities.file, authorities.certificates.len()), ("f", 1));
    assert_eq!(config.watched, [PathBuf::from("f")]);
    let mark = |content: &str| {
        let config = with_file(content.as_bytes()).unwrap();
        let authorities = tls_of(&config).authorities.clone().unwrap();
        (authorities.certificates.len(), authorities.mark())
    };
    let (of_one, of_two, of_both) = (mark(&one), mark(&two), mark(&format!("{one}{two}")));
    assert_eq!((of_one.0, of_both.0), (1, 2));
    assert!(of_one.1 != of_two.1 && of_one.1 != of_both.1 && of_two.1 != of_both.1);
    // What only people read is no change.
    assert_eq!(mark(&format!("# the first of ours\n{one}\n")), of_one);
}

#[test]
fn a_file_that_holds_no_authorities_or_more_than_them_is_refused_with_its_line() {
    let (pem, key) = authority();
    let cut = &pem[..pem.len() / 2];
    let no_certificate = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    for content in ["", "key", cut, &format!("{pem}{key}"), &format!("{pem}{no_certificate}")] {
        assert_lines(
            &lines(with_file(content.as_bytes()).unwrap_err()),
            &[
                "routes.yaml:4:21: upstreams.u.tls.ca_file: this must be a PEM file of certificates, and of nothing else",
            ],
        );
    }
    assert_lines(
        &bad(&upstream("'https://h'", "{ ca_file: absent.pem }")),
        &["routes.yaml:4:21: upstreams.u.tls.ca_file: there is no such file"],
    );
}

#[test]
fn a_ca_file_is_relative_to_the_folder_and_may_be_larger_than_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let (pem, _) = authority();
    let many = pem.repeat(usize::try_from(defaults::KEY_FILE_BYTES_MAX).unwrap() / pem.len() + 1);
    std::fs::write(dir.path().join("ca.pem"), many).unwrap();
    std::fs::write(dir.path().join("routes.yaml"), upstream("'https://h'", "{ ca_file: ca.pem }"))
        .unwrap();
    let source = Source { dir: dir.path().to_owned(), environment: nothing(), backend: None };
    let config = load(&source).unwrap();
    assert!(tls_of(&config).authorities.is_some());
    assert_eq!(config.watched, [dir.path().join("ca.pem")]);
    // A key is not.
    std::fs::write(dir.path().join("routes.yaml"), ROUTES).unwrap();
    std::fs::write(dir.path().join("keys.yaml"), "keys: [{ name: a, key_file: ca.pem }]").unwrap();
    assert_lines(
        &lines(load(&source).unwrap_err()),
        &["keys.yaml:1:29: keys[0].key_file: the file is larger than 65536 bytes"],
    );
}

#[test]
fn a_server_name_is_one_that_a_certificate_can_have() {
    for (written, name) in [
        ("gpu.internal", "gpu.internal"),
        ("GPU-0", "gpu-0"),
        ("10.0.0.1", "10.0.0.1"),
        ("'2001:db8::1'", "2001:db8::1"),
    ] {
        let config = good(&upstream("'https://h'", &format!("{{ server_name: {written} }}")));
        assert_eq!(tls_of(&config).server_name.as_deref(), Some(name));
    }
    for wrong in
        ["''", "'*.internal'", "https://gpu", "gpu:443", "'[::1]'", "gpu 0", "gpu_0.internal"]
    {
        assert_lines(
            &bad(&upstream("'https://h'", &format!("{{ server_name: {wrong} }}"))),
            &[
                "routes.yaml:4:25: upstreams.u.tls.server_name: this is no name that a server's certificate can have; write it without scheme and port: `gpu.internal`, or an address",
            ],
        );
    }
}

#[test]
fn tls_without_an_https_node_is_a_mistake_and_a_misspelt_field_of_it_too() {
    assert_lines(
        &bad(&upstream("'http://a', 'http://b'", "{ server_name: gpu }")),
        &[
            "routes.yaml:4:5: upstreams.u.tls: no node of this upstream is reached over TLS; write `https://` where its nodes are, or remove `tls`",
        ],
    );
    assert_lines(
        &bad(&upstream("'https://a'", "{ sever_name: gpu }")),
        &[
            "routes.yaml:4:12: upstreams.u.tls.sever_name: unknown field; did you mean `server_name`?",
        ],
    );
    assert_lines(
        &bad(&upstream("'https://a'", "ca.pem")),
        &["routes.yaml:4:10: upstreams.u.tls: this must be a map with `ca_file` or `server_name`"],
    );
    good(&upstream("'http://a', 'https://b'", "{ server_name: gpu }"));
    good(&upstream("'http://a'", "~"));
    good(&upstream("'https://a'", "{}"));
}

#[test]
fn effective_tells_of_https_nodes_alone_who_certifies_them() {
    let (pem, _) = authority();
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("ca.pem", &pem);
    let rows = |routes: &str| {
        write("routes.yaml", routes);
        let source = Source { dir: dir.path().to_owned(), environment: nothing(), backend: None };
        let rows = effective(&load(&source).unwrap(), &Places::read(&source)).into_iter();
        let rows = rows.filter(|row| row.path.contains(".tls."));
        let row = |row: Effective| format!("{} = {} < {}", row.path, row.value, row.source);
        rows.map(row).collect::<Vec<_>>()
    };
    assert_lines(
        &rows(&upstream("'https://a'", "{ ca_file: ca.pem, server_name: GPU }")),
        &[
            "upstreams.u.tls.ca_file = ca.pem < routes.yaml:4:21",
            "upstreams.u.tls.server_name = gpu < routes.yaml:4:42",
        ],
    );
    assert_lines(
        &rows(&upstream("'https://a'", "~")),
        &[
            "upstreams.u.tls.ca_file = the setting ca_file < default",
            "upstreams.u.tls.server_name = each node's host < default",
        ],
    );
    assert_lines(&rows(&upstream("'http://a'", "~")), &[]);
}
