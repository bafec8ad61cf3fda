//! What is set on a connection's socket, and how a handshake that failed is answered and counted.

use std::io;

use socket2::{SockRef, TcpKeepalive};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tokio_rustls::{StartHandshake, server::TlsStream};

use crate::{
    limits::{KEEPALIVE, UNSENT_TLS},
    ports::metrics::HandshakeOutcome,
};

/// Asks TCP to notice a peer that is gone: a session may be silent for hours and mean it.
pub(super) fn keep_alive(tcp: &TcpStream) {
    let (quiet, between) = KEEPALIVE;
    let settings = TcpKeepalive::new().with_time(quiet).with_interval(between);
    // Where the system does not know it, the other limits remain.
    let _ = SockRef::from(tcp).set_tcp_keepalive(&settings);
}

/// Many streams share the connection: what one of them has waiting stays where another can go first.
pub(super) fn keep_short(stream: &mut TlsStream<TcpStream>) {
    let (tcp, tls) = stream.get_mut();
    tls.set_buffer_limit(Some(UNSENT_TLS));
    #[cfg(target_os = "linux")]
    let _ = SockRef::from(&*tcp).set_tcp_notsent_lowat(crate::limits::UNSENT);
    #[cfg(not(target_os = "linux"))]
    let _ = tcp;
}

/// RFC 6066 3: the fatal alert `unrecognized_name`, before any certificate is shown.
pub(super) async fn unrecognised(mut start: StartHandshake<TcpStream>) {
    const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
    // The peer may be gone; then there is nobody to tell.
    let _ = start.io.write_all(&ALERT).await;
    let _ = start.io.shutdown().await;
}

/// Whose fault a failed handshake was.
pub(super) fn outcome(error: &io::Error) -> HandshakeOutcome {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            HandshakeOutcome::Certificate
        }
        Some(_) => HandshakeOutcome::Refused,
        None => HandshakeOutcome::Gone,
    }
}
