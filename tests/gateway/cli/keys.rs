//! `sluice keys`: what it prints is what `keys.yaml` takes.

use super::{fed, folder, sluice};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_comes_with_the_hash_that_hash_makes_of_it() {
    let dir = folder(&[]);
    let new = sluice(dir.path(), &["keys", "new"], &[]).await;
    assert_eq!(new.code, 0, "{}", new.err);
    let key = new.line("key: ").rsplit(' ').next().unwrap();
    let hash = new.line("key_sha256: ");
    assert!(key.starts_with("sk-") && key.len() == 51, "{key}");
    for input in [key.to_owned(), format!("{key}\n"), format!("{key}\r\n")] {
        let hashed = fed(dir.path(), &["keys", "hash"], &[], &input).await;
        assert_eq!((hashed.code, hashed.out.trim_end()), (0, hash), "{input:?}");
    }
    let other = sluice(dir.path(), &["keys", "new"], &[]).await;
    assert_ne!(other.out, new.out);
    let keys = format!("keys: [{{name: a, {hash}}}]\n");
    let routes = "routes: [{path: /a, methods: [GET], upstream_url: 'http://h'}]\n";
    let taken = folder(&[("config/keys.yaml", &keys), ("config/routes.yaml", routes)]);
    assert_eq!(sluice(taken.path(), &["check"], &[]).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_could_present_as_a_key_has_no_hash() {
    let dir = folder(&[]);
    let long = "x".repeat(4_097);
    for (input, told) in [
        ("", "a key cannot be empty"),
        ("\n", "a key cannot be empty"),
        ("sk-hunter2 \n", "visible ASCII"),
        ("ключ", "visible ASCII"),
        (&long, "at most 4096 bytes"),
    ] {
        let ended = fed(dir.path(), &["keys", "hash"], &[], input).await;
        assert_eq!((ended.code, &*ended.out), (1, ""), "{input:?}");
        assert!(ended.err.contains(told), "{input:?}: {}", ended.err);
        assert!(!ended.err.contains("hunter2"), "{}", ended.err);
    }
}
