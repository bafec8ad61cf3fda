//! `connect`, `forward`, and what `run` exposes: a person's (or program's) way to a service on a machine.

use std::sync::Arc;

use pki::Name;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy, copy_bidirectional_with_sizes};
use tokio::net::TcpListener;
use wire::tunnel::Reason;

use crate::cli::{ConnectArgs, ForwardArgs, RunArgs};
use crate::edge::held::Held;
use crate::edge::keystore::Keystore;
use crate::edge::manage::{ManageFace, segment};
use crate::edge::net::{CallError, NetError};
use crate::edge::proxy::{Carries, Service, Standing, Streams};
use crate::edge::serve::BUFFER;
use crate::edge::terminal;
use crate::helper;
use crate::offset::Offset;
use crate::report::{Complaint, Exit};
use crate::services::{FILE, Sealing, Services};
use crate::target::{Address, parse_name};
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
    pub credential: Held,
    /// Where the proxy face is.
    pub proxy: Address,
    /// How far the gateway's clock is ahead.
    pub offset: Offset,
    /// The identity's folder.
    pub store: Keystore,
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
        Ok(Self { credential: Held::new(store, credential), proxy, offset, store: store.clone() })
    }

    /// A connection.
    ///
    /// # Errors
    /// When there is none.
    pub async fn dial(&self, carries: Carries) -> Result<Streams, CallError> {
        let (store, held) = (self.store.clone(), self.credential.clone());
        let standing: Standing = Arc::new(move || {
            let credential = held.newest();
            let offset = Offset::from_secs(store.state(&credential.facts).clock_offset);
            Some((credential, offset))
        });
        let credential = self.credential.newest();
        Streams::dial(credential, self.proxy.clone(), self.offset, standing, carries).await.map_err(CallError::Net)
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
        return helper::connect(store, &name, args).await;
    }
    let way = Way::find(store).await?;
    let streams = way.dial(Carries::One).await?;
    let service = streams.reach(&args.service, &name, Sealing::from_flag(args.raw)).await?;
    let (session, words) = (service.session.clone(), Arc::clone(&service.words));
    let ended = stdio(service).await;
    let said = words.why(&session).await;
    Ok(afterwards(Some(&way), Over { session: &session, machine: &name, ended, said }).await)
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

/// A session that is over.
pub struct Over<'a> {
    /// Its id.
    pub session: &'a str,
    /// The machine that it led to.
    pub machine: &'a Name,
    /// Which end closed first, as we saw it.
    pub ended: Ended,
    /// What the gateway said of it, on the connection that carried it.
    pub said: Option<Reason>,
}

/// Says why a session ended, when it was not we who ended it and somebody did.
pub async fn afterwards(way: Option<&Way>, over: Over<'_>) -> Exit {
    if over.ended == Ended::Here {
        return Exit::Ok;
    }
    let Over { session, machine, .. } = over;
    let Some((exit, why)) = reason(way, session, over.said).await else { return Exit::Ok };
    terminal::say(&format!("the session {session} to `{machine}` was ended: {why}"));
    exit
}

/// The exit code and the words for the end of a session, if somebody ended it.
fn in_words(reason: Reason) -> Option<(Exit, String)> {
    let exit = match reason {
        Reason::Peer => return None,
        Reason::Drained | Reason::Lost | Reason::Replaced => Exit::Unreachable,
        Reason::Expired | Reason::Locked | Reason::Policy | Reason::Killed | Reason::Limit | Reason::Unknown => {
            Exit::Refused
        }
    };
    Some((exit, format!("{}: {}", reason.as_str(), reason.explain())))
}

/// Why a session was ended by somebody, if it was: from what was said, or by asking.
async fn reason(way: Option<&Way>, session: &str, said: Option<Reason>) -> Option<(Exit, String)> {
    match said {
        // Whose the lock is, and what for, is worth a question.
        None | Some(Reason::Locked | Reason::Unknown) => {}
        Some(said) => return in_words(said),
    }
    let Some(way) = way else { return said.and_then(in_words) };
    let mut face = ManageFace::new(&way.credential.newest()).ok()?;
    let view: Result<wire::admin::SessionView, CallError> =
        face.get(&format!("/v1/sessions/{}", segment(session))).await;
    match view {
        Ok(view) => in_words(serde_json::from_value(view.reason?.into()).unwrap_or(Reason::Unknown)),
        // Then it is our own standing that ended it.
        Err(CallError::Refused(refusal)) if refusal.status == 403 => {
            Some((refusal.exit(), format!("{}: {}", refusal.code, refusal.detail)))
        }
        Err(CallError::Net(error @ NetError::Rejected { .. })) => Some((Exit::Expired, format!("expired: {error}"))),
        Err(CallError::Net(error)) => match said {
            Some(said) => in_words(said),
            // It went away with our connection, or with the gateway itself.
            None => Some((Exit::Unreachable, format!("the gateway does not answer any more: {error}"))),
        },
        Err(CallError::Refused(_)) => said.and_then(in_words),
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
    let pool = helper::Pool::new(way);
    let sealing = Sealing::from_flag(args.raw);
    loop {
        let Ok((mut program, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            continue;
        };
        let _ = program.set_nodelay(true);
        let (pool, service, name) = (Arc::clone(&pool), args.service.clone(), name.clone());
        tokio::spawn(async move {
            match pool.reach(&service, &name, sealing).await {
                Ok((mut found, way)) => {
                    carry(&mut program, &mut found).await;
                    let (session, words) = (found.session.clone(), Arc::clone(&found.words));
                    drop(found);
                    let (ended, said) = (Ended::There, words.why(&session).await);
                    let _ = afterwards(Some(&way), Over { session: &session, machine: &name, ended, said }).await;
                }
                // Escaped already, line by line.
                Err(complaint) => terminal::show(&complaint.lines()),
            }
        });
    }
}

/// Joins a program's connection with a service.
pub async fn carry<A: AsyncRead + AsyncWrite + Unpin>(program: &mut A, service: &mut Service) {
    match copy_bidirectional_with_sizes(program, service, BUFFER, BUFFER).await {
        Ok(_) => service.finish().await,
        Err(_) => service.abandon().await,
    }
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
