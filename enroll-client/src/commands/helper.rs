//! The helper: one process with a connection to the proxy face for all programs of one person. Programs connect to a Unix socket in the
//! identity folder, send a request in the frame format of [`wire::tunnel`], and get the service's bytes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pki::Name;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};
use transport::frame::{read_frame, write_frame};
use wire::problem::{PROBLEM_PREFIX, Problem};
use wire::tunnel::{Mode, Reach, Reached, Reason};

use crate::cli::{ConnectArgs, HelperArgs};
use crate::core::ending::{Completeness, Ending};
use crate::core::place::ServiceAddress;
use crate::core::services::Sealing;
use crate::edge::keystore::Keystore;
use crate::edge::program;
use crate::edge::terminal;
use crate::flow::access::{EndedSession, ProxyAccess, carry, explain_refusal, report_end};
use crate::flow::pool::{Pool, SessionEnd};
use crate::platform;
use crate::text::report::{Complaint, Exit};

/// The socket in the identity folder.
pub const SOCKET: &str = "helper.sock";

/// How long a helper that `connect --helper` has started stays without a connection.
const IDLE: &str = "10min";

/// How long to wait for a helper that was just started.
const START_TIME: Duration = Duration::from_secs(10);

/// When to start a second one: the first may have found a helper that was about to end.
const START_AGAIN: Duration = Duration::from_secs(2);

/// Time limit for the helper's reply to [`HelperRequest::Why`].
const WHY_TIME: Duration = Duration::from_secs(3);

/// Most bytes of standard error that are kept from a helper that ends at once.
const SAID_MAX: u64 = 4 * 1024;

/// Time limit for a program's request, and for the helper's reply.
const ANSWER_TIME: Duration = Duration::from_secs(45);

/// A program's request.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum HelperRequest {
    /// Connect to a service.
    Reach(ReachRequest),
    /// Why a session has ended; the reply is an [`EndReply`].
    Why { session: String },
}

/// The service to connect to.
#[derive(Serialize, Deserialize)]
struct ReachRequest {
    #[serde(flatten)]
    reach: Reach,
    /// Also accept an unsealed stream.
    #[serde(default)]
    raw: bool,
}

/// Why a session ended.
#[derive(Serialize, Deserialize)]
struct EndReply {
    reason: Option<Reason>,
    /// The stream broke at the helper.
    #[serde(default)]
    broke: bool,
}

impl From<SessionEnd> for EndReply {
    fn from(why: SessionEnd) -> Self {
        Self { reason: why.reason, broke: why.broke }
    }
}

fn socket(store: &Keystore) -> PathBuf {
    store.dir().join(SOCKET)
}

/// [`Complaint::code`] of errors of the helper itself.
pub const CODE: &str = "helper";

fn failed(what: String) -> Complaint {
    Complaint::new(Exit::Failure, CODE, what)
}

