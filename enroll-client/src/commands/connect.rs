//! `connect`, `forward`, and what `run` exposes: a person's (or program's) way to a service on a machine.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pki::Name;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use wire::tunnel::{Reason, is_service_name};

use crate::cli::{ConnectArgs, ForwardArgs, RunArgs};
use crate::commands::helper;
use crate::core::ending::{Ending, Judged};
use crate::core::offset::Offset;
use crate::core::services::{FILE, Sealing, Services};
use crate::core::target::{Address, parse_name};
use crate::edge::held::Held;
use crate::edge::keystore::Keystore;
use crate::edge::lead::{join, pass_on, show_end};
use crate::edge::manage::{ManageFace, segment};
use crate::edge::net::{CallError, NetError};
use crate::edge::proxy::{Carries, Service, Standing, Streams};
use crate::edge::serve::{BUFFER, reset};
use crate::edge::terminal::{self, Format};
use crate::flow::upkeep;
use crate::text::disconnect;
use crate::text::report::{Complaint, Exit};

/// How long the end of our own direction may take to go out, once the other has ended.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// What the file in the folder and the flags say together.
///
/// # Errors
/// When either makes no sense.
pub fn services(store: &Keystore, args: &RunArgs) -> Result<Services, Complaint> {
    let mut services = match store.trusted_text(FILE)? {
        Some(text) => Services::parse(&text, FILE)?,
        None => Services::none(),
    };
    once_each("--expose", &args.expose)?;
    once_each("--reach", &args.reach)?;
    for flag in &args.expose {
        services.expose(flag)?;
    }
    for flag in &args.reach {
        services.reach(flag)?;
    }
    Ok(services)
}

/// Two of one name: one of them would win, and nobody said which.
fn once_each(option: &str, flags: &[String]) -> Result<(), Complaint> {
    let name = |flag: &String| flag.split_once('=').map(|(name, _)| name.to_owned());
    let names: Vec<String> = flags.iter().filter_map(name).collect();
    match names.iter().enumerate().find(|(at, name)| names.iter().take(*at).any(|other| other == *name)) {
        Some((_, twice)) => Err(Complaint::new(Exit::Usage, "usage", format!("`{option} {twice}=...` is given twice"))
            .hint("leave one out")),
        None => Ok(()),
    }
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

    /// That our own certificate is over, if it is.
    #[must_use]
    pub fn expired(&self) -> Option<Complaint> {
        upkeep::expired(&self.store, &self.credential.newest())
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

/// A machine's name, as people and ssh write it: alone, or in full as `<name>.machine.<trust domain>`, in any case, perhaps with a
/// dot at its end.
///
/// # Errors
/// When it is neither.
pub fn machine(text: &str) -> Result<Name, Complaint> {
    let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let name = text.split_once(".machine.").map_or(text.as_str(), |(name, _)| name);
    parse_name(name)
}

/// A service on a machine, as people write it: `SERVICE@MACHINE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The service.
    pub service: String,
    /// The machine that exposes it.
    pub machine: Name,
}

impl Place {
    /// Reads it. `service` is what an earlier spelling gave as a word of its own, behind the machine; `usual` is the service when
    /// none is named.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(text: &str, service: Option<&str>, usual: Option<&str>) -> Result<Self, Complaint> {
        let (service, name) = match (text.split_once('@'), service.or(usual)) {
            (Some((service, name)), _) => (service, name),
            (None, Some(service)) => (service, text),
            (None, None) => {
                return Err(Complaint::new(Exit::Usage, "usage", format!("`{text}` does not say which service"))
                    .hint("write SERVICE@MACHINE, such as web@edge-7"));
            }
        };
        if !is_service_name(service) {
            return Err(Complaint::new(Exit::Usage, "usage", format!("`{service}` cannot name a service"))
                .hint("write SERVICE@MACHINE, such as web@edge-7"));
        }
        Ok(Self { service: service.to_owned(), machine: machine(name)? })
    }
}

/// `connect`: standard input and output are the service's.
///
/// # Errors
/// When there is no connection.
pub async fn connect(store: &Keystore, args: &ConnectArgs) -> Result<Exit, Complaint> {
    let place = Place::read(&args.place, args.service.as_deref(), Some("ssh"))?;
    let outcome =
        if args.helper { helper::connect(store, &place, args).await } else { alone(store, place.clone(), args).await };
    if let Err(complaint) = &outcome
        && place.service == "ssh"
        && !args.fdpass
        // That may come when bytes have passed.
        && complaint.code != helper::CODE
        && terminal::to_program(&disconnect::message(&format!("lychgate: {complaint}")))
    {
        terminal::until_program_leaves(CLOSE_TIME).await;
    }
    outcome
}

