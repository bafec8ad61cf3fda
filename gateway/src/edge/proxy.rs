//! The proxy face: where people's connections to services come in. Three doors, one decision ([`crate::flow::connect`]):
//! `CONNECT`, the bare bytes of a service named by SNI, and the streams of a helper.

mod streams;
mod target;

use std::{fmt, sync::Arc, time::Duration};

use pki::Role;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};
use tokio_util::task::TaskTracker;
use wire::problem::PROBLEM_TYPE;

pub use self::{
    streams::streams,
    target::{BadTarget, target},
};
use super::framing::{BadFraming, ProxyHead, proxy_head};
use crate::{
    core::{
        admission::Use,
        face::RawName,
        refusal::{ForWhom, Malformed, Refusal, RefusalClass, Unreached},
    },
    edge::{
        fronts::native::problem,
        relay::{self, EndsTo},
    },
    flow::{
        admit::admit,
        connect::{StreamOpener, WantedService, log_refused},
        shell::Shell,
    },
    limits::{CUT_GRACE, HEAD_MAX, LINGER_BYTES, LINGER_TIME},
    ports::rate::{Class, Rates},
    registry::{live::HolderGuard, sessions::EntryPoint},
};

/// What the proxy face works with.
pub struct ProxyDeps {
    /// Everything.
    pub shell: Arc<Shell>,
    /// How often connections may be asked for.
    pub rates: Arc<Rates>,
    /// From the first byte of a head to its last.
    pub head_time: Duration,
    /// How long streams may go on when the gateway stops.
    pub drain_time: Duration,
    /// Tasks that a drain waits for.
    pub tasks: TaskTracker,
}

impl fmt::Debug for ProxyDeps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

impl ProxyDeps {
    /// A fresh correlation id.
    pub(super) fn instance(&self) -> String {
        hex::encode(self.shell.entropy.bytes::<8>())
    }

    /// Lets a person in, or says why not. Gives the lineage that they are admitted with.
    async fn admit(&self, seat: &HolderGuard, instance: &str) -> Result<String, Refusal> {
        self.limit(seat)?;
        let peer = seat.peer();
        if peer.identity.role != Role::Person {
            return Err(Refusal::WrongCaller(ForWhom::PeopleOnProxy));
        }
        let caller = admit(&self.shell, peer, Use::Read, instance).await?;
        Ok(caller.lineage.record.id.clone())
    }

    fn limit(&self, seat: &HolderGuard) -> Result<(), Refusal> {
        Ok(self.rates.check(Class::Connect, seat.conn().source())?)
    }
}

/// Serves one `CONNECT`, and then the service.
pub async fn connect<IO>(parts: Arc<ProxyDeps>, mut io: IO, seat: HolderGuard)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let conn = Arc::clone(seat.conn());
    let head = tokio::select! {
        biased;
        _ = conn.told_to_end() => return goodbye(&mut io).await,
        head = timeout(parts.head_time, read_head(&mut io)) => head,
    };
    let instance = parts.instance();
    let (head, early) = match head {
        Ok(Some(read)) => read,
        Ok(None) => return goodbye(&mut io).await,
        Err(_) => return refuse(&mut io, &Refusal::Unfinished, &instance).await,
    };
    let refusal = match proxy_head(&head).map_err(|why| malformed(&parts, why)).and_then(|head| wanted(&head)) {
        Err(refusal) => refusal,
        Ok(wanted) => match begin(&parts, &seat, EntryPoint::Connect, &wanted, &instance).await {
            Err(refusal) => {
                note(&seat, &wanted, &refusal, &instance);
                refusal
            }
            Ok(ready) => {
                let answer = format!(
                    "HTTP/1.1 200 Connection Established\r\nLychgate-Session: {}\r\nLychgate-Mode: {}\r\n\r\n",
                    ready.id(),
                    ready.mode().as_str()
                );
                if io.write_all(answer.as_bytes()).await.is_ok() && io.flush().await.is_ok() {
                    ready.run(&parts.shell, &conn, &mut io, &early).await;
                } else {
                    ready.abandon(&parts.shell).await;
                }
                return;
            }
        },
    };
    refuse(&mut io, &refusal, &instance).await;
}

/// What is asked for: a service, never an address.
fn wanted(head: &ProxyHead) -> Result<WantedService, Refusal> {
    match head {
        ProxyHead::Connect(text) => target(text).map_err(|bad| Refusal::Malformed(Malformed::Target(bad.to_string()))),
        ProxyHead::Other => Err(Refusal::Malformed(Malformed::NotConnect)),
    }
}

fn malformed(parts: &ProxyDeps, why: BadFraming) -> Refusal {
    parts.shell.metrics.framing_refused(why.code());
    why.into()
}

