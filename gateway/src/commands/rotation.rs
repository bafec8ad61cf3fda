//! `ca prepare`, `publish`, `activate` and `retire`: the steps of a rotation. Each prints the next step, and who would be stranded.

use std::path::Path;

use pki::UnixTime;

use super::{
    at_home,
    authority::{builder, note, root, write},
    load,
};
use crate::{
    cli::{CaCommand, Prepared, Replaced},
    complaint::Complaint,
    config::Config,
    core::{
        audit::Offline,
        slots::{SlotStep, Slots},
        stranded::{Holders, Usage},
    },
    flow,
    ports::{clock::Clock, entropy::Entropy},
    server::{self, authority},
    signer::{Authority, CaDir, OwnKey, Passphrase, offline, rotation},
};

/// Runs one of the commands. Files in the gateway's folder are written as its owner.
pub fn rotate(command: &CaCommand) -> Result<(), Complaint> {
    match command {
        CaCommand::Prepare { what, config: path, root_key, root_passphrase_file, request } => {
            let config = load(path)?;
            let key = (root_key.as_deref(), root_passphrase_file.as_deref());
            let text = at_home(path, &config, async |config| prepare(config, *what, key, request.is_some()))?;
            if let (Some(text), Some(request)) = (text, request) {
                write(request, &text)?;
                let (to, role) = (request.display(), what.as_str());
                println!("wrote {to}; nothing in it is secret. Where the root's key is:");
                println!(
                    "    lychgate-gateway ca sign --root-key root.key --root-passphrase-file FILE --new {role} --in {to} --out ca-signed.pem"
                );
                println!("and here, with what comes back:");
                println!("    lychgate-gateway ca import --config gateway.toml --in ca-signed.pem");
            }
            Ok(())
        }
        CaCommand::Publish { name, config } => in_folder(config, async |config| publish(config, name)),
        CaCommand::Activate { name, config } => in_folder(config, async |config| activate(config, name).await),
        CaCommand::Retire { name, config, force } => {
            in_folder(config, async |config| retire(config, name, force.as_deref()).await)
        }
        CaCommand::Replace { what, config } => in_folder(config, async |config| replace(config, *what)),
        CaCommand::List { .. }
        | CaCommand::Crl { .. }
        | CaCommand::Renew { .. }
        | CaCommand::Sign { .. }
        | CaCommand::Import { .. } => Ok(()),
    }
}

fn in_folder(path: &Path, work: impl AsyncFnOnce(&Config) -> Result<(), Complaint> + Send) -> Result<(), Complaint> {
    let config = load(path)?;
    at_home(path, &config, work)
}

/// Returns the text of a request, if the options ask for one.
fn prepare(
    config: &Config,
    what: Prepared,
    (key, passphrase_of_root): (Option<&Path>, Option<&Path>),
    elsewhere: bool,
) -> Result<Option<String>, Complaint> {
    let builder = builder(config)?;
    let name = match (what.role(), elsewhere) {
        (Some(role), true) => {
            let (name, text) = builder.request(role).map_err(Complaint::failed)?;
            println!("made the key of `{name}`");
            return Ok(Some(text));
        }
        (None, true) => {
            return Err(Complaint::wrong(
                "a root signs itself, and the one before it vouches for it: both keys must be here",
            )
            .hint("say by --root-key where the active root's key is, and take both keys away afterwards"));
        }
        (Some(role), false) => builder.issuing(role, &root(config, key, passphrase_of_root)?),
        (None, false) => builder.root(&root(config, key, passphrase_of_root)?),
    };
    let name = name.map_err(Complaint::failed)?;
    note(config, &builder.clock, vec![changed(&config.data_dir, &name, "prepared", None)?])?;
    prepared(&name);
    Ok(None)
}

/// Prints the next step after a slot was prepared.
pub(super) fn prepared(name: &str) {
    println!("prepared `{name}`: its key and certificate are made, and nobody is shown them");
    println!("next: `lychgate-gateway ca publish {name}`, and reload the gateway");
}

fn replace(config: &Config, what: Replaced) -> Result<(), Complaint> {
    let builder = builder(config)?;
    let key = match what {
        Replaced::Tokens => OwnKey::Tokens,
        Replaced::Tickets => OwnKey::Tickets,
    };
    builder.replace(key).map_err(Complaint::failed)?;
    let file = key.file_name();
    note(config, &builder.clock, vec![Offline::KeyReplaced { file: file.to_owned() }])?;
    println!("replaced `{file}`: reload the gateway to take it over");
    match what {
        Replaced::Tokens => {
            println!("from then on join tokens made before are refused; requests that wait with one are not affected")
        }
        Replaced::Tickets => println!("from then on a client that is between two rounds of evidence begins again"),
    }
    Ok(())
}

fn publish(config: &Config, name: &str) -> Result<(), Complaint> {
    let slots = rotation::step(&config.data_dir, name, SlotStep::Publish).map_err(Complaint::failed)?;
    note(config, &Clock::system(), vec![changed(&config.data_dir, name, "published", None)?])?;
    println!("published `{name}`: reload the gateway to take it over");
    if slots.root(name).is_some() {
        println!("from then on whoever joins or renews believes it too; `ca list` shows who was not given it yet");
    } else {
        println!("from then on its revocation list is served, so that servers have it before its first certificate");
    }
    println!("next: `lychgate-gateway ca activate {name}`, and reload the gateway");
    Ok(())
}

