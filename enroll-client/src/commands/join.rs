//! `lychgate join`: plans, asks the person about an unknown root, drives [`crate::flow::enroll`], and shows progress.

use std::time::Duration;

use pki::{KeyDigest, UnixTime};
use serde_json::json;

use crate::core::attestation::{Attestation, KeyPlace};
use crate::core::enrollment::{PAUSE_MOST, Patience, RetryPolicy};
use crate::core::offset::Offset;
use crate::core::plan::{EarlierKey, ExistingIdentity, JoinRequest, Plan, plan};
use crate::core::record::Pending;
use crate::core::renew::backoff;
use crate::core::target::Address;
use crate::core::trust::{Expected, fingerprint_block};
use crate::edge::enroll::{EnrollFace, presented_root};
use crate::edge::keystore::{Credential, Keystore};
use crate::edge::net::CallError;
use crate::edge::terminal::{self, Format};
use crate::edge::{clock, entropy};
use crate::evidence::{self, Known};
use crate::flow::enroll::{
    EnrollmentAttempt, EnrollmentEnd, EnrollmentObserver, WaitingNotice, ask_pending, drive_enrollment, pending_pin,
    rejoin_pending,
};
use crate::flow::keys;
use crate::flow::upkeep;
use crate::platform::{self, StopSignal};
use crate::text;
use crate::text::report::{Complaint, Exit};

/// How long `join` waits for the folder's lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Interval of messages about a waiting request when standard error is not a terminal.
const REMIND_EVERY: Duration = Duration::from_secs(600);

/// Shows the progress of an enrollment to a person.
struct TerminalObserver {
    live: bool,
    notice: Option<WaitingNotice>,
    since: tokio::time::Instant,
    reminded: tokio::time::Instant,
}

impl TerminalObserver {
    fn new() -> Self {
        let now = tokio::time::Instant::now();
        Self { live: terminal::is_live(), notice: None, since: now, reminded: now }
    }

    fn clear(&self) {
        if self.live && self.notice.is_some() {
            terminal::end_progress();
        }
    }
}

/// The text about a waiting request.
#[must_use]
fn notice_block(notice: &WaitingNotice, now: UnixTime) -> String {
    let lapses = format!("{} (in {})", notice.expires, text::span(notice.expires.since(now)));
    let missing = notice.approvals_missing;
    let mut pairs = vec![("code", notice.code.clone()), ("request", notice.id.clone()), ("key", notice.key.clone())];
    if missing > 1 {
        pairs.push(("approvals", format!("{missing} more wanted")));
    }
    pairs.push(("lapses", lapses));
    format!(
        "lychgate: waiting at the gate of {}\n\n{}\nlychgate: read the code to an approver; they let you in with\nlychgate:     lychgate requests approve {} --code (the code as you read it)\n",
        notice.gateway,
        text::fields("    ", &pairs),
        text::safe(&notice.id),
    )
}

impl EnrollmentObserver for TerminalObserver {
    fn waiting(&mut self, notice: &WaitingNotice) {
        self.clear();
        terminal::show(&notice_block(notice, notice.offset.gateway_time(clock::now())));
        if self.notice.is_none() {
            terminal::say("Ctrl-C stops the waiting, not the request; `lychgate join` goes on with it");
            self.since = tokio::time::Instant::now();
        }
        self.notice = Some(notice.clone());
    }

    fn evidence(&mut self, line: &str) {
        self.clear();
        terminal::say(line);
    }

    fn tick(&mut self) {
        let Some(notice) = &self.notice else { return };
        let left = notice.expires.since(notice.offset.gateway_time(clock::now()));
        let line = format!("waiting for {}, lapses in {}", text::span(self.since.elapsed()), text::span(left));
        if self.live {
            terminal::progress(&format!("    {}  {line}", notice.code));
        } else if self.reminded.elapsed() >= REMIND_EVERY {
            self.reminded = tokio::time::Instant::now();
            terminal::say(&line);
        }
    }

    fn retrying(&mut self, why: &Complaint, pause: Duration) {
        self.clear();
        terminal::say(&format!("{why}; trying again in {}", text::span(pause.max(Duration::from_secs(1)))));
    }
}

