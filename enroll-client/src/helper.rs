//! The helper: one process that holds a connection to the proxy face for all programs of one person. They come by a Unix
//! socket in the identity folder, say what they want in the frames of [`wire::tunnel`], and get the service's bytes.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pki::Name;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};
use wire::problem::{PROBLEM_PREFIX, Problem};
use wire::tunnel::{Mode, Reach, Reached, Reason};

use crate::cli::{ConnectArgs, HelperArgs};
use crate::connect::{Ended, Over, Way, afterwards, carry};
use crate::edge::keystore::Keystore;
use crate::edge::mux::{read_frame, write_frame};
use crate::edge::net::CallError;
use crate::edge::proxy::{Carries, Service, Streams, Words};
use crate::edge::terminal;
use crate::platform;
use crate::report::{Complaint, Exit};
use crate::services::Sealing;

/// The socket in the identity folder.
pub const SOCKET: &str = "helper.sock";

/// How long a helper that was started by the way stays without a connection.
const IDLE: &str = "10min";

/// How long to wait for a helper that was just started.
const START_TIME: Duration = Duration::from_secs(10);

/// When to start another: the first may have found one there that was about to end.
const START_AGAIN: Duration = Duration::from_secs(2);

/// How long a helper may take to say why a session ended.
const WHY_TIME: Duration = Duration::from_secs(3);

/// Sessions whose ends are remembered.
const OPENED_KEPT: usize = 1_024;

/// How long a program may take to say what it wants, and the helper to answer.
const ANSWER_TIME: Duration = Duration::from_secs(45);

/// Connections to the proxy face, and who we are. A renewed certificate is picked up with the next stream; streams that are
/// open stay on the connection they began on.
pub struct Pool {
    state: Mutex<(Way, Vec<Arc<Streams>>)>,
    /// Where the gateway says why a session ended, for the last of those that were opened.
    opened: Mutex<VecDeque<(String, Arc<Words>)>>,
}

/// What a program says first.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Asked {
    /// It wants to a service.
    Reach(Wanted),
    /// Its session has ended; the answer is an [`Answer`].
    Why { session: String },
}

/// Where a program wants to.
#[derive(Serialize, Deserialize)]
struct Wanted {
    #[serde(flatten)]
    reach: Reach,
    /// Also when it is not sealed.
    #[serde(default)]
    raw: bool,
}

/// Why a session ended, if it is known.
#[derive(Serialize, Deserialize)]
struct Answer {
    reason: Option<Reason>,
}

