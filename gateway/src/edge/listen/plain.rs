//! Plain HTTP on a port where TLS comes first: one sentence in HTTP instead of an alert that nobody can read.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// How much of a request is read before it is answered: most are smaller, and what is left unread may cost its sender the
/// answer.
const READ_MAX: usize = 4 * 1024;

const BODY: &str = "this port speaks HTTPS, and plain HTTP came\nhint: write https:// instead of http://\n";

/// A header of the PROXY protocol, version 1, begins with a capital letter, too. From whoever is no balancer of ours it is
/// neither believed nor answered.
const PROXY: &[u8; 5] = b"PROXY";

/// Whether a request of HTTP begins here. A record of TLS begins with a byte below any letter (RFC 8446 5.1). The caller
/// limits the time.
pub(super) async fn is_http(tcp: &TcpStream) -> bool {
    let mut first = [0; PROXY.len()];
    tcp.peek(&mut first).await.is_ok() && first[0].is_ascii_uppercase() && first != *PROXY
}

/// Says so. The peer may be gone; then there is nobody to tell.
pub(super) async fn answer(tcp: &mut TcpStream) {
    let _ = tcp.read(&mut [0; READ_MAX]).await;
    let length = BODY.len();
    let head = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n";
    let _ = tcp.write_all(format!("{head}Content-Length: {length}\r\n\r\n{BODY}").as_bytes()).await;
    let _ = tcp.shutdown().await;
}