async fn begin(
    parts: &ProxyDeps,
    seat: &HolderGuard,
    door: EntryPoint,
    wanted: &WantedService,
    instance: &str,
) -> Result<relay::Ready, Refusal> {
    let lineage = parts.admit(seat, instance).await?;
    let caller = StreamOpener { peer: Arc::clone(seat.peer()), conn: seat.conn(), lineage: &lineage, tunnel: None };
    relay::open(&parts.shell, &caller, EndsTo::Nobody, door, wanted, instance).await
}

fn note(seat: &HolderGuard, wanted: &WantedService, refusal: &Refusal, instance: &str) {
    log_refused(&seat.peer().identity, wanted, refusal, instance);
}

/// The head of a request with its empty line, and what came after it.
async fn read_head<IO: AsyncRead + Unpin>(io: &mut IO) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        let seen = bytes.len().saturating_sub(3);
        if io.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        // A bare LF never ends a header section (RFC 9112 2.2): the parser refuses it, so nothing more is read.
        let bare = bytes[seen..].windows(2).any(|pair| pair == b"\n\n");
        let end = bytes[seen..].windows(4).position(|four| four == b"\r\n\r\n").map(|at| seen + at + 4);
        match end {
            Some(end) => {
                let early = bytes.split_off(end);
                return Some((bytes, early));
            }
            None if bare || bytes.len() > HEAD_MAX => return Some((bytes, Vec::new())),
            None => {}
        }
    }
}

/// Answers with a problem and closes: whatever else was sent is thrown away, never read as a request.
async fn refuse<IO: AsyncRead + AsyncWrite + Unpin>(io: &mut IO, refusal: &Refusal, instance: &str) {
    let problem = problem::problem(refusal, instance);
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let reason = http::StatusCode::from_u16(problem.status).ok().and_then(|status| status.canonical_reason());
    let retry = problem.retry_after.map_or_else(String::new, |seconds| format!("Retry-After: {seconds}\r\n"));
    let head = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: {PROBLEM_TYPE}\r\nContent-Length: {}\r\n{retry}Proxy-Status: lychgate; error={}; \
         details=\"{}\"\r\nLychgate-Instance: {instance}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
        problem.status,
        reason.unwrap_or("Refused"),
        body.len(),
        proxy_error(refusal),
        problem.code(),
    );
    let answer = async {
        io.write_all(head.as_bytes()).await?;
        io.write_all(&body).await?;
        io.shutdown().await
    };
    if timeout(LINGER_TIME, answer).await.is_ok_and(|sent| sent.is_ok()) {
        // Closing at once on unread bytes would reset the connection, and the answer with it.
        let mut drained = io.take(LINGER_BYTES as u64);
        let _ = timeout(LINGER_TIME, tokio::io::copy(&mut drained, &mut tokio::io::sink())).await;
    }
}

/// The error types of RFC 9209 2.3.
const fn proxy_error(refusal: &Refusal) -> &'static str {
    match refusal.class() {
        RefusalClass::Unreached(unreached) => match unreached {
            Unreached::Offline { .. } | Unreached::Elsewhere { .. } | Unreached::StreamElsewhere { .. } => {
                "destination_unavailable"
            }
            Unreached::NotExposed { .. } => "destination_not_found",
            Unreached::ByMachine { .. } => "http_request_denied",
            Unreached::TargetClosed { .. } => "connection_refused",
            Unreached::TargetSlow { .. } | Unreached::Silent { .. } => "connection_timeout",
            Unreached::TooMany(_) => "connection_limit_reached",
        },
        RefusalClass::NotFound => "destination_not_found",
        RefusalClass::Unreadable => "http_request_error",
        RefusalClass::TooFast { .. } => "connection_limit_reached",
        RefusalClass::Ours => "proxy_internal_error",
        RefusalClass::Locked | RefusalClass::Ended | RefusalClass::Denied => "http_request_denied",
    }
}

async fn goodbye<IO: AsyncWrite + Unpin>(io: &mut IO) {
    let _ = timeout(CUT_GRACE, io.shutdown()).await;
}

/// Serves a connection whose name says what is wanted: its bytes are the service's.
pub async fn raw<IO>(parts: Arc<ProxyDeps>, mut io: IO, seat: HolderGuard, name: RawName)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let instance = parts.instance();
    let wanted = WantedService { service: name.service, machine: name.machine };
    match begin(&parts, &seat, EntryPoint::Raw, &wanted, &instance).await {
        Ok(ready) => {
            ready.run(&parts.shell, seat.conn(), &mut io, &[]).await;
        }
        Err(refusal) => {
            note(&seat, &wanted, &refusal, &instance);
            if wanted.service == "ssh" {
                // RFC 4253 4.2: lines before the version are allowed. No other protocol has a place for words.
                let line = format!("lychgate: {refusal} ({instance})\r\n");
                let _ = timeout(CUT_GRACE, io.write_all(line.as_bytes())).await;
            }
            goodbye(&mut io).await;
        }
    }
}