async fn activate(config: &Config, name: &str) -> Result<(), Complaint> {
    let slots = CaDir::of(&config.data_dir).slots().map_err(Complaint::failed)?;
    let is_root = slots.root(name).is_some();
    let usage = if is_root { usage(config, &slots).await.ok() } else { None };
    let after = rotation::step(&config.data_dir, name, SlotStep::Activate).map_err(Complaint::failed)?;
    note(config, &Clock::system(), vec![changed(&config.data_dir, name, "active", None)?])?;
    println!(
        "activated `{name}`: reload the gateway to take it over; what was active is published, and signs nothing more"
    );
    let before: Vec<&str> = before(&slots, &after);
    let before = before.first().copied().unwrap_or_default();
    match usage.map(|usage| usage.without(&slots, name)) {
        Some(without) if without.count > 0 => {
            println!("not given `{name}` yet: {}", summary(&without));
            println!("they are let in all the same and get it when they renew, as long as `{before}` is not retired");
        }
        Some(_) => println!("everybody was given it"),
        None if is_root => println!("`ca list` shows who was not given it yet, once the gateway runs with it"),
        None => {}
    }
    println!("to go back: `lychgate-gateway ca activate {before}`");
    println!("next: `lychgate-gateway ca retire {before}`, when nobody depends on it any more");
    Ok(())
}

/// The slots that were active before and are not any more, the root first.
fn before<'a>(slots: &'a Slots, after: &Slots) -> Vec<&'a str> {
    use crate::core::slots::SlotState::Active;
    let roots = slots.roots().iter().filter(|slot| slot.state == Active);
    let roots = roots.filter(|slot| after.root(&slot.name).is_some_and(|now| now.state != Active));
    let issuing = slots.issuing().iter().filter(|slot| slot.state == Active);
    let issuing = issuing.filter(|slot| after.issuing().iter().any(|now| now.name == slot.name && now.state != Active));
    roots.map(|slot| &*slot.name).chain(issuing.map(|slot| &*slot.name)).collect()
}

async fn retire(config: &Config, name: &str, force: Option<&str>) -> Result<(), Complaint> {
    if let Some(other) = force.filter(|other| *other != name) {
        return Err(Complaint::wrong(format!("--force names `{other}`, and `{name}` is to be retired")));
    }
    let slots = CaDir::of(&config.data_dir).slots().map_err(Complaint::failed)?;
    // first whether the step is allowed at all
    let next = slots.step(name, SlotStep::Retire);
    next.map_err(|error| Complaint::failed(format!("`{name}` is not retired: {error}")))?;
    let counted = usage(config, &slots).await;
    let stranded = match (counted, force) {
        (Ok(usage), _) => {
            let (lost, signed) = (usage.without_any_other(&slots, name), usage.signed_by(&slots, name));
            if force.is_none() && (lost.count > 0 || signed.count > 0) {
                return Err(refused(name, &lost, &signed));
            }
            Some(lost.count.max(signed.count))
        }
        (Err(_), Some(_)) => None,
        (Err(complaint), None) => return Err(complaint),
    };
    rotation::step(&config.data_dir, name, SlotStep::Retire).map_err(Complaint::failed)?;
    note(config, &Clock::system(), vec![changed(&config.data_dir, name, "retired", stranded)?])?;
    println!("retired `{name}`: reload the gateway to take it over");
    println!("nobody new is told of it; what it signed is accepted until it ends");
    println!("its revocation list is served as long as its key is here; without unexpired certificates the key can go");
    Ok(())
}

fn refused(name: &str, lost: &Holders, signed: &Holders) -> Complaint {
    let mut why = format!("`{name}` is not retired");
    if lost.count > 0 {
        why.push_str(&format!(
            "; without it these know no root that is left, and could never reach the gateway again: {}",
            summary(lost)
        ));
    }
    if signed.count > 0 {
        let end = UnixTime::from(signed.last_end);
        why.push_str(&format!("; these hold certificates of it, the last of which ends at {end}: {}", summary(signed)));
    }
    Complaint::failed(why).hint(format!(
        "wait until they have renewed (`lychgate machines renew --all` has them do it now), remove those that are gone for good, or \
         strand them by `--force {name}`"
    ))
}

/// The number of holders, and some names.
pub(super) fn summary(holders: &Holders) -> String {
    let names = holders.names.join(", ");
    let more = holders.count.saturating_sub(holders.names.len() as u64);
    if more > 0 { format!("{names} and {more} more") } else { names }
}

/// Who depends on which CA: from the file of the running gateway, or from the store if it does not run.
pub(super) async fn usage(config: &Config, slots: &Slots) -> Result<Usage, Complaint> {
    let (clock, entropy) = (Clock::system(), Entropy::os());
    if let Some(usage) = authority::reported(&config.data_dir, slots, clock.now()) {
        return Ok(usage);
    }
    let passphrase = Passphrase::load(&config.passphrase_file).map_err(Complaint::failed)?;
    let ca = Authority::load(&config.data_dir, &config.trust_domain, &passphrase, &clock).map_err(Complaint::failed)?;
    let shell = server::shell(config, ca, clock, entropy).await.map_err(|complaint| {
        complaint.hint(
            "reload the gateway if it runs, and try again in two minutes: it counts who depends on what once a minute",
        )
    })?;
    let usage = flow::authority::usage(&shell).await;
    shell.store.close().await;
    usage.map_err(Complaint::store)
}

/// Audit notes about a step.
pub(super) fn changed(
    data_dir: &Path,
    name: &str,
    state: &'static str,
    stranded: Option<u64>,
) -> Result<Offline, Complaint> {
    let listed = offline::list(data_dir).map_err(Complaint::failed)?;
    let key = listed.iter().find(|one| one.name == name).map_or_else(String::new, |one| one.info.key.hex());
    Ok(Offline::SlotChanged { slot: name.to_owned(), state: state.to_owned(), key, stranded })
}