/// The same without a helper.
async fn alone(store: &Keystore, place: Place, args: &ConnectArgs) -> Result<Exit, Complaint> {
    let Place { service, machine: name } = place;
    let way = Way::find(store).await?;
    let streams = way.dial(Carries::One).await?;
    let service = match streams.reach(&service, &name, Sealing::from_flag(args.raw)).await {
        Ok(service) => service,
        Err(error) => return Err(explained(&way, &name, error.into()).await),
    };
    let (session, words) = (service.session.clone(), Arc::clone(&service.words));
    let ending = stdio(service).await;
    let said = words.why(&session).await;
    Ok(afterwards(Some(&way), Over { session: &session, machine: &name, ending, said }).await)
}

/// Joins standard input and output with a connection, until the other side has no more to say.
pub async fn stdio<IO: AsyncRead + AsyncWrite + Unpin>(io: IO) -> Ending {
    let (mut from, mut to) = tokio::io::split(io);
    let (mut stdin, mut stdout) = (tokio::io::stdin(), tokio::io::stdout());
    let ending = {
        let outwards = async {
            let _ = copy(&mut stdin, &mut to).await;
            let _ = to.shutdown().await;
        };
        let inwards = pass_on(&mut from, &mut stdout);
        tokio::pin!(inwards);
        tokio::select! {
            biased;
            ending = &mut inwards => ending.unwrap_or(Ending::Whole),
            // What the service has left to say, it may say.
            () = outwards => inwards.await.unwrap_or(Ending::Closed),
        }
    };
    // The session ends when both directions have; nobody waits for us if it is gone already.
    let _ = tokio::time::timeout(CLOSE_TIME, to.shutdown()).await;
    ending
}

/// A session that is over.
pub struct Over<'a> {
    /// Its id.
    pub session: &'a str,
    /// The machine that it led to.
    pub machine: &'a Name,
    /// How its bytes ended, as we saw it.
    pub ending: Ending,
    /// What the gateway said of it, on the connection that carried it.
    pub said: Option<Reason>,
}

/// Says why a session ended, when somebody or something ended it before its time.
pub async fn afterwards(way: Option<&Way>, over: Over<'_>) -> Exit {
    let Over { session, machine, ending, said } = over;
    let judged = match ending.judge(said) {
        Judged::Ask => ask(way, session, &ending, said).await,
        judged => judged,
    };
    match judged {
        Judged::Ended(exit, why) => {
            terminal::say(&format!("the session {session} to `{machine}` was ended: {why}"));
            exit
        }
        Judged::Well | Judged::Ask => Exit::Ok,
    }
}

/// A refusal with whose lock it is and what for, where that is the cause and we may see it.
pub async fn explained(way: &Way, machine: &Name, mut complaint: Complaint) -> Complaint {
    if complaint.code == "denied"
        && let Ok(mut face) = ManageFace::new(&way.credential.newest())
        && let Some(lock) = lock_of(&mut face, machine).await
    {
        complaint.what = format!("{}; {lock}", complaint.what);
        complaint.hint = Some(format!("`lychgate machines unlock {machine}` lifts it, if you may"));
    }
    complaint
}

/// Who locked a machine, and what for.
async fn lock_of(face: &mut ManageFace, machine: &Name) -> Option<String> {
    let view: wire::admin::SubjectView = face.get(&format!("/v1/machines/{}", segment(machine.as_str()))).await.ok()?;
    let lock = view.locks.first()?;
    let by = lock.by.rsplit('/').next().unwrap_or_default();
    Some(format!("`{machine}` was locked by {by}: {}", lock.reason))
}

/// Asks the gateway why a session ended.
async fn ask(way: Option<&Way>, session: &str, ending: &Ending, said: Option<Reason>) -> Judged {
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
                (Judged::Ended(exit, why), Some(lock)) => Judged::Ended(exit, format!("{why}; {lock}")),
                (judged, _) => judged,
            }
        }
        // Then it is our own standing that ended it.
        Err(CallError::Refused(refusal)) if refusal.status == 403 => {
            Judged::Ended(refusal.exit(), format!("{}: {}", refusal.code, refusal.detail))
        }
        Err(CallError::Net(error @ NetError::Rejected { .. })) => {
            Judged::Ended(Exit::Expired, format!("expired: {error}"))
        }
        // It went away with our connection, or with the gateway itself.
        Err(CallError::Net(error)) if said.is_none() => {
            Judged::Ended(Exit::Unreachable, format!("the gateway does not answer any more: {error}"))
        }
        Err(_) => alone(),
    }
}

