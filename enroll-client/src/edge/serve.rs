//! One stream of the tunnel at the machine's side: asks the owner's rules, connects to the target, carries the bytes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use wire::tunnel::{Mode, Open, OpenRefusal, Opened, Reason};

use super::dial_back::{Whence, finish, movable};
use super::mux::{Stream, read_frame, write_frame};
use super::sealed::Seal;
use crate::services::{Services, Target};

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

/// A local target that answered.
pub trait Local: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Local for T {}

/// Why a stream was ended from outside: the session, and a place to hear the reason.
pub type Ended = oneshot::Receiver<Reason>;

/// What was asked for on a fresh stream.
///
/// # Errors
/// When nothing that makes sense came in time.
pub async fn asked(stream: &mut Stream) -> io::Result<Open> {
    timeout(FRAME_TIME, read_frame(stream)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// How a stream came to its end.
#[derive(Debug, Default)]
pub struct Served {
    /// What there is to say about it.
    pub line: String,
    /// The session, if the gateway is to hear that our end is gone.
    pub abandoned: Option<String>,
}

impl From<String> for Served {
    fn from(line: String) -> Self {
        Self { line, abandoned: None }
    }
}

/// Serves one stream to its end.
pub async fn serve(
    mut stream: Stream,
    open: &Open,
    services: &Services,
    seal: Option<Arc<Seal>>,
    mut ended: Ended,
    whence: &Whence,
) -> Served {
    let (mode, mut target) = match reach(open, services, seal.is_some()).await {
        Ok(reached) => reached,
        Err((why, detail)) => {
            let _ = write_frame(&mut stream, &Opened::Refused { why, detail: detail.clone() }).await;
            let _ = timeout(FRAME_TIME, stream.shutdown()).await;
            return format!("refused {} to `{}`: {detail}", open.caller, open.service).into();
        }
    };
    if write_frame(&mut stream, &Opened::Ok).await.is_err() {
        return format!("{} left before `{}` answered", open.caller, open.service).into();
    }
    let mut stream = movable(stream, open.dial_back.clone(), whence);
    let carried = async {
        match (mode, seal) {
            (Mode::Raw, _) | (Mode::Sealed, None) => {
                let carried = carry(&mut stream, &mut target).await?;
                finish(&mut stream).await;
                Ok(carried)
            }
            (Mode::Sealed, Some(seal)) => {
                let mut inner = timeout(SEAL_TIME, seal.accept(stream, open))
                    .await
                    .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no TLS within 10 s"))??;
                let carried = carry(&mut inner, &mut target).await?;
                finish(inner.get_mut().0).await;
                Ok(carried)
            }
        }
    };
    let cut = |reason: Reason| {
        format!("the gateway ended the session {} of {}: {}", open.session, open.caller, reason.explain())
    };
    let outcome: io::Result<(u64, u64)> = tokio::select! {
        biased;
        Ok(reason) = &mut ended => return cut(reason).into(),
        outcome = carried => outcome,
    };
    match outcome {
        Ok((inwards, outwards)) => {
            format!("the session {} of {} ended; {inwards} bytes in, {outwards} out", open.session, open.caller).into()
        }
        // A connection of its own may break before the tunnel brings the reason.
        Err(error) => match timeout(REASON_TIME, ended).await {
            Ok(Ok(reason)) if reason != Reason::Peer => cut(reason).into(),
            // That an end closed it we know: it was ours.
            Ok(Ok(_) | Err(_)) | Err(_) => Served {
                line: format!("the session {} of {} broke: {error}", open.session, open.caller),
                abandoned: Some(open.session.clone()),
            },
        },
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

async fn connect(target: &Target) -> io::Result<Box<dyn Local>> {
    match target {
        Target::Tcp(address) => {
            let tcp = TcpStream::connect(address).await?;
            let _ = tcp.set_nodelay(true);
            Ok(Box::new(tcp))
        }
        #[cfg(unix)]
        Target::Unix(path) => Ok(Box::new(tokio::net::UnixStream::connect(path).await?)),
        #[cfg(not(unix))]
        Target::Unix(_) => Err(io::Error::from(io::ErrorKind::Unsupported)),
    }
}
