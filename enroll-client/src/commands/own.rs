//! Commands about the identity in the folder: `status`, `renew`, `leave`.

use serde_json::json;

use crate::commands::status::{self, StatusReport};
use crate::core::record::{Pending, RequestAtGate};
use crate::core::target::Address;
use crate::core::trust::Expected;
use crate::edge::clock;
use crate::edge::enroll::EnrollFace;
use crate::edge::keystore::Keystore;
use crate::edge::manage::ManageFace;
use crate::edge::net::CallError;
use crate::edge::terminal::{self, Format};
use crate::flow::keys;
use crate::flow::sshcert;
use crate::flow::upkeep;
use crate::text::report::{Complaint, Exit};

/// When to renew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewWhen {
    /// If it is due.
    Due,
    /// Now.
    Now,
}

/// Whether `leave` reports to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaveNotice {
    /// It does; without the gateway's reply nothing is removed.
    Gateway,
    /// It does not: only the local files are removed.
    Nobody,
}

/// `lychgate status`: reads the folder and nothing else.
///
/// # Errors
/// When there is no identity, or it cannot be read.
pub fn status(store: &Keystore, format: Format) -> Result<Exit, Complaint> {
    let dir = store.dir().display().to_string();
    match store.credential()? {
        Some(credential) => {
            let state = store.state(&credential.facts);
            let pending = store.pending()?;
            let denied = pending.as_ref().and_then(|pending| pending.denied.as_ref());
            let waiting = pending.as_ref().and_then(|pending| pending.request.as_ref()).filter(|_| denied.is_none());
            let running = store.who_runs();
            let report = StatusReport {
                dir: &dir,
                credential: &credential,
                state: &state,
                waiting,
                denied,
                running,
                local: clock::now(),
            };
            terminal::result(format, &report.json(), &report.text());
            Ok(report.exit())
        }
        None => match store.pending()? {
            Some(pending) if pending.request.is_some() && pending.denied.is_none() => {
                let (running, now) = (store.who_runs(), clock::now());
                let text = status::pending_text(&pending, &dir, running, now);
                terminal::result(format, &status::pending_json(&pending, &dir, running, now), &text);
                Ok(Exit::Waiting)
            }
            Some(pending) if pending.denied.is_some() => {
                terminal::result(format, &status::denied_json(&pending, &dir), &status::denied_text(&pending, &dir));
                Ok(Exit::Refused)
            }
            Some(_) | None => upkeep::load(store).map(|_| Exit::Ok),
        },
    }
}

/// `lychgate renew`.
///
/// # Errors
/// When it is due and fails.
pub async fn renew(store: &Keystore, when: RenewWhen, hooks: &[String], format: Format) -> Result<(), Complaint> {
    let credential = upkeep::load_valid(store)?;
    let now = upkeep::gateway_time(store, &credential);
    let report = |result: &str, credential: &crate::edge::keystore::Credential| {
        let facts = &credential.facts;
        let value = json!({
            "result": result,
            "identity": facts.identity,
            "serial": facts.serial,
            "not_after": facts.not_after,
            "renew_after": facts.renew_after,
        });
        let text = match result {
            "not-due" => format!("not due before {}", credential.life.renew_after),
            _ => format!("renewed until {}", credential.life.not_after),
        };
        terminal::result(format, &value, &text);
    };
    if when == RenewWhen::Due && now < credential.life.renew_after {
        terminal::say("--force renews now");
        report("not-due", &credential);
        return Ok(());
    }
    let renewed = match upkeep::renew(store, &credential).await {
        Ok(renewed) => renewed,
        Err(failed) => {
            let locked = failed.is_lock();
            let complaint = Complaint::from(failed);
            upkeep::note_trouble(store, &credential, &complaint, locked);
            return Err(complaint);
        }
    };
    // The first use activates it at the gateway. If it fails now, the next use does.
    if let Err(failed) = upkeep::look(store, &renewed).await {
        terminal::say(&format!("renewed, but the new certificate is not in use at the gateway yet: {failed}"));
    }
    for host in sshcert::host::renew_due(store, &renewed).await {
        if let Err(complaint) = &host.outcome {
            terminal::say(&format!("no new SSH certificate for `{}`: {complaint}", host.key.display()));
        }
        if let Some(trouble) = &host.reload_trouble {
            terminal::say(trouble);
        }
    }
    for line in upkeep::run_hooks(store, &renewed, hooks, "renewed").await {
        terminal::say(&line);
    }
    report("renewed", &renewed);
    Ok(())
}

