//! Multiplexed connections to the gateway.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use transport::link::Link;
use transport::mux::{Mux, Side};
use wire::tunnel::ToMachine;

/// A connection fails when a write has been pending for this long.
const STALL: Duration = Duration::from_secs(30);

/// TCP_NOTSENT_LOWAT, in bytes: an interactive stream cannot overtake bytes that are queued in the socket.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 32 * 1024;

/// Most encrypted bytes that TLS buffers in addition: one record.
const UNSENT_TLS: usize = 17 * 1024;

/// A connection to the gateway with its streams and its control stream.
pub type GatewayLink = Link<TlsStream<TcpStream>, ToMachine>;

/// Multiplexes at most `streams` streams. Small send buffers keep the waiting bytes of a stream in yamux, where other streams can
/// overtake them.
pub fn link(mut tls: TlsStream<TcpStream>, streams: usize) -> GatewayLink {
    let (tcp, session) = tls.get_mut();
    session.set_buffer_limit(Some(UNSENT_TLS));
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(&*tcp).set_tcp_notsent_lowat(UNSENT);
    #[cfg(not(target_os = "linux"))]
    let _ = tcp;
    Link::new(Mux::new(tls, Side::Dialed, streams, STALL))
}