/// `helper`: serves until a signal comes, or until there was no connection for the idle time.
///
/// # Errors
/// When there is no identity, or another helper runs.
pub async fn helper(store: &Keystore, args: &HelperArgs) -> Result<(), Complaint> {
    if platform::guest_of(store.dir()).is_some() {
        return Err(as_owner(store));
    }
    let way = ProxyAccess::find(store).await?;
    let path = socket(store);
    let listener = platform::listen_private(&path)
        .map_err(|error| cannot_listen(&path, &error))?
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

/// Restarts the program as the owner of the folder, who must own the socket. Returns only after an error.
fn as_owner(store: &Keystore) -> Complaint {
    let mut command = std::process::Command::new(program::own());
    command.args(std::env::args_os().skip(1)).current_dir("/");
    let error = match platform::as_owner(command.env("LYCHGATE_DIR", store.dir()), store.dir()) {
        Ok(()) => platform::replace_by(command),
        Err(error) => error,
    };
    failed(format!("cannot become the user whom `{}` belongs to: {error}", store.dir().display()))
        .hint("run the helper as that user")
}

async fn serve(pool: &Pool, mut program: platform::LocalStream) {
    let ReachRequest { reach, raw } = match timeout(ANSWER_TIME, read_frame::<HelperRequest, _>(&mut program)).await {
        Ok(Ok(HelperRequest::Reach(reach))) => reach,
        Ok(Ok(HelperRequest::Why { session })) => {
            let _ = write_frame(&mut program, &EndReply::from(pool.why(&session).await)).await;
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
            // The helper has removed the sealing TLS: the program gets the service's own bytes.
            let broke = pool.note(&service).await;
            let answer = Reached::Ok {
                session: service.session.clone(),
                mode: Mode::Raw,
                dial_back: None,
                dial_back_at: None,
                end_is_said: true,
            };
            if write_frame(&mut program, &answer).await.is_ok() && carry(&mut program, &mut service).await.is_err() {
                broke.store(true, Ordering::SeqCst);
            }
        }
        Err(complaint) => {
            let problem = Box::new(problem(complaint));
            let _ = write_frame(&mut program, &Reached::Refused { problem }).await;
        }
    }
}

/// Converts a complaint for the program, which shows it.
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

/// `connect --helper`: as [`crate::commands::connect::connect`], through the helper, which is started if none runs.
pub async fn connect(store: &Keystore, place: &ServiceAddress, args: &ConnectArgs) -> Result<Exit, Complaint> {
    let mut program = reach_helper(store).await?;
    let ServiceAddress { service, machine } = place;
    let reach = Reach { service: service.clone(), machine: machine.to_string() };
    let reach = ReachRequest { reach, raw: args.raw };
    let gone = |error: io::Error| failed(format!("the helper went away: {error}")).hint("try again");
    write_frame(&mut program, &reach).await.map_err(gone)?;
    let slow = |_| failed("the helper did not answer within 45 s".to_owned());
    let answer: Reached = timeout(ANSWER_TIME, read_frame(&mut program)).await.map_err(slow)?.map_err(gone)?;
    match answer {
        Reached::Refused { problem } => {
            let complaint = complaint(*problem);
            match ProxyAccess::find(store).await {
                Ok(way) => Err(explain_refusal(&way, machine, complaint).await),
                Err(_) => Err(complaint),
            }
        }
        Reached::Ok { .. } if args.fdpass => {
            platform::pass_stdout(program).map_err(|error| {
                failed(format!("cannot hand the connection on: {error}")).hint("ssh wants ProxyUseFdpass=yes for this")
            })?;
            Ok(Exit::Ok)
        }
        Reached::Ok { session, .. } => {
            let ending = platform::join_stdio(program).await.map_err(gone)?;
            if let Ending::Unwanted = ending {
                return Ok(Exit::Ok);
            }
            let Some(EndReply { reason: said, broke }) = why(store, &session).await else {
                return Err(failed("the helper went away, and the session with it".to_owned()).hint("connect again"));
            };
            let ending = match ending {
                Ending::Closed if broke => Ending::Broke(io::ErrorKind::UnexpectedEof.into()),
                other => other,
            };
            let way =
                if ending.judge(said) == Completeness::AskGateway { ProxyAccess::find(store).await.ok() } else { None };
            Ok(report_end(way.as_ref(), EndedSession { session: &session, machine, ending, said }).await)
        }
    }
}

/// Asks the helper why a session ended; `None` when the helper has ended.
async fn why(store: &Keystore, session: &str) -> Option<EndReply> {
    let mut helper = platform::connect_local(&socket(store)).await.ok()?;
    let asked = async {
        write_frame(&mut helper, &HelperRequest::Why { session: session.to_owned() }).await?;
        read_frame::<EndReply, _>(&mut helper).await
    };
    timeout(WHY_TIME, asked).await.ok()?.ok()
}

async fn reach_helper(store: &Keystore) -> Result<platform::LocalStream, Complaint> {
    let path = socket(store);
    match platform::connect_local(&path).await {
        Ok(program) => return Ok(program),
        // A helper could not listen on this path either.
        Err(error) if error.kind() == io::ErrorKind::InvalidFilename => return Err(cannot_listen(&path, &error)),
        Err(_) => {}
    }
    // Reports errors here, where the person sees them, instead of in the helper.
    ProxyAccess::find(store).await?;
    let until = Instant::now() + START_TIME;
    loop {
        let mut started = start_helper(store)?;
        let tries = async {
            loop {
                match platform::connect_local(&path).await {
                    Ok(program) => return Ok(program),
                    Err(_) => sleep(Duration::from_millis(20)).await,
                }
                if let Ok(Some(status)) = started.try_wait()
                    && !status.success()
                {
                    // Another helper may have been faster.
                    sleep(Duration::from_millis(100)).await;
                    return platform::connect_local(&path).await.map_err(|_| said_by(&mut started));
                }
            }
        };
        match timeout(START_AGAIN, tries).await {
            Ok(Ok(program)) => return Ok(program),
            Ok(Err(said)) => {
                return Err(failed(format!("the helper ended at once: {said}"))
                    .hint("`lychgate helper` in another terminal shows more; `connect` without --helper needs none"));
            }
            Err(_) if Instant::now() >= until => {
                return Err(failed("the helper does not answer".to_owned())
                    .hint("`lychgate helper` shows what keeps it; `connect` without --helper needs none"));
            }
            Err(_) => {}
        }
    }
}

fn cannot_listen(path: &Path, error: &io::Error) -> Complaint {
    let complaint = failed(format!("cannot listen at `{}`: {error}", path.display()));
    match error.kind() {
        io::ErrorKind::InvalidFilename => complaint.hint("name a shorter folder with --dir, or a link to this one"),
        _ => complaint,
    }
}

/// The last output of a helper that has ended.
fn said_by(helper: &mut std::process::Child) -> String {
    use std::io::Read as _;
    let mut said = Vec::new();
    if let Some(stderr) = &mut helper.stderr {
        let _ = stderr.take(SAID_MAX).read_to_end(&mut said);
    }
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().map(|line| line.trim_start_matches("lychgate: ")).collect();
    lines.join("; ")
}

fn start_helper(store: &Keystore) -> Result<std::process::Child, Complaint> {
    let cannot = |error: io::Error| failed(format!("cannot start a helper: {error}"));
    let mut command = std::process::Command::new(program::own());
    command.arg("--dir").arg(store.dir()).args(["helper", "--idle", IDLE]);
    platform::as_owner(&mut command, store.dir()).map_err(cannot)?;
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
