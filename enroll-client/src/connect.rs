//! `connect`, `forward`, and what `run` exposes: a person's (or program's) way to a service on a machine.

use std::sync::Arc;

use pki::Name;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy, copy_bidirectional_with_sizes};
use tokio::net::TcpListener;

use crate::cli::{ConnectArgs, ForwardArgs, RunArgs};
use crate::edge::keystore::{Credential, Keystore};
use crate::edge::manage::{ManageFace, segment};
use crate::edge::net::{CallError, NetError};
use crate::edge::proxy::{Service, Streams};
use crate::edge::serve::BUFFER;
use crate::edge::terminal;
use crate::helper;
use crate::offset::Offset;
use crate::report::{Complaint, Exit};
use crate::services::{FILE, Services};
use crate::target::{Address, parse_name};
use crate::text;
use crate::upkeep;

/// What the file in the folder and the flags say together.
///
/// # Errors
/// When either makes no sense.
pub fn services(store: &Keystore, args: &RunArgs) -> Result<Services, Complaint> {
    let mut services = match store.text(FILE)? {
        Some(text) => Services::parse(&text, FILE)?,
        None => Services::none(),
    };
    for flag in &args.expose {
        services.expose(flag)?;
    }
    for flag in &args.reach {
        services.reach(flag)?;
    }
    Ok(services)
}

/// What a connection to the proxy face is made with.
#[derive(Clone)]
pub struct Way {
    /// Who we are.
    pub credential: Arc<Credential>,
    /// Where the proxy face is.
    pub proxy: Address,
    /// How far the gateway's clock is ahead.
    pub offset: Offset,
}

impl Way {
    /// As the identity in the folder.
    ///
    /// # Errors
    /// When there is none that is valid, or the gateway has no proxy face.
    pub async fn find(store: &Keystore) -> Result<Self, Complaint> {
        let credential = upkeep::load_valid(store)?;
        if credential.identity.role != pki::Role::Person {
            return Err(Complaint::new(
                Exit::Refused,
                "wrong-caller",
                format!("`{}` is no person: people connect to services", credential.identity),
            )
            .hint("a machine's own programs reach other machines with `lychgate run --reach`"));
        }
        let proxy = upkeep::proxy(store, &credential).await?;
        let offset = Offset::from_secs(store.state(&credential.facts).clock_offset);
        Ok(Self { credential: Arc::new(credential), proxy, offset })
    }

    /// A connection.
    ///
    /// # Errors
    /// When there is none.
    pub async fn dial(&self) -> Result<Streams, CallError> {
        Streams::dial(Arc::clone(&self.credential), self.proxy.clone(), self.offset).await.map_err(CallError::Net)
    }
}

/// A machine's name, as people and ssh write it: alone, or in full as `<name>.machine.<trust domain>`.
///
/// # Errors
/// When it is neither.
pub fn machine(text: &str) -> Result<Name, Complaint> {
    let name = text.split_once(".machine.").map_or(text, |(name, _)| name);
    parse_name(name)
}

/// `connect`: standard input and output are the service's.
///
/// # Errors
/// When there is no connection.
pub async fn connect(store: &Keystore, args: &ConnectArgs) -> Result<Exit, Complaint> {
    let name = machine(&args.machine)?;
    if args.helper {
        return helper::connect(store, &name, &args.service, args.fdpass).await;
    }
    let way = Way::find(store).await?;
    let streams = way.dial().await?;
    let service = streams.reach(&args.service, &name).await?;
    let session = service.session.clone();
    let ended = stdio(service).await;
    Ok(afterwards(&way, &session, ended).await)
}

/// Which end closed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Standard input: we wanted no more.
    Here,
    /// The service, or the gateway for it.
    There,
}

/// Joins standard input and output with a connection, until the other side has no more to say.
pub async fn stdio<IO: AsyncRead + AsyncWrite + Unpin>(io: IO) -> Ended {
    let (mut from, mut to) = tokio::io::split(io);
    let (mut stdin, mut stdout) = (tokio::io::stdin(), tokio::io::stdout());
    let outwards = async {
        let _ = copy(&mut stdin, &mut to).await;
        let _ = to.shutdown().await;
    };
    let inwards = async {
        let _ = copy(&mut from, &mut stdout).await;
        let _ = stdout.flush().await;
    };
    tokio::pin!(inwards);
    tokio::select! {
        () = &mut inwards => Ended::There,
        () = outwards => {
            // What the service has left to say, it may say.
            inwards.await;
            Ended::Here
        }
    }
}