/// `forward`: a local listener.
///
/// # Errors
/// When it cannot listen, or there is no way.
pub async fn forward(store: &Keystore, args: &ForwardArgs, format: Format) -> Result<(), Complaint> {
    let Place { service, machine: name } = Place::read(&args.place, args.service.as_deref(), None)?;
    let way = Way::find(store).await?;
    let listen = listen_at(&args.listen);
    let listener = TcpListener::bind(&listen).await.map_err(|error| {
        Complaint::new(Exit::Usage, "listen", format!("cannot listen on {listen}: {error}"))
            .hint("choose another address with --listen")
    })?;
    let at = listener.local_addr().map(|at| at.to_string()).unwrap_or_default();
    match format {
        Format::Text => terminal::say(&format!("{at} leads to {service}@{name}")),
        Format::Json => {
            terminal::result(format, &json!({ "listen": at, "service": service, "machine": name.as_str() }), "")
        }
    }
    let pool = helper::Pool::new(way);
    let sealing = Sealing::from_flag(args.raw);
    loop {
        let Ok((mut program, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(500)).await;
            continue;
        };
        let _ = program.set_nodelay(true);
        let (pool, service, name) = (Arc::clone(&pool), service.clone(), name.clone());
        tokio::spawn(async move {
            match pool.reach(&service, &name, sealing).await {
                Ok((mut found, way)) => {
                    let session = found.session.clone();
                    let over = lead(&mut program, &mut found).await;
                    drop(found);
                    let Some((ending, said)) = over else { return };
                    let _ = afterwards(Some(&way), Over { session: &session, machine: &name, ending, said }).await;
                }
                Err(complaint) => {
                    // Nothing came, which is not the same as a service that has nothing to say.
                    reset(&program);
                    // Escaped already, line by line.
                    terminal::show(&complaint.lines());
                }
            }
        });
    }
}

/// Where to listen: a port alone means this host alone.
fn listen_at(text: &str) -> String {
    let port = text.strip_prefix(':').unwrap_or(text);
    if port.parse::<u16>().is_ok() { format!("127.0.0.1:{port}") } else { text.to_owned() }
}

/// Joins a program's connection with a service, and says at the program's end how the session ended. Gives that, and what was said of
/// it; nothing when the program left.
async fn lead(program: &mut TcpStream, service: &mut Service) -> Option<(Ending, Option<Reason>)> {
    let (session, words) = (service.session.clone(), Arc::clone(&service.words));
    let ending = join(program, service).await;
    match &ending {
        Ending::Unwanted | Ending::Unwritten(_) => {
            service.abandon().await;
            return None;
        }
        Ending::Whole | Ending::Closed => service.finish().await,
        Ending::Broke(_) => service.abandon().await,
    }
    let said = words.why(&session).await;
    show_end(program, &ending.judge(said)).await;
    Some((ending, said))
}

/// Joins a program's connection with a service; gives whether both ended well.
///
/// # Errors
/// When either broke.
pub async fn carry<A: AsyncRead + AsyncWrite + Unpin>(program: &mut A, service: &mut Service) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_as_people_and_ssh_write_them() {
        for text in ["edge-7", "edge-7.machine.td.example", "Edge-7", "edge-7.", "EDGE-7.Machine.TD.example."] {
            assert_eq!(machine(text).unwrap().as_str(), "edge-7");
        }
        assert!(machine("edge.example").is_err());
        assert!(machine("").is_err());
    }

    #[track_caller]
    fn place(text: &str, service: Option<&str>, usual: Option<&str>, want: Option<(&str, &str)>) {
        let got = Place::read(text, service, usual).ok();
        let got = got.as_ref().map(|place| (place.service.as_str(), place.machine.as_str()));
        assert_eq!(got, want, "{text} {service:?}");
    }

    #[test]
    fn services_on_machines() {
        place("web@edge-7", None, None, Some(("web", "edge-7")));
        place("ssh@Edge-7.machine.td.example.", None, Some("ssh"), Some(("ssh", "edge-7")));
        place("edge-7", None, Some("ssh"), Some(("ssh", "edge-7")));
        place("edge-7", None, None, None);
        place("@edge-7", None, Some("ssh"), None);
        place("web@", None, None, None);
        place("web@a@b", None, None, None);
        // As it was written before.
        place("edge-7", Some("web"), Some("ssh"), Some(("web", "edge-7")));
        place("edge-7", Some("We b"), None, None);
    }

    #[test]
    fn where_to_listen() {
        for (text, want) in [
            ("8080", "127.0.0.1:8080"),
            (":8080", "127.0.0.1:8080"),
            ("127.0.0.2:80", "127.0.0.2:80"),
            ("[::1]:80", "[::1]:80"),
            ("65536", "65536"),
        ] {
            assert_eq!(listen_at(text), want);
        }
    }

    #[test]
    fn of_one_name_only_one() {
        let flags = |list: &[&str]| list.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>();
        assert!(once_each("--expose", &flags(&["a=1:2", "b=1:2"])).is_ok());
        let complaint = once_each("--expose", &flags(&["a=1:2", "b=1:2", "a=3:4"])).unwrap_err();
        assert_eq!(complaint.what, "`--expose a=...` is given twice");
    }
}
