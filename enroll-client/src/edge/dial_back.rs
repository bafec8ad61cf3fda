//! Moves a stream that carries much data to a connection of its own, so that interactive streams do not wait behind it. The client
//! decides when, because it dials; the gateway has sent a ticket for each stream.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};
use tokio_util::task::AbortOnDropHandle;
use transport::frame::{read_frame, write_frame};
use transport::mux::Stream;
use wire::moving::{Arrival, Arrive, Moving};
use wire::tunnel::{DIAL_BACK_ALPN, DialBack, DialedBack};

use super::keystore::Credential;
use super::net::{NetError, TlsClient, dial};
use super::verifier::GatewayVerifier;
use crate::core::target::Address;

/// A stream moves after this many bytes, both directions together, within [`MOVE_WITHIN`]: far more than anybody types and than most
/// pages of output have. It is also the most that one stream can have queued before the bytes of another, which takes a tenth of a
/// second at 20 Mbit/s.
const MOVE_BYTES: u64 = 256 * 1024;

/// See [`MOVE_BYTES`].
const MOVE_WITHIN: Duration = Duration::from_secs(2);

/// Time limit for the gateway's reply to a ticket.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// How long an ended stream waits for a connection that is being established for it.
const FINISH_TIME: Duration = Duration::from_secs(15);

/// Gives the current identity and address. The gateway would treat use of a replaced certificate as a copy of the machine.
pub type Origin = Arc<dyn Fn() -> Option<(Arc<Credential>, Address)> + Send + Sync>;

type Own = Compat<TlsStream<TcpStream>>;

/// A stream that may move.
pub type Movable = Compat<Moving<yamux::Stream, Busy>>;

/// A ticket from the gateway for moving a stream, and the address to which to connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DialBackTicket {
    text: String,
    /// `None`: the address of the connection that the stream is in.
    at: Option<Address>,
}

impl DialBackTicket {
    /// `None` without a ticket, or if `at` is no address: the stream does not move.
    #[must_use]
    pub fn new(text: Option<&str>, at: Option<&str>) -> Option<Self> {
        let at = at.map(|at| Address::parse(at, HTTPS)).transpose().ok()?;
        Some(Self { text: text?.to_owned(), at })
    }
}

/// The port of an address without one.
const HTTPS: u16 = 443;

/// Makes a stream that can move, if there is a ticket for it.
pub fn movable(stream: Stream, ticket: Option<DialBackTicket>, origin: &Origin) -> Movable {
    let step = match ticket {
        Some(ticket) => Step::Watching { ticket, origin: Arc::clone(origin), pace: Pace::new(Instant::now()) },
        None => Step::Staying,
    };
    Moving::new(stream.into_inner(), yamux::Stream::is_closed, Busy(step)).compat()
}

/// Completes a stream whose directions have both ended, and a move that has begun.
pub async fn finish(stream: &mut Movable) {
    let finished = std::future::poll_fn(|cx| stream.get_mut().poll_finish(cx));
    let _ = timeout(FINISH_TIME, finished).await;
}

/// Measures whether a stream carries much data.
#[derive(Debug)]
struct Pace {
    since: Instant,
    from: u64,
}

impl Pace {
    const fn new(now: Instant) -> Self {
        Self { since: now, from: 0 }
    }

    /// Whether the limit is reached after `carried` bytes. Reads the clock once for each [`MOVE_BYTES`].
    fn is_busy(&mut self, carried: u64, now: impl FnOnce() -> Instant) -> bool {
        if carried.saturating_sub(self.from) < MOVE_BYTES {
            return false;
        }
        let now = now();
        let took = now.saturating_duration_since(self.since);
        (self.since, self.from) = (now, carried);
        took <= MOVE_WITHIN
    }
}

/// Measures one stream, and dials when it should move.
pub struct Busy(Step);

enum Step {
    Watching { ticket: DialBackTicket, origin: Origin, pace: Pace },
    Dialing(AbortOnDropHandle<Arrival<Own>>),
    Staying,
}

impl Arrive for Busy {
    type Carrier = Own;