/// `lychgate leave`.
///
/// # Errors
/// When the gateway refuses or the files cannot be removed.
pub async fn leave(store: &Keystore, notice: LeaveNotice, format: Format) -> Result<(), Complaint> {
    if !store.dir().is_dir() {
        upkeep::load(store)?;
    }
    let _lock = store.lock(std::time::Duration::from_secs(10)).await?;
    let (mut identity, mut withdrawn) = (None, None);
    match notice {
        LeaveNotice::Nobody => {}
        LeaveNotice::Gateway => match (store.credential()?, store.pending()?) {
            (Some(_), _) => identity = Some(tell_gateway(store).await?),
            (None, Some(pending)) => withdrawn = withdraw(store, &pending).await,
            (None, None) => return upkeep::load(store).map(drop),
        },
    }
    store.clear()?;
    let text = match (&identity, &withdrawn) {
        (Some(identity), _) => format!("left; `{identity}` is no more, and its key is removed"),
        (None, Some(request)) => format!("left; the request {request} is withdrawn, and its key is removed"),
        (None, None) => "removed the files of this identity here; the gateway was not informed".to_owned(),
    };
    let told = identity.is_some() || withdrawn.is_some();
    let value = json!({ "result": "left", "identity": identity, "withdrawn": withdrawn, "gateway_told": told });
    terminal::result(format, &value, &text);
    Ok(())
}

/// Withdraws the waiting request, so that no approver decides about it. Returns its id. A failure is only reported: the request
/// expires by itself.
async fn withdraw(store: &Keystore, pending: &Pending) -> Option<String> {
    let request = pending.request.as_ref().filter(|_| pending.denied.is_none())?;
    match try_withdraw(store, pending, request).await {
        Ok(()) => Some(request.id.clone()),
        Err(complaint) => {
            let until = pki::UnixTime::new(request.expires);
            terminal::say(&format!(
                "the request {} could not be withdrawn ({complaint}); it stays at the gate until {until}",
                request.id
            ));
            None
        }
    }
}

async fn try_withdraw(store: &Keystore, pending: &Pending, request: &RequestAtGate) -> Result<(), Complaint> {
    let damaged = || Complaint::new(Exit::Files, "files", "`pending.json` is damaged");
    let gateway = Address::parse(&pending.gateway, 443).map_err(|_| damaged())?;
    let pin = pki::KeyDigest::parse_hex(&pending.pin).map_err(|_| damaged())?;
    let key = keys::next(store).await?;
    if key.digest().hex() != request.key {
        return Err(Complaint::new(Exit::Files, "files", "the key that asked is not in the folder any more"));
    }
    let mut face = EnrollFace::new(gateway, Expected::Pin(pin), pin)?;
    face.withdraw(&key, &request.id).await
}

/// Reports to the gateway that this identity ends; returns its SPIFFE ID.
async fn tell_gateway(store: &Keystore) -> Result<String, Complaint> {
    let credential = upkeep::load_valid(store).map_err(|complaint| {
        if complaint.exit == Exit::Expired {
            complaint.hint("`lychgate leave --local` removes the files without telling the gateway")
        } else {
            complaint
        }
    })?;
    let mut face = ManageFace::new(&credential).map_err(CallError::Net)?;
    let done: Result<wire::manage::Done, CallError> = face.post("/v1/leave", &json!({})).await;
    match done {
        Ok(_) => Ok(credential.facts.identity),
        Err(error) => {
            let complaint = Complaint::from(error);
            let hint = "`lychgate leave --local` removes the files without telling the gateway";
            Err(if complaint.hint.is_some() { complaint } else { complaint.hint(hint) })
        }
    }
}