/// `lychgate join`.
///
/// # Errors
/// When there is no identity at the end, and no request that waits.
pub async fn join(
    store: &Keystore,
    join: &JoinRequest,
    policy: RetryPolicy,
    format: Format,
) -> Result<Exit, Complaint> {
    let patience = policy.patience;
    store.prepare()?;
    let _lock = store.lock(LOCK_PATIENCE).await?;
    store.mend()?;
    let credential = store.credential()?;
    let mut earlier = store.pending()?;
    let held = credential.as_ref().map(|credential| held(store, credential));
    let mut face = None;
    let plan = plan(join, held.as_ref(), earlier.as_ref(), &store.attestation()?);
    if !matches!(plan, Plan::Refuse(_)) {
        choose(store, join).await?;
    }
    let (pending, expected, prior) = match plan {
        Plan::Refuse(complaint) => return Err(complaint),
        Plan::Already => {
            if let Some(credential) = &credential {
                already(store, join, credential, format);
            }
            return Ok(Exit::Ok);
        }
        Plan::Resume => {
            let Some(pending) = earlier else {
                return Err(Complaint::new(Exit::Failure, "internal", "the request to resume has vanished"));
            };
            let pin = pending_pin(&pending)?;
            terminal::say(&format!("going on with the request at {}", pending.gateway));
            (pending, Expected::Pin(pin), None)
        }
        Plan::Rejoin { token } => {
            let Some(credential) = &credential else {
                return Err(Complaint::new(Exit::Failure, "internal", "the identity to rejoin with has vanished"));
            };
            terminal::say(&format!("the certificate of `{}` has expired; rejoining", credential.facts.identity));
            if earlier.as_ref().is_some_and(|earlier| earlier.denied.is_some()) {
                // A person denied the earlier key, so this request uses a new one.
                store.forget_request()?;
                earlier = None;
            }
            let pending = rejoin_pending(credential, earlier, token, join);
            (pending, credential.expected(), Some(credential))
        }
        Plan::Ask { gateway, pin, token, key } => {
            let pin = match pin {
                Some(pin) => pin,
                None => confirm_root(&gateway).await?,
            };
            // A token may determine the name. Without one the host's name is requested, so that approvers can tell machines apart.
            let by_host = token.is_none();
            let mut pending = ask_pending(&gateway, pin, token, join);
            if by_host && pending.name.is_none() {
                pending.name = platform::about_host().get("hostname").and_then(|host| host_name(host));
            }
            face = first_contact(store, &gateway, pin, &pending, earlier.as_ref(), key, patience).await?;
            (pending, Expected::Pin(pin), None)
        }
    };
    let event = if prior.is_some() { "rejoined" } else { "joined" };
    let attempt = EnrollmentAttempt { store, pending, expected, face, prior, policy };
    finish(attempt, event, format).await
}

/// Records how the machine is to prove itself and where its keys are to be, if the person said so.
async fn choose(store: &Keystore, join: &JoinRequest) -> Result<(), Complaint> {
    if join.is_for_a_person() {
        // Whatever was tried in this folder before: TPMs are of machines.
        let reset = |attestation: &mut Attestation| (attestation.key, attestation.attest) = Default::default();
        return Ok(store.change_attestation(reset)?);
    }
    if let Some(offer) = &join.offer {
        let attestation = store.attestation()?;
        evidence::check_offer(offer, Known { folder: store.dir(), attestation: &attestation, ek: None })?;
        store.change_attestation(|attestation| attestation.attest = offer.clone())?;
    }
    match join.key {
        Some(wish) => Ok(keys::choose(store, wish).await?),
        None => Ok(()),
    }
}

/// The folder holds the identity. What was chosen holds from its next renewal on.
fn already(store: &Keystore, join: &JoinRequest, credential: &Credential, format: Format) {
    terminal::say(&format!("already joined; valid until {}", credential.life.not_after));
    if join.offer.is_some() || join.key.is_some() {
        terminal::say(
            "what --attest and --key say holds from the next renewal on; `lychgate renew --force` renews now",
        );
    }
    announce(store, credential, "already-joined", &[], format);
}

/// Drives an enrollment for a person.
async fn finish(attempt: EnrollmentAttempt<'_>, event: &str, format: Format) -> Result<Exit, Complaint> {
    let (store, has_token) = (attempt.store, attempt.pending.token.is_some());
    let key = keys::next(store).await?;
    let place = if key.place() == KeyPlace::Tpm { ", which is in the TPM" } else { "" };
    terminal::say(&format!("joining at {} with the key SHA-256 {}{place}", attempt.pending.gateway, key.digest()));
    let mut stop = StopSignal::new().map_err(|e| Complaint::new(Exit::Failure, "signals", e.to_string()))?;
    let mut observer = TerminalObserver::new();
    let outcome = drive_enrollment(attempt, &mut observer, &mut stop).await;
    observer.clear();
    let outcome = outcome.map_err(|complaint| if has_token { complaint } else { without_a_token(complaint) });
    match outcome? {
        EnrollmentEnd::Installed { credential, offset, offered } => {
            activate(store, &credential, offset, event).await;
            announce(store, &credential, event, &offered, format);
            Ok(Exit::Ok)
        }
        EnrollmentEnd::Waiting(notice) => {
            let now = notice.offset.gateway_time(clock::now());
            terminal::show(&notice_block(&notice, now));
            terminal::say("`lychgate join` goes on with this request");
            announce_waiting(&notice, format);
            Ok(Exit::Waiting)
        }
        EnrollmentEnd::Stopped(Some(notice)) => {
            terminal::say(&format!(
                "stopped waiting; the request stays at the gate until {}, and `lychgate join` goes on with it",
                notice.expires
            ));
            announce_waiting(&notice, format);
            Ok(Exit::Waiting)
        }
        EnrollmentEnd::Stopped(None) => {
            Err(Complaint::new(Exit::Failure, "interrupted", "interrupted before the gateway answered")
                .hint("`lychgate join` goes on where this was interrupted"))
        }
    }
}

