//! A person's access to a service: identity and address of the proxy face, and messages about refused and prematurely ended sessions.

use std::io;
use std::sync::Arc;

use pki::Name;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use wire::tunnel::Reason;

use crate::core::ending::{Completeness, Ending};
use crate::core::offset::Offset;
use crate::core::target::Address;
use crate::edge::keystore::Keystore;
use crate::edge::live_credential::LiveCredential;
use crate::edge::manage::{ManageFace, segment};
use crate::edge::net::{CallError, NetError};
use crate::edge::proxy::{Carries, IdentitySource, ServiceStream, Streams};
use crate::edge::serve::BUFFER;
use crate::edge::terminal;
use crate::flow::upkeep;
use crate::text::report::{Complaint, Exit};

/// The data for a connection to the proxy face.
#[derive(Clone)]
pub struct ProxyAccess {
    /// The identity.
    pub credential: LiveCredential,
    /// The proxy face.
    pub proxy: Address,
    /// The offset of the gateway's clock.
    pub offset: Offset,
    /// The folder of the identity.
    pub store: Keystore,
}

impl ProxyAccess {
    /// For the identity in the folder.
    ///
    /// # Errors
    /// When there is no valid identity, or the gateway has no proxy face.
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
        Ok(Self { credential: LiveCredential::new(store, credential), proxy, offset, store: store.clone() })
    }

    /// The message that our certificate has expired, if it has.
    #[must_use]
    pub fn expired(&self) -> Option<Complaint> {
        upkeep::expired(&self.store, &self.credential.newest())
    }

    /// See [`Streams::dial`].
    pub async fn dial(&self, carries: Carries) -> Result<Streams, CallError> {
        let (store, held) = (self.store.clone(), self.credential.clone());
        let identity: IdentitySource = Arc::new(move || {
            let credential = held.newest();
            let offset = Offset::from_secs(store.state(&credential.facts).clock_offset);
            Some((credential, offset))
        });
        let credential = self.credential.newest();
        Streams::dial(credential, self.proxy.clone(), self.offset, identity, carries).await.map_err(CallError::Net)
    }
}

/// A session that has ended.
pub struct EndedSession<'a> {
    /// The id of the session.
    pub session: &'a str,
    /// The machine of its service.
    pub machine: &'a Name,
    /// How its stream ended.
    pub ending: Ending,
    /// The gateway's reason on the connection that carried it, if it sent one.
    pub said: Option<Reason>,
}

/// Prints why a session ended, if its data is incomplete. Returns the exit code.
pub async fn report_end(way: Option<&ProxyAccess>, over: EndedSession<'_>) -> Exit {
    let EndedSession { session, machine, ending, said } = over;
    let judged = match ending.judge(said) {
        Completeness::AskGateway => ask(way, session, &ending, said).await,
        judged => judged,
    };
    match judged {
        Completeness::Cut(exit, why) => {
            terminal::say(&format!("the session {session} to `{machine}` was ended: {why}"));
            exit
        }
        Completeness::Complete | Completeness::AskGateway => Exit::Ok,
    }
}

/// If the cause of a refusal is a lock that we may read, adds who set it and why.
pub async fn explain_refusal(way: &ProxyAccess, machine: &Name, mut complaint: Complaint) -> Complaint {
    if complaint.code == "denied"
        && let Ok(mut face) = ManageFace::new(&way.credential.newest())
        && let Some(lock) = lock_of(&mut face, machine).await
    {
        complaint.what = format!("{}; {lock}", complaint.what);
        complaint.hint = Some(format!("`lychgate machines unlock {machine}` lifts it, if you may"));
    }
    complaint
}

/// Who locked a machine, and the reason.
async fn lock_of(face: &mut ManageFace, machine: &Name) -> Option<String> {
    let view: wire::admin::SubjectView = face.get(&format!("/v1/machines/{}", segment(machine.as_str()))).await.ok()?;
    let lock = view.locks.first()?;
    let by = lock.by.rsplit('/').next().unwrap_or_default();
    Some(format!("`{machine}` was locked by {by}: {}", lock.reason))
}

/// Queries the gateway's record of a session for the reason of its end.
async fn ask(way: Option<&ProxyAccess>, session: &str, ending: &Ending, said: Option<Reason>) -> Completeness {
    let alone = || ending.judge_alone(said);
    let Some(way) = way else { return alone() };
    let Ok(mut face) = ManageFace::new(&way.credential.newest()) else { return alone() };
    let view: Result<wire::admin::SessionView, CallError> =
        face.get(&format!("/v1/sessions/{}", segment(session))).await;
    match view {
        Ok(view) => {
            let known = view.reason.map(|reason| serde_json::from_value(reason.into()).unwrap_or(Reason::Unknown));
            let known = known.or(said);
            let lock = match (known, Name::parse(&view.machine)) {
                (Some(Reason::Locked), Ok(machine)) => lock_of(&mut face, &machine).await,
                _ => None,
            };
            match (ending.judge_alone(known), lock) {
                (Completeness::Cut(exit, why), Some(lock)) => Completeness::Cut(exit, format!("{why}; {lock}")),
                (judged, _) => judged,
            }
        }
        // We have been locked or have lost access, which is why the session ended.
        Err(CallError::Refused(refusal)) if refusal.status == 403 => {
            Completeness::Cut(refusal.exit(), format!("{}: {}", refusal.code, refusal.detail))
        }
        Err(CallError::Net(error @ NetError::Rejected { .. })) => {
            Completeness::Cut(Exit::Expired, format!("expired: {error}"))
        }
        // The gateway itself is down.
        Err(CallError::Net(error)) if said.is_none() => {
            Completeness::Cut(Exit::Unreachable, format!("the gateway does not answer any more: {error}"))
        }
        Err(_) => alone(),
    }
}

/// Relays between a program's connection and a service.
pub async fn carry<A: AsyncRead + AsyncWrite + Unpin>(program: &mut A, service: &mut ServiceStream) -> io::Result<()> {
    match copy_bidirectional_with_sizes(program, service, BUFFER, BUFFER).await {
        Ok(_) => {
            service.finish().await;
            Ok(())
        }
        Err(error) => {
            service.abandon().await;
            Err(error)
        }
    }
}
