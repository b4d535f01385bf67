//! Heads that nobody can read.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::process;
use crate::support::{node, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_cannot_be_read_is_not_written_down() {
    let (one, dir) = (node(&["m"]).await, tempfile::tempdir().unwrap());
    let (process, operators) = process(dir.path(), one.addr(), &[]).await;
    let address = operators.strip_prefix("http://").unwrap();
    for odd in [" X: fold", "Bad Header: 1", "X\u{0}: 1"] {
        let head = format!("GET /metrics HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer sk-secret\r\n{odd}\r\n\r\n");
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        within(stream.read_to_end(&mut Vec::new())).await.unwrap();
    }
    let told = process.stop().await.err;
    assert!(!told.contains("sk-secret") && !told.contains("Bearer"), "{told}");
}