/// Asks why a session ended, when it was not we who ended it, and says so if somebody did.
pub async fn afterwards(way: &Way, session: &str, ended: Ended) -> Exit {
    if ended == Ended::Here {
        return Exit::Ok;
    }
    let Some(End { exit, why, machine }) = reason(way, session).await else { return Exit::Ok };
    let machine = machine.map_or_else(String::new, |machine| format!(" to `{}`", text::safe(&machine)));
    terminal::say(&format!("the session {session}{machine} was ended: {why}"));
    exit
}

/// How a session came to its end when nobody at either end wanted it.
struct End {
    exit: Exit,
    why: String,
    machine: Option<String>,
}

/// Why a session was ended by somebody, if it was.
async fn reason(way: &Way, session: &str) -> Option<End> {
    let mut face = ManageFace::new(&way.credential).ok()?;
    let view: Result<wire::admin::SessionView, CallError> =
        face.get(&format!("/v1/sessions/{}", segment(session))).await;
    match view {
        Ok(view) => {
            let reason = view.reason.filter(|reason| reason != "peer")?;
            let parsed: Option<wire::tunnel::Reason> = serde_json::from_value(reason.clone().into()).ok();
            let words = parsed.map_or("for a reason this program does not know", wire::tunnel::Reason::explain);
            Some(End { exit: Exit::Refused, why: format!("{reason}: {words}"), machine: Some(view.machine) })
        }
        // Then it is our own standing that ended it.
        Err(CallError::Refused(refusal)) if refusal.status == 403 => {
            let why = format!("{}: {}", refusal.code, refusal.detail);
            Some(End { exit: refusal.exit(), why, machine: None })
        }
        Err(CallError::Net(error @ NetError::Rejected { .. })) => {
            Some(End { exit: Exit::Expired, why: format!("expired: {error}"), machine: None })
        }
        // It went away with our connection, or with the gateway itself.
        Err(CallError::Net(error)) => {
            let why = format!("the gateway does not answer any more: {error}");
            Some(End { exit: Exit::Unreachable, why, machine: None })
        }
        Err(CallError::Refused(_)) => None,
    }
}

/// `forward`: a local listener.
///
/// # Errors
/// When it cannot listen, or there is no way.
pub async fn forward(store: &Keystore, args: &ForwardArgs) -> Result<(), Complaint> {
    let name = machine(&args.machine)?;
    let way = Way::find(store).await?;
    let listener = TcpListener::bind(&args.listen).await.map_err(|error| {
        Complaint::new(Exit::Usage, "listen", format!("cannot listen on {}: {error}", args.listen))
            .hint("choose another address with --listen")
    })?;
    let at = listener.local_addr().map(|at| at.to_string()).unwrap_or_default();
    terminal::say(&format!("{at} leads to `{}` on `{name}`", args.service));
    let pool = helper::Pool::new(store.clone(), way);
    loop {
        let Ok((mut program, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            continue;
        };
        let _ = program.set_nodelay(true);
        let (pool, service, name) = (Arc::clone(&pool), args.service.clone(), name.clone());
        tokio::spawn(async move {
            match pool.reach(&service, &name).await {
                Ok((mut found, way)) => {
                    let _ = copy_bidirectional_with_sizes(&mut program, &mut found, BUFFER, BUFFER).await;
                    let session = found.session.clone();
                    drop(found);
                    let _ = afterwards(&way, &session, Ended::There).await;
                }
                // Escaped already, line by line.
                Err(complaint) => terminal::show(&complaint.lines()),
            }
        });
    }
}

/// Joins a program's connection with a service.
pub async fn carry<A: AsyncRead + AsyncWrite + Unpin>(program: &mut A, service: &mut Service) {
    let _ = copy_bidirectional_with_sizes(program, service, BUFFER, BUFFER).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_as_people_and_ssh_write_them() {
        for text in ["edge-7", "edge-7.machine.td.example"] {
            assert_eq!(machine(text).unwrap().as_str(), "edge-7");
        }
        assert!(machine("edge.example").is_err());
        assert!(machine("").is_err());
    }
}
