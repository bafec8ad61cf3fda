//! One stream of the tunnel at the machine's side: asks the owner's rules, connects to the target, carries the bytes.

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

use super::dial_back::{Origin, finish, movable};
use super::sealed::Seal;
use crate::core::services::{ServiceTarget, Services};

/// How long the first frame of a stream may take.
const FRAME_TIME: Duration = Duration::from_secs(10);

/// How long a target may take to answer: less than the gateway waits for us.
const TARGET_TIME: Duration = Duration::from_secs(10);

/// How long the TLS of a sealed service may take.
const SEAL_TIME: Duration = Duration::from_secs(10);

/// How long a stream that broke waits for the gateway to say why.
const REASON_TIME: Duration = Duration::from_secs(1);

/// One buffer of a stream, for each direction.
pub const BUFFER: usize = 64 * 1024;

/// Ends a program's connection so that it sees an error, and not an end: what it has is not all of it.
pub fn reset(program: &TcpStream) {
    let _ = socket2::SockRef::from(program).set_linger(Some(Duration::ZERO));
}

/// A local target that answered.
pub trait Local: AsyncRead + AsyncWrite + Unpin + Send {
    /// To be called before it is dropped when what it has been sent is not all of it, so that it sees an error and not an end.
    fn cut(&self);
}

impl Local for TcpStream {
    fn cut(&self) {
        reset(self);
    }
}

#[cfg(unix)]
impl Local for tokio::net::UnixStream {
    // Between programs of one machine there is no reset.
    fn cut(&self) {}
}

/// Why a stream was ended from outside: the session, and a place to hear the reason.
pub type EndSignal = oneshot::Receiver<Reason>;

/// What was asked for on a fresh stream.
///
/// # Errors
/// When nothing that makes sense came in time.
pub async fn asked(stream: &mut Stream) -> io::Result<Open> {
    timeout(FRAME_TIME, read_frame(stream)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Where the gateway hears that our end of a session is gone.
pub type AbandonedSender = mpsc::Sender<String>;

/// A stream that broke at our end. The gateway is told while the stream is still there: one that was half closed ends alike with
/// its data and with its loss, so whoever reads it must have heard by then.
struct Breaking<'a> {
    session: &'a str,
    gone: &'a AbandonedSender,
    error: OnceLock<String>,
}

impl Breaking<'_> {
    /// Says so, and leaves the gateway the time to end the session.
    async fn note<T>(&self, outcome: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &outcome {
            let _ = self.error.set(error.to_string());
            let _ = self.gone.send(self.session.to_owned()).await;
            sleep(REASON_TIME).await;
        }
        outcome
    }
}

/// Serves one stream to its end; gives what there is to say about it.
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
    let mut stream = movable(stream, open.dial_back.clone(), origin);
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
                // Its alert is on its way: nothing may end the session before.
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
        // That an end of it is gone we know: it was ours.
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
        // The target is the owner's business: the caller hears that nobody answers, not where.
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