impl Pool {
    /// None yet.
    #[must_use]
    pub fn new(way: Way) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new((way, Vec::new())), opened: Mutex::default() })
    }

    async fn note(&self, service: &Service) {
        let mut opened = self.opened.lock().await;
        if opened.len() == OPENED_KEPT {
            opened.pop_front();
        }
        opened.push_back((service.session.clone(), Arc::clone(&service.words)));
    }

    async fn why(&self, session: &str) -> Option<Reason> {
        let words = {
            let opened = self.opened.lock().await;
            opened.iter().rev().find(|(id, _)| id == session).map(|(_, words)| Arc::clone(words))
        };
        words?.why(session).await
    }

    /// A service, and the way by which it was reached.
    ///
    /// # Errors
    /// When there is no answer or the gateway refuses.
    pub async fn reach(&self, service: &str, machine: &Name, sealing: Sealing) -> Result<(Service, Way), Complaint> {
        let (streams, way, fresh) = self.streams().await?;
        match streams.reach(service, machine, sealing).await {
            Ok(found) => Ok((found, way)),
            // A connection that broke unnoticed: the first who needs it should not be the one to suffer.
            Err(CallError::Net(error)) if !fresh && error.is_passing() => {
                self.forget(&streams).await;
                let (streams, way, _) = self.streams().await?;
                Ok((streams.reach(service, machine, sealing).await?, way))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A connection with room, made with the certificate in use; whether it was made just now.
    async fn streams(&self) -> Result<(Arc<Streams>, Way, bool), Complaint> {
        let mut state = self.state.lock().await;
        let (way, open) = &mut *state;
        let current = way.credential.newest();
        open.retain(|streams| streams.has_room() || streams.open() > 0);
        let usable = |streams: &&Arc<Streams>| streams.has_room() && streams.serial() == current.serial;
        if let Some(streams) = open.iter().find(usable) {
            return Ok((Arc::clone(streams), way.clone(), false));
        }
        let streams = Arc::new(way.dial(Carries::Many).await?);
        open.push(Arc::clone(&streams));
        Ok((streams, way.clone(), true))
    }

    async fn forget(&self, broken: &Arc<Streams>) {
        self.state.lock().await.1.retain(|streams| !Arc::ptr_eq(streams, broken));
    }
}

fn socket(store: &Keystore) -> PathBuf {
    store.dir().join(SOCKET)
}

fn failed(what: String) -> Complaint {
    Complaint::new(Exit::Failure, "helper", what)
}

/// `helper`: serves until a signal comes, or nobody has come for as long as was said.
///
/// # Errors
/// When there is no identity, or another helper runs.
pub async fn helper(store: &Keystore, args: &HelperArgs) -> Result<(), Complaint> {
    let way = Way::find(store).await?;
    let path = socket(store);
    let listener = platform::listen_private(&path)
        .map_err(|error| failed(format!("cannot listen at `{}`: {error}", path.display())))?
        .ok_or_else(|| failed("a helper runs already for this identity".to_owned()).hint("it will serve you too"))?;
    terminal::say(&format!("helping at {}", path.display()));
    let mut stop = platform::StopSignal::new().map_err(|e| failed(e.to_string()))?;
    let pool = Pool::new(way);
    let busy = Arc::new(AtomicUsize::new(0));
    let mut last = Instant::now();
    loop {
        let accepted = tokio::select! {
            _ = stop.wait() => break,
            accepted = listener.accept() => accepted,
            () = sleep(Duration::from_secs(1)) => {
                if busy.load(Ordering::SeqCst) > 0 {
                    last = Instant::now();
                } else if args.idle.is_some_and(|idle| last.elapsed() >= idle) {
                    break;
                }
                continue;
            }
        };
        let Ok(program) = accepted else {
            sleep(Duration::from_millis(500)).await;
            continue;
        };
        busy.fetch_add(1, Ordering::SeqCst);
        let (pool, busy) = (Arc::clone(&pool), Arc::clone(&busy));
        tokio::spawn(async move {
            serve(&pool, program).await;
            busy.fetch_sub(1, Ordering::SeqCst);
        });
    }
    platform::remove_socket(&path);
    Ok(())
}

async fn serve(pool: &Pool, mut program: platform::LocalStream) {
    let Wanted { reach, raw } = match timeout(ANSWER_TIME, read_frame::<Asked, _>(&mut program)).await {
        Ok(Ok(Asked::Reach(reach))) => reach,
        Ok(Ok(Asked::Why { session })) => {
            let _ = write_frame(&mut program, &Answer { reason: pool.why(&session).await }).await;
            return;
        }
        Ok(Err(_)) | Err(_) => return,
    };
    let found = match Name::parse(&reach.machine) {
        Ok(machine) => pool.reach(&reach.service, &machine, Sealing::from_flag(raw)).await,
        Err(bad) => Err(Complaint::new(Exit::Usage, "usage", bad.to_string())),
    };
    match found {
        Ok((mut service, _)) => {
            // Sealed or not is over by now: the program gets the bytes as the service speaks them.
            pool.note(&service).await;
            let answer = Reached::Ok { session: service.session.clone(), mode: Mode::Raw, dial_back: None };
            if write_frame(&mut program, &answer).await.is_ok() {
                carry(&mut program, &mut service).await;
            }
        }
        Err(complaint) => {
            let problem = Box::new(problem(complaint));
            let _ = write_frame(&mut program, &Reached::Refused { problem }).await;
        }
    }
}

/// A complaint on its way to the program that shows it.
fn problem(complaint: Complaint) -> Problem {
    Problem {
        kind: format!("{PROBLEM_PREFIX}{}", complaint.code),
        title: complaint.code,
        status: u16::from(complaint.exit.code()),
        detail: complaint.what,
        hint: complaint.hint,
        instance: complaint.instance.unwrap_or_default(),
        retry_after: None,
        rules: vec![],
    }
}

fn complaint(problem: Problem) -> Complaint {
    let exit = u8::try_from(problem.status).ok().and_then(Exit::from_code).unwrap_or(Exit::Failure);
    let code = problem.code().to_owned();
    let mut complaint = Complaint::new(exit, &code, problem.detail);
    complaint.hint = problem.hint;
    complaint.instance = Some(problem.instance).filter(|instance| !instance.is_empty());
    complaint
}

/// `connect --helper`: as [`crate::connect::connect`], by the helper, which is started if there is none.
///
/// # Errors
/// When there is no connection.
pub async fn connect(store: &Keystore, machine: &Name, args: &ConnectArgs) -> Result<Exit, Complaint> {
    let mut program = reach_helper(store).await?;
    let reach = Reach { service: args.service.clone(), machine: machine.to_string() };
    let reach = Wanted { reach, raw: args.raw };
    let gone = |error: io::Error| failed(format!("the helper went away: {error}")).hint("try again");
    write_frame(&mut program, &reach).await.map_err(gone)?;
    let slow = |_| failed("the helper did not answer within 45 s".to_owned());
    let answer: Reached = timeout(ANSWER_TIME, read_frame(&mut program)).await.map_err(slow)?.map_err(gone)?;
    match answer {
        Reached::Refused { problem } => Err(complaint(*problem)),
        Reached::Ok { .. } if args.fdpass => {
            platform::pass_stdout(program).map_err(|error| {
                failed(format!("cannot hand the connection on: {error}")).hint("ssh wants ProxyUseFdpass=yes for this")
            })?;
            Ok(Exit::Ok)
        }
        Reached::Ok { session, .. } => {
            let here = platform::join_stdio(program).await.map_err(gone)?;
            if here {
                return Ok(Exit::Ok);
            }
            let ended = Ended::There;
            let Some(said) = why(store, &session).await else {
                return Err(failed("the helper went away, and the session with it".to_owned()).hint("connect again"));
            };
            if said == Some(Reason::Peer) {
                return Ok(Exit::Ok);
            }
            let way = Way::find(store).await.ok();
            Ok(afterwards(way.as_ref(), Over { session: &session, machine, ended, said }).await)
        }
    }
}

/// Why a session ended, as far as the helper was told; nothing when there is no helper any more.
async fn why(store: &Keystore, session: &str) -> Option<Option<Reason>> {
    let mut helper = platform::connect_local(&socket(store)).await.ok()?;
    let asked = async {
        write_frame(&mut helper, &Asked::Why { session: session.to_owned() }).await?;
        read_frame::<Answer, _>(&mut helper).await
    };
    Some(timeout(WHY_TIME, asked).await.ok()?.ok()?.reason)
}

async fn reach_helper(store: &Keystore) -> Result<platform::LocalStream, Complaint> {
    let path = socket(store);
    if let Ok(program) = platform::connect_local(&path).await {
        return Ok(program);
    }
    // Said here, where somebody reads it, and not by a helper that nobody sees.
    Way::find(store).await?;
    let until = Instant::now() + START_TIME;
    loop {
        start_helper(store)?;
        let tries = async {
            loop {
                match platform::connect_local(&path).await {
                    Ok(program) => return program,
                    Err(_) => sleep(Duration::from_millis(20)).await,
                }
            }
        };
        if let Ok(program) = timeout(START_AGAIN, tries).await {
            return Ok(program);
        }
        if Instant::now() >= until {
            return Err(failed("the helper does not answer".to_owned())
                .hint("`lychgate helper` shows what keeps it; without --helper none is needed"));
        }
    }
}

fn start_helper(store: &Keystore) -> Result<(), Complaint> {
    let cannot = |error: io::Error| failed(format!("cannot start a helper: {error}"));
    let mut command = std::process::Command::new(std::env::current_exe().map_err(cannot)?);
    command.arg("--dir").arg(store.dir()).args(["helper", "--idle", IDLE]);
    platform::start_apart(command).map_err(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_comes_through_the_helper_as_it_is() {
        let before =
            Complaint::new(Exit::Locked, "locked", "the machine `a` is locked: stolen").hint("ask").instance("i");
        let after = complaint(problem(before));
        assert_eq!((after.exit, after.code.as_str()), (Exit::Locked, "locked"));
        assert_eq!(after.what, "the machine `a` is locked: stolen");
        assert_eq!((after.hint.as_deref(), after.instance.as_deref()), (Some("ask"), Some("i")));
    }
}
