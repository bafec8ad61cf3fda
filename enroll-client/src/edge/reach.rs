//! `--reach`: offers services of other machines to local programs. Each service has a local listener, and each connection a stream of
//! the tunnel.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pki::{Identity, Role};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use transport::frame::{read_frame, write_frame};
use transport::mux::Stream;
use transport::streams::StreamCount;
use wire::tunnel::{Mode, Reached, Reason, TUNNEL_STREAMS};

use super::dial_back::{DialBackTicket, finish, movable};
use super::notices::SessionNotices;
use super::relay::{relay, show_end};
use super::sealed;
use super::serve::reset;
use super::tunnel::{CurrentIdentity, TunnelEvent, origin};
use crate::core::ending::{Completeness, Ending};
use crate::core::services::RemoteService;
use crate::text::report::{Complaint, Exit};

/// How long a local program waits for the tunnel and the service together.
const WAIT: Duration = Duration::from_secs(30);

/// Interval of checks whether the tunnel is up again.
const PAUSE: Duration = Duration::from_millis(250);

/// Pause after `accept` failed, probably because all file descriptors are in use.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// The dependencies of a listener.
#[derive(Clone)]
pub struct ListenerDeps {
    /// To the tunnel: requests for streams.
    pub wanted: mpsc::Sender<oneshot::Sender<Stream>>,
    /// To the tunnel: ids of sessions that broke at this end.
    pub abandoned: mpsc::Sender<String>,
    /// From the gateway: the reasons for which sessions ended.
    pub notices: Arc<SessionNotices>,
    /// Number of open streams.
    pub open: StreamCount,
    /// The current identity.
    pub current: watch::Receiver<CurrentIdentity>,
    /// To the daemon.
    pub tell: mpsc::Sender<TunnelEvent>,
}

/// Listens for one service.
pub async fn listen(name: &str, reach: &RemoteService) -> Result<TcpListener, Complaint> {
    TcpListener::bind(&reach.listen).await.map_err(|error| {
        let what = format!("cannot listen on {} for `{name}`: {error}", reach.listen);
        Complaint::new(Exit::Usage, "listen", what).hint("choose another address with ,listen=HOST:PORT")
    })
}

/// Serves one listener for as long as the daemon lives.
pub async fn offer(listener: TcpListener, reach: RemoteService, deps: ListenerDeps) {
    loop {
        let Ok((mut program, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (reach, deps) = (reach.clone(), deps.clone());
        tokio::spawn(async move {
            if let Err(error) = serve_program(&mut program, &reach, &deps).await {
                // A reset, so that the program does not take this for a service that sent nothing.
                reset(&program);
                let line = format!("no way to `{}` on {}: {error}", reach.service, reach.machine);
                let _ = deps.tell.send(TunnelEvent::Stream(line)).await;
            }
        });
    }
}

async fn serve_program(program: &mut TcpStream, reach: &RemoteService, deps: &ListenerDeps) -> io::Result<()> {
    let full = || io::Error::new(io::ErrorKind::WouldBlock, "as many streams are open as a tunnel takes");
    let _guard = deps.open.take(TUNNEL_STREAMS).ok_or_else(full)?;
    let _ = program.set_nodelay(true);
    let slow = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer within 30 s");
    let OpenedStream { stream, session, mode, ticket, end_is_said } =
        timeout(WAIT, open(reach, deps)).await.map_err(slow)??;
    if let Err(refusal) = reach.sealing.check(&reach.service, &reach.machine, mode) {
        let _ = deps.abandoned.send(session).await;
        return Err(io::Error::other(refusal.detail));
    }
    let mut stream = movable(stream, ticket, &origin(&deps.current));
    let ending = match mode {
        Mode::Raw => {
            let ending = relay(program, &mut stream).await;
            if in_order(&ending) {
                finish(&mut stream).await;
            }
            ending
        }
        Mode::Sealed => {
            let current = deps.current.borrow().clone();
            let credential = current.credential.newest();
            let domain = credential.domain().clone();
            let machine = Identity { domain, role: Role::Machine, name: reach.machine.clone() };
            let sealing = sealed::open(stream, &credential, &machine, current.offset);
            let mut inner = timeout(WAIT, sealing).await.map_err(slow)??;
            let ending = relay(program, &mut inner).await;
            if in_order(&ending) {
                finish(inner.get_mut().0).await;
            }
            ending
        }
    };
    if !in_order(&ending) {
        let _ = deps.abandoned.send(session.clone()).await;
    }
    // Without the gateway's reason, an end of file counts as the service's.
    let said = if end_is_said { deps.notices.why(&session).await } else { Some(Reason::Peer) };
    let judged = ending.judge_alone(said);
    show_end(program, &judged).await;
    if let Completeness::Cut(_, why) = judged {
        let line = format!("the session {session} to `{}` on {} was ended: {why}", reach.service, reach.machine);
        let _ = deps.tell.send(TunnelEvent::Stream(line)).await;
    }
    Ok(())
}

/// Whether both directions ended with an end of file.
const fn in_order(ending: &Ending) -> bool {
    matches!(ending, Ending::Finished | Ending::Closed)
}

/// An open stream to a service.
struct OpenedStream {
    stream: Stream,
    session: String,
    mode: Mode,
    ticket: Option<DialBackTicket>,
    end_is_said: bool,
}

/// Opens a stream to the service, as soon as the tunnel is up.
async fn open(reach: &RemoteService, deps: &ListenerDeps) -> io::Result<OpenedStream> {
    let mut stream = loop {
        let (to, stream) = oneshot::channel();
        deps.wanted.send(to).await.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        match stream.await {
            Ok(stream) => break stream,
            // The tunnel is down.
            Err(_) => sleep(PAUSE).await,
        }
    };
    let asked = wire::tunnel::Reach { service: reach.service.clone(), machine: reach.machine.to_string() };
    write_frame(&mut stream, &asked).await?;
    match read_frame(&mut stream).await? {
        Reached::Ok { session, mode, dial_back, dial_back_at, end_is_said } => {
            let ticket = DialBackTicket::new(dial_back.as_deref(), dial_back_at.as_deref());
            Ok(OpenedStream { stream, session, mode, ticket, end_is_said })
        }
        Reached::Refused { problem } => Err(io::Error::other(problem.detail)),
    }
}
