//! Serves one stream of the tunnel at the machine's side: checks the owner's rules, connects to the target, relays the bytes.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use transport::frame::{read_frame, write_frame};
use transport::mux::Stream;
use wire::tunnel::{Mode, Open, OpenRefusal, Opened, Reason};

use super::dial_back::{DialBackTicket, Origin, finish, movable};
use super::sealed::Seal;
use crate::core::services::{ServiceTarget, Services};

/// Time limit for the first frame of a stream.
const FRAME_TIME: Duration = Duration::from_secs(10);

/// Time limit for connecting to the target: less than the gateway waits for our reply.
const TARGET_TIME: Duration = Duration::from_secs(10);

/// Time limit for the TLS handshake of a sealed service.
const SEAL_TIME: Duration = Duration::from_secs(10);

/// How long a broken stream waits for the gateway's reason.
const REASON_TIME: Duration = Duration::from_secs(1);

/// Size in bytes of the buffer of each direction of a stream.
pub const BUFFER: usize = 64 * 1024;

/// Makes the close of a program's connection a TCP reset, so that it sees an error instead of an end of file: its data is incomplete.
pub fn reset(program: &TcpStream) {
    let _ = socket2::SockRef::from(program).set_linger(Some(Duration::ZERO));
}

/// A connection to a local target.
pub trait Local: AsyncRead + AsyncWrite + Unpin + Send {
    /// To be called before it is dropped when the data sent to it is incomplete, so that it sees an error instead of an end of file.
    fn cut(&self);
}

impl Local for TcpStream {
    fn cut(&self) {
        reset(self);
    }
}

#[cfg(unix)]
impl Local for tokio::net::UnixStream {
    // Unix sockets have no reset.
    fn cut(&self) {}
}

/// Receives the reason when the gateway ends the stream's session.
pub type EndSignal = oneshot::Receiver<Reason>;

/// Reads the open frame of a new stream, within [`FRAME_TIME`].
pub async fn asked(stream: &mut Stream) -> io::Result<Open> {
    timeout(FRAME_TIME, read_frame(stream)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Sends the ids of sessions that broke at this end, which are reported to the gateway.
pub type AbandonedSender = mpsc::Sender<String>;

/// Reports a session that broke at this end to the gateway while the stream is still open: the caller of a half-closed stream sees
/// the same end of file for complete and for lost data, and needs the reason by then.
struct Breaking<'a> {
    session: &'a str,
    gone: &'a AbandonedSender,
    error: OnceLock<String>,
}

impl Breaking<'_> {
    /// Reports a failed `outcome`, and gives the gateway time to end the session.
    async fn note<T>(&self, outcome: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &outcome {
            let _ = self.error.set(error.to_string());
            let _ = self.gone.send(self.session.to_owned()).await;
            sleep(REASON_TIME).await;
        }
        outcome
    }
}

/// Serves one stream to its end; returns the session id and a log line.
pub async fn serve(
    mut stream: Stream,
    open: &Open,
    services: &Services,
    seal: Option<Arc<Seal>>,
    mut ended: EndSignal,
    (origin, gone): (&Origin, &AbandonedSender),
) -> String {
    let (mode, mut target) = match reach(open, services, seal.is_some()).await {
        Ok(reached) => reached,
        Err((why, detail)) => {
            let _ = write_frame(&mut stream, &Opened::Refused { why, detail: detail.clone() }).await;
            let _ = timeout(FRAME_TIME, stream.shutdown()).await;
            return format!("refused {} to `{}`: {detail}", open.caller, open.service);
        }
    };
    if write_frame(&mut stream, &Opened::Ok).await.is_err() {
        return format!("{} left before `{}` answered", open.caller, open.service);
    }
    let (session, caller) = (&open.session, &open.caller);
    let breaking = Breaking { session, gone, error: OnceLock::new() };
    let ticket = DialBackTicket::new(open.dial_back.as_deref(), open.dial_back_at.as_deref());
    let mut stream = movable(stream, ticket, origin);
    let carried = async {
        match (mode, seal) {
            (Mode::Raw, _) | (Mode::Sealed, None) => {
                let carried = breaking.note(carry(&mut stream, &mut target).await).await?;
                finish(&mut stream).await;
                Ok::<_, io::Error>(carried)
            }
            (Mode::Sealed, Some(seal)) => {
                let slow = |_| io::Error::new(io::ErrorKind::TimedOut, "no TLS within 10 s");
                let sealed = timeout(SEAL_TIME, seal.accept(stream, open)).await.map_err(slow).flatten();
                // The caller must get the TLS alert before the session ends.
                let mut inner = sealed?;
                let carried = breaking.note(carry(&mut inner, &mut target).await).await?;
                finish(inner.get_mut().0.get_mut()).await;
                Ok(carried)
            }
        }
    };
    let outcome: Result<io::Result<(u64, u64)>, Reason> = tokio::select! {
        biased;
        Ok(reason) = &mut ended => Err(reason),
        outcome = carried => Ok(outcome),
    };
    if !matches!(outcome, Ok(Ok(_))) {
        target.cut();
    }
    match (outcome, breaking.error.get()) {
        (Ok(Ok((inwards, outwards))), _) => {
            format!("the session {session} of {caller} ended; {inwards} bytes in, {outwards} out")
        }
        // Both reasons report the break at this end, whose error is known.
        (Err(Reason::Peer | Reason::Broken), Some(error)) => {
            format!("the session {session} of {caller} broke: {error}")
        }
        (Err(reason), _) => format!("the gateway ended the session {session} of {caller}: {}", reason.explain()),
        (Ok(Err(error)), said) => {
            if said.is_none() {
                sleep(REASON_TIME).await;
                let _ = gone.send(session.clone()).await;
            }
            format!("the session {session} of {caller} broke: {error}")
        }
    }
}

async fn carry<A, B>(stream: &mut A, target: &mut B) -> io::Result<(u64, u64)>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    copy_bidirectional_with_sizes(stream, target, BUFFER, BUFFER).await
}

async fn reach(
    open: &Open,
    services: &Services,
    can_seal: bool,
) -> Result<(Mode, Box<dyn Local>), (OpenRefusal, String)> {
    let service = services.decide(open)?;
    if service.mode == Mode::Sealed && !can_seal {
        let detail = format!("`{}` is sealed, and this machine has no certificate for that yet", open.service);
        return Err((OpenRefusal::TargetClosed, detail));
    }
    let name = &open.service;
    match timeout(TARGET_TIME, connect(&service.target)).await {
        Ok(Ok(target)) => Ok((service.mode, target)),
        // The caller is not told the target's address.
        Ok(Err(error)) => Err((OpenRefusal::TargetClosed, format!("`{name}` does not answer: {}", error.kind()))),
        Err(_) => Err((OpenRefusal::TargetSlow, format!("`{name}` did not answer within {} s", TARGET_TIME.as_secs()))),
    }
}

async fn connect(target: &ServiceTarget) -> io::Result<Box<dyn Local>> {
    match target {
        ServiceTarget::Tcp(address) => {
            let tcp = TcpStream::connect(address).await?;
            let _ = tcp.set_nodelay(true);
            Ok(Box::new(tcp))
        }
        #[cfg(unix)]
        ServiceTarget::Unix(path) => Ok(Box::new(tokio::net::UnixStream::connect(path).await?)),
        #[cfg(not(unix))]
        ServiceTarget::Unix(_) => Err(io::Error::from(io::ErrorKind::Unsupported)),
    }
}
