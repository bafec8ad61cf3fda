//! `lychgate run` without an identity: repeats the enrollment until there is one.

use std::time::Duration;

use super::events::{EventObserver, Events, Level};
use super::two_clocks::sleep_by_the_clock;
use super::{Options, RunLength};
use crate::core::record::{Pending, Trouble};
use crate::core::renew::backoff;
use crate::core::trust::Expected;
use crate::edge::keystore::{Credential, Keystore};
use crate::edge::{clock, entropy};
use crate::flow::enroll::{EnrollmentAttempt, EnrollmentEnd, WaitingNotice, drive_enrollment};
use crate::flow::upkeep;
use crate::platform::StopSignal;
use crate::text;
use crate::text::report::{Complaint, Exit};

/// Least and most time before a refused request is sent again: it is refused until a person changes the policy, the token or a lock.
const REFUSED_AGAIN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3_600));

/// Whether it is a person's denial, after which the request is not sent again.
pub fn is_final(complaint: &Complaint) -> bool {
    matches!(complaint.code.as_str(), "denied-by-person" | "removed")
}

/// Sends the request in the folder until there is an identity. An expired or refused request is sent again; only a person's denial
/// ends it. `None` when a signal comes first.
pub async fn ask_until_joined(
    store: &Keystore,
    options: &Options,
    stop: &mut StopSignal,
) -> Result<Option<Credential>, Complaint> {
    let events = Events { format: options.format };
    let mut failures = 0;
    loop {
        // Another process may have joined, left, or changed the request meanwhile.
        if let Some(credential) = store.credential()? {
            return Ok(Some(credential));
        }
        let Some(pending) = store.pending()?.filter(|pending| pending.denied.is_none()) else {
            return upkeep::load(store).map(Some);
        };
        let complaint = match resume_enrollment(store, options, pending, stop).await {
            Ok(joined) => return Ok(joined),
            Err(complaint) if options.length == RunLength::Once || is_final(&complaint) => return Err(complaint),
            Err(complaint) => complaint,
        };
        failures += 1;
        note_refusal(store, &complaint, failures);
        let (least, most) = REFUSED_AGAIN;
        let pause = backoff(failures, most, None, entropy::draw()).max(least);
        let what = format!("{complaint}; asking again in {}", text::span(pause));
        events.tell(Level::Error, "not-joined", &what, &[("code", complaint.code.clone())]);
        if !sleep_by_the_clock(pause, stop).await {
            return Ok(None);
        }
    }
}

/// Records in the folder why there is no identity yet. Errors of writing are ignored.
fn note_refusal(store: &Keystore, complaint: &Complaint, failures: u32) {
    let Ok(Some(pending)) = store.pending() else { return };
    let since = pending.trouble.as_ref().map_or_else(|| clock::now().secs(), |before| before.since);
    let (code, what) = (complaint.code.clone(), complaint.what.clone());
    let trouble = Some(Trouble { code, what, since, failures, locked: complaint.exit == Exit::Locked });
    let _ = store.save_pending(&Pending { trouble, ..pending });
}

/// Continues a request that `lychgate join` began. `None` when a signal comes first.
async fn resume_enrollment(
    store: &Keystore,
    options: &Options,
    pending: Pending,
    stop: &mut StopSignal,
) -> Result<Option<Credential>, Complaint> {
    let pin = pki::KeyDigest::parse_hex(&pending.pin)
        .map_err(|_| Complaint::new(Exit::Files, "files", "`pending.json` holds no pin"))?;
    let events = Events { format: options.format };
    events.tell(Level::Info, "joining", &format!("going on with the request at {}", pending.gateway), &[]);
    let _lock = store.lock(Duration::from_secs(10)).await?;
    let (expected, policy) = (Expected::Pin(pin), options.policy());
    let attempt = EnrollmentAttempt { store, pending, expected, face: None, prior: None, policy };
    let mut observer = EventObserver::new(events);
    match drive_enrollment(attempt, &mut observer, stop).await? {
        EnrollmentEnd::Installed { credential, offset, .. } => {
            upkeep::save_offset(store, &credential, offset)?;
            events.admitted(&credential.facts);
            for line in upkeep::run_hooks(store, &credential, &options.hooks, "joined").await {
                events.tell(Level::Warning, "hook-failed", &line, &[]);
            }
            Ok(Some(*credential))
        }
        EnrollmentEnd::Waiting(notice) => Err(waiting(&notice)),
        EnrollmentEnd::Stopped(_) => Ok(None),
    }
}

/// The error of `run --once` while a request waits for approval.
pub fn waiting(notice: &WaitingNotice) -> Complaint {
    Complaint::new(Exit::Waiting, "waiting", format!("the request {} waits for an approver", notice.id))
        .hint(format!("read them the code {}, and run this again", notice.code))
}