    fn poll_arrive(&mut self, carried: u64, cx: &mut Context<'_>) -> Poll<Arrival<Own>> {
        if let Step::Watching { ticket, origin, pace } = &mut self.0
            && pace.is_busy(carried, Instant::now)
        {
            let dialing = tokio::spawn(dial_back(Arc::clone(origin), std::mem::take(ticket)));
            self.0 = Step::Dialing(AbortOnDropHandle::new(dialing));
        }
        match &mut self.0 {
            Step::Watching { .. } => Poll::Pending,
            Step::Dialing(dialing) => {
                let arrival = ready!(Pin::new(dialing).poll(cx));
                Poll::Ready(arrival.unwrap_or_else(|error| Arrival::Broken(io::Error::other(error))))
            }
            Step::Staying => Poll::Ready(Arrival::Never),
        }
    }

    fn withdraw(&mut self) {
        if let Step::Watching { .. } = self.0 {
            self.0 = Step::Staying;
        }
    }
}

/// Connects and sends the ticket. A failure before the ticket is sent does not affect the stream; after that only the gateway's reply
/// says whether the stream has moved.
async fn dial_back(origin: Origin, ticket: DialBackTicket) -> Arrival<Own> {
    let DialBackTicket { text, at } = ticket;
    let Ok(mut tls) = connect(&origin, at).await else { return Arrival::Never };
    let asked = async {
        write_frame(&mut tls, &DialBack { ticket: text }).await?;
        read_frame::<DialedBack, _>(&mut tls).await
    };
    match timeout(ANSWER_TIME, asked).await {
        Ok(Ok(DialedBack::Ok)) => Arrival::Here(tls.compat()),
        Ok(Ok(DialedBack::Refused { .. })) => Arrival::Never,
        Ok(Err(error)) => Arrival::Broken(error),
        Err(_) => Arrival::Broken(io::ErrorKind::TimedOut.into()),
    }
}

/// The gateway there must be ours by its certificate, as anywhere, wherever it sent us.
async fn connect(origin: &Origin, at: Option<Address>) -> Result<TlsStream<TcpStream>, NetError> {
    let (credential, usual) = origin().ok_or_else(|| NetError::Setup("there is no identity".to_owned()))?;
    let address = at.unwrap_or(usual);
    let verifier = GatewayVerifier::new(credential.expected(), address.host());
    let manners = TlsClient::identified(verifier, &credential)?.speaking(DIAL_BACK_ALPN);
    let tls = dial(&address, &manners).await?;
    if tls.get_ref().1.alpn_protocol() != Some(DIAL_BACK_ALPN) {
        return Err(NetError::Nonsense { address, what: "it knows no dial-backs".to_owned() });
    }
    Ok(tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes carried (kB) at times (ms); the index at which it is busy.
    #[track_caller]
    fn check(carried: &[(u64, u64)], want: Option<usize>) {
        let began = Instant::now();
        let mut pace = Pace::new(began);
        let busy = carried.iter().position(|(kb, ms)| pace.is_busy(kb * 1024, || began + Duration::from_millis(*ms)));
        assert_eq!(busy, want, "{carried:?}");
    }

    #[test]
    fn a_stream_stays_for_want_of_a_ticket_or_of_a_place() {
        let at = |text, at| DialBackTicket::new(text, at).map(|ticket| ticket.at.map(|at| at.to_string()));
        assert_eq!(at(Some("t"), None), Some(None));
        assert_eq!(at(Some("t"), Some("gw-a.example:8443")), Some(Some("gw-a.example:8443".to_owned())));
        assert_eq!(at(Some("t"), Some("[2001:db8::1]:443")), Some(Some("[2001:db8::1]:443".to_owned())));
        assert_eq!(at(None, Some("gw-a.example:443")), None);
        for bad in ["", ":443", "gw-a.example:0", "gw a:443", "https://gw-a.example"] {
            assert_eq!(at(Some("t"), Some(bad)), None, "{bad}");
        }
    }

    #[test]
    fn what_counts_as_much() {
        check(&[(1, 0), (255, 10), (256, 20)], Some(2));
        check(&[(255, 10)], None);
        // A page of output now and then.
        check(&[(150, 1_000), (300, 4_000), (450, 7_000), (600, 10_000)], None);
        // A burst long after the start.
        check(&[(10, 0), (270, 3_600_000), (600, 3_600_500)], Some(2));
        check(&[(50_000, 1_000)], Some(0));
    }
}
