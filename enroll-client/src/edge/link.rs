//! A connection to the gateway that carries many streams.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use transport::link::Link;
use transport::mux::{Mux, Side};
use wire::tunnel::ToMachine;

/// A gateway that takes nothing of what we write for this long is not there any more.
const STALL: Duration = Duration::from_secs(30);

/// What the socket takes in beyond what is on its way: what waits there cannot be overtaken by a key that somebody types.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 32 * 1024;

/// What TLS holds beside that, encrypted already: one record.
const UNSENT_TLS: usize = 17 * 1024;

/// A connection to the gateway with its streams and its control stream.
pub type GatewayLink = Link<TlsStream<TcpStream>, ToMachine>;

/// For at most so many streams at a time. They share the connection: what one of them has waiting stays where another can go
/// first.
pub fn link(mut tls: TlsStream<TcpStream>, streams: usize) -> GatewayLink {
    let (tcp, session) = tls.get_mut();
    session.set_buffer_limit(Some(UNSENT_TLS));
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(&*tcp).set_tcp_notsent_lowat(UNSENT);
    #[cfg(not(target_os = "linux"))]
    let _ = tcp;
    Link::new(Mux::new(tls, Side::Dialed, streams, STALL))
}