/// A hint for a machine's owner who does not know the policy.
fn without_a_token(complaint: Complaint) -> Complaint {
    if complaint.code != "denied" {
        return complaint;
    }
    let instance = complaint.instance.clone().map_or_else(String::new, |id| format!(" and mention `{id}`"));
    complaint.hint(format!(
        "this gateway takes no machine such as this one without a join token: ask its operator for one{instance}"
    ))
}

/// Uses the new certificate for the first time, which activates it at the gateway, and runs the hooks. A failure is only reported: any
/// later use activates it too.
async fn activate(store: &Keystore, credential: &Credential, offset: Offset, event: &str) {
    if let Err(error) = upkeep::save_offset(store, credential, offset) {
        terminal::say(&error.to_string());
    }
    match upkeep::look(store, credential).await {
        Ok((seen, _)) => {
            for notice in seen.notices {
                terminal::say(&notice);
            }
        }
        Err(error) => terminal::say(&format!("joined, but the manage face does not answer yet: {error}")),
    }
    for line in upkeep::run_hooks(store, credential, &[], event).await {
        terminal::say(&line);
    }
}

/// Prints the identity as the result, with the kinds of evidence of the machine itself that were sent for it.
fn announce(store: &Keystore, credential: &Credential, result: &str, offered: &[String], format: Format) {
    let facts = &credential.facts;
    if result != "already-joined" {
        terminal::say(&format!(
            "{result}; valid until {}, files in {}",
            credential.life.not_after,
            store.dir().display()
        ));
        if store.who_runs().is_none() {
            terminal::say(
                "nothing renews it yet: `lychgate run` does, as a service that starts with the machine (the owner's guide has units \
                 for systemd, with and without root, and a line for cron)",
            );
        }
    }
    if let Some(wanted) = &facts.wanted_name {
        terminal::say(&format!("admitted as `{}`, the name an approver gave, and not as `{wanted}`", facts.name));
    }
    let value = json!({
        "result": result,
        "identity": facts.identity,
        "wanted_name": facts.wanted_name,
        "serial": facts.serial,
        "not_after": facts.not_after,
        "renew_after": facts.renew_after,
        "gateway": facts.gateway,
        "manage": facts.manage,
        "directory": store.dir(),
        "evidence": offered,
        "key_place": credential.key.place().as_str(),
    });
    terminal::result(format, &value, &facts.identity);
}

fn announce_waiting(notice: &WaitingNotice, format: Format) {
    let value = json!({
        "result": "waiting",
        "id": notice.id,
        "code": notice.code,
        "key": notice.key,
        "expires": notice.expires.secs(),
        "approvals_missing": notice.approvals_missing,
        "gateway": notice.gateway.to_string(),
        "evidence": notice.offered,
    });
    // Without --json the text on standard error contains everything.
    terminal::result(format, &value, "");
}

/// The identity in the folder, for planning.
fn held(store: &Keystore, credential: &Credential) -> ExistingIdentity {
    ExistingIdentity {
        identity: credential.facts.identity.clone(),
        name: credential.facts.name.clone(),
        gateway: credential.gateway.clone(),
        pin: credential.pin,
        is_over: credential.life.is_over(upkeep::gateway_time(store, credential)),
    }
}

/// A valid machine name from a host name: its first label, with invalid characters replaced.
fn host_name(host: &str) -> Option<String> {
    let label = host.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let legal: String =
        label.chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }).collect();
    let name = pki::Name::parse(legal.trim_matches('-')).ok()?;
    (name.as_str() != "localhost").then(|| name.as_str().to_owned())
}

