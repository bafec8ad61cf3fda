//! One connection until it is let in: whom it is from, which face it asks for, whose certificate it shows, what is spoken.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use pki::Peer;
use rustls::{
    ServerConfig,
    server::{Acceptor, ClientHello},
};
use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use super::{
    ListenerContext, plain,
    seldom::Recurring,
    slots::Slot,
    socket::{keep_alive, keep_short, outcome, unrecognised},
};
use crate::{
    core::{
        face::{ClientAuth, Face, Protocol, RawName},
        requester::Requester,
    },
    edge::{
        proxied::{self, BadHeader},
        tls,
    },
    ports::metrics::HandshakeOutcome,
};

/// What decides which face a connection meets.
#[derive(Copy, Clone, Debug)]
pub(super) enum LeadsTo {
    /// The port.
    Face(Face),
    /// The name that the client asks for. Never the `Host` of a request, which anybody can write.
    Sni,
}

/// A connection that was let in.
pub(super) struct Accepted {
    pub stream: TlsStream<TcpStream>,
    pub face: Face,
    pub entrant: Entrant,
    pub exporter: [u8; 32],
    pub slot: Slot,
    pub source: IpAddr,
}

/// Who was let in, and to what.
pub(super) enum Entrant {
    /// Whoever comes, to what is for everybody.
    Anyone(Requester),
    /// A machine or person of ours, by a certificate that the face demands.
    Holder(Arc<Peer>, Served),
}

/// What a holder of a certificate comes to.
pub(super) enum Served {
    /// What both ends agreed on.
    Protocol(Protocol),
    /// A service, named by the server name indication: what it speaks is its own.
    Service(RawName),
}

/// A socket before its first byte.
pub(super) struct Socket {
    pub tcp: TcpStream,
    pub from: SocketAddr,
    pub by_balancer: bool,
}

/// Whom a socket is from, which a balancer says for those behind it.
async fn source(context: &ListenerContext, socket: &mut Socket, slot: &mut Slot) -> Result<IpAddr, HandshakeOutcome> {
    let balancer = socket.from.ip();
    if !socket.by_balancer {
        return Ok(balancer);
    }
    let source = match proxied::read(&mut socket.tcp).await {
        Ok(proxied::Origin::Client(client)) => client.ip(),
        Ok(proxied::Origin::Local) => balancer,
        Err(BadHeader::Io(_)) => return Err(HandshakeOutcome::Gone),
        Err(error) => {
            if let Some(count) = context.seldom.count(Recurring::Header) {
                tracing::warn!(count, %balancer, %error, "refused a connection from an address in listen.proxy_protocol_from");
            }
            return Err(HandshakeOutcome::Header);
        }
    };
    slot.attribute(source).map_err(|why| {
        context.turned_away(why, source);
        HandshakeOutcome::Gone
    })?;
    Ok(source)
}

/// One handshake, from the first byte to the last.
pub(super) async fn handshake(
    context: Arc<ListenerContext>,
    mut socket: Socket,
    leads_to: LeadsTo,
    mut slot: Slot,
) -> Result<Box<Accepted>, HandshakeOutcome> {
    let source = source(&context, &mut socket, &mut slot).await?;
    let mut tcp = socket.tcp;
    if plain::is_http(&tcp).await {
        plain::answer(&mut tcp).await;
        return Err(HandshakeOutcome::Refused);
    }
    // The semaphore is never closed.
    let permit = context.handshakes.acquire().await.map_err(|_| HandshakeOutcome::Gone)?;
    // Answers are small and should not wait for the peer's acknowledgement. A socket that refuses the option works.
    let _ = tcp.set_nodelay(true);
    let start = LazyConfigAcceptor::new(Acceptor::default(), tcp).await.map_err(|error| outcome(&error))?;
    let Some((face, config, raw)) = choose(&context, leads_to, &start.client_hello()) else {
        unrecognised(start).await;
        return Err(HandshakeOutcome::UnknownName);
    };
    let wants_tunnel = start.client_hello().alpn().is_some_and(|mut offered| {
        offered.any(|alpn| face.row().protocols.iter().any(|one| one.face == Face::Tunnel && one.alpn == alpn))
    });
    // Machines that come back by the thousand wait for each other, not people for machines.
    let _turn = if wants_tunnel {
        drop(permit);
        Some(context.tunnel_handshakes.acquire().await.map_err(|_| HandshakeOutcome::Gone)?)
    } else {
        Some(permit)
    };
    if let Err(why) = slot.enter(face) {
        context.turned_away(why, source);
        return Err(HandshakeOutcome::Gone);
    }
    let (stream, requester) = tls::admitting(start.into_stream(config)).await;
    let mut stream = stream.map_err(|error| outcome(&error))?;
    let row = face.row();
    if !row.is_open() {
        keep_alive(stream.get_ref().0);
    }
    let (face, served) = match raw {
        Some(name) => (face, Served::Service(name)),
        None => {
            let spoken = row.spoken(stream.get_ref().1.alpn_protocol());
            if spoken.protocol.is_multiplexed() {
                keep_short(&mut stream);
            }
            (spoken.face, Served::Protocol(spoken.protocol))
        }
    };
    let entrant = match (row.client_auth, requester) {
        (ClientAuth::None | ClientAuth::Optional, requester) => Entrant::Anyone(requester),
        (ClientAuth::Required, Requester::Ours(peer)) => Entrant::Holder(peer, served),
        // TLS has refused them already.
        (ClientAuth::Required, Requester::Nobody | Requester::Foreign(_)) => return Err(HandshakeOutcome::Certificate),
    };
    let exporter = stream
        .get_ref()
        .1
        .export_keying_material([0; 32], wire::evidence::EXPORTER_LABEL, None)
        .map_err(|_| HandshakeOutcome::Refused)?;
    Ok(Box::new(Accepted { stream, face, entrant, exporter, slot, source }))
}

/// The face that a connection asks for, with its configuration, and the service that it names there.
fn choose(
    context: &ListenerContext,
    leads_to: LeadsTo,
    hello: &ClientHello<'_>,
) -> Option<(Face, Arc<ServerConfig>, Option<RawName>)> {
    let table = context.tls.load();
    let face = match leads_to {
        // Here a name says which service is meant: one that is not ours must not pass for a connection without.
        LeadsTo::Face(Face::Proxy) if hello.server_name().is_some_and(|name| !table.names.is_of_proxy(name)) => None,
        LeadsTo::Face(face) => Some(face),
        LeadsTo::Sni => hello.server_name().and_then(|name| table.names.face_of(name)),
    }?;
    let raw = match face {
        Face::Proxy => hello.server_name().and_then(|name| table.names.raw(name)),
        Face::Enroll | Face::Manage | Face::Tunnel => None,
    };
    let config = if raw.is_some() { &table.raw } else { table.config(face) };
    Some((face, Arc::clone(config), raw))
}