/// Connects to the gateway for a new request. Before the gateway is verified, nothing is written and no earlier request deleted, so
/// that a wrong pin has no effect.
async fn first_contact(
    store: &Keystore,
    gateway: &Address,
    pin: KeyDigest,
    pending: &Pending,
    earlier: Option<&Pending>,
    key: EarlierKey,
    patience: Patience,
) -> Result<Option<EnrollFace>, Complaint> {
    let mut face = EnrollFace::new(gateway.clone(), Expected::Pin(pin), pin)?;
    let waits = earlier.is_some_and(|earlier| earlier.request.is_some() && earlier.denied.is_none());
    let silence = connect_with_retries(&mut face, patience).await?;
    if let (Some(silence), true) = (&silence, waits) {
        // An earlier waiting request is not replaced while the new gateway does not answer.
        return Err(silence.clone());
    }
    if key == EarlierKey::Replace {
        if waits {
            terminal::say("dropping the earlier request at another gateway");
        }
        store.forget_request()?;
    }
    match silence {
        Some(silence) => {
            // `lychgate join` and `lychgate run` continue it.
            store.save_pending(pending)?;
            Err(silence)
        }
        None => Ok(Some(face)),
    }
}

/// Connects with retries. Returns the last failure if there is no connection.
///
/// # Errors
/// When the gateway is not the expected one.
async fn connect_with_retries(face: &mut EnrollFace, patience: Patience) -> Result<Option<Complaint>, Complaint> {
    let (mut failures, mut paused) = (0, Duration::ZERO);
    loop {
        let error = match face.ask_time().await {
            Err(CallError::Net(error)) if !error.is_passing() => return Err(error.into()),
            Err(CallError::Net(error)) if !error.may_have_arrived() => error,
            // The enrollment itself retries temporary failures.
            Ok(_) | Err(_) => return Ok(None),
        };
        failures += 1;
        let limit = patience.limit(error.is_load());
        let most = limit.map_or(PAUSE_MOST, |limit| PAUSE_MOST.min(limit / 4));
        let pause = backoff(failures, most, None, entropy::draw());
        paused += pause;
        let complaint = Complaint::from(error);
        if limit.is_some_and(|limit| paused > limit) {
            return Ok(Some(complaint));
        }
        terminal::say(&format!("{complaint}; trying again in {}", text::span(pause.max(Duration::from_secs(1)))));
        tokio::time::sleep(pause).await;
    }
}

/// Shows the root that the gateway presents and asks whether it is the right one.
async fn confirm_root(gateway: &Address) -> Result<KeyDigest, Complaint> {
    let root = presented_root(gateway).await?;
    if !terminal::can_ask() {
        return Err(Complaint::new(
            Exit::Untrusted,
            "no-pin",
            format!("no pin is given for the gateway at {gateway}, and there is no terminal to ask on"),
        )
        .hint(format!(
            "get the pin from the gateway's operator, by another way than this connection, and pass it with --pin or in the URL: \
             https://{gateway}#PIN"
        )));
    }
    terminal::show(&format!(
        "lychgate: no pin is given. The gateway at {gateway} presents the root\n\n{}\n\nlychgate: compare it with the pin you have from the gateway's operator by another way\n",
        fingerprint_block(&root)
    ));
    // Part of the fingerprint must be typed: a `y` would be typed without comparing.
    let hex = root.hex();
    let last = hex.get(hex.len().saturating_sub(4)..).unwrap_or_default();
    match terminal::ask("Type the last four digits of the pin that you have, if it is the same: ") {
        Some(answer) if answer.trim().eq_ignore_ascii_case(last) => Ok(root),
        Some(_) | None => Err(Complaint::new(Exit::Untrusted, "not-confirmed", "the root was not confirmed")
            .hint("pass --pin when you have the pin")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_hosts() {
        for (host, want) in [
            ("edge-07", Some("edge-07")),
            ("Web_01.Example.com", Some("web-01")),
            ("VM", Some("vm")),
            ("-x-", Some("x")),
            ("localhost", None),
            ("localhost.localdomain", None),
            ("", None),
            ("...", None),
        ] {
            assert_eq!(host_name(host).as_deref(), want, "{host}");
        }
    }

    #[test]
    fn the_waiting_block() {
        let notice = WaitingNotice {
            gateway: Address::parse("gw.example:443", 1).unwrap(),
            id: "e1\u{1b}".into(),
            code: "ABCD-EFGH".into(),
            key: "ab".repeat(32),
            expires: UnixTime::new(86_400),
            approvals_missing: 2,
            offset: Offset::default(),
            offered: vec![],
        };
        let want = "\
lychgate: waiting at the gate of gw.example:443

    code       ABCD-EFGH
    request    e1\\u{1b}
    key        abababababababababababababababababababababababababababababababab
    approvals  2 more wanted
    lapses     1970-01-02T00:00:00Z (in 23 h)

lychgate: read the code to an approver; they let you in with
lychgate:     lychgate requests approve e1\\u{1b} --code (the code as you read it)
";
        assert_eq!(notice_block(&notice, UnixTime::new(3_600)), want);
    }
}
