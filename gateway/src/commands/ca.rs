//! Work on the authority's files: what ends when, the root's list, certifying the issuing CAs anew.

use std::path::Path;

use pki::Root;

use super::load;
use crate::{
    cli::CaCommand,
    complaint::Complaint,
    config::Config,
    core::{
        audit::{Offline, Signed},
        ca_end::CaEnds,
    },
    ports::{
        clock::Clock,
        entropy::Entropy,
        files::{self, Access, Existing},
    },
    server::noted,
    signer::{
        Passphrase, SignerError,
        offline::{self, Listed},
    },
};

/// What comes after new certificates are in place.
const RESTART: &str =
    "restart the gateway to use them; machines and people continue, and get the new chain with their next renewal";

/// Carries out one of the commands. What happens in the gateway's folder happens as whom it belongs to.
///
/// # Errors
/// What failed, and what to do.
pub fn ca(command: &CaCommand) -> Result<(), Complaint> {
    let path = match command {
        CaCommand::Sign { root_key, root_passphrase_file, input, out } => {
            let passphrase = Passphrase::load(root_passphrase_file).map_err(Complaint::failed)?;
            let signed = offline::sign(input, root_key, &passphrase, &Clock::system(), &Entropy::os());
            write(out, &signed.map_err(Complaint::failed)?)?;
            println!("signed; take {} to the gateway and run `lychgate-gateway ca import` there", out.display());
            return Ok(());
        }
        CaCommand::List { config }
        | CaCommand::Crl { config, .. }
        | CaCommand::Renew { config, .. }
        | CaCommand::Import { config, .. } => config,
    };
    let config = load(path)?;
    let request = super::at_home(path, &config, async |config| in_its_folder(command, config))?;
    if let (Some(text), CaCommand::Renew { request: Some(request), .. }) = (request, command) {
        write(request, &text)?;
        let to = request.display();
        println!("wrote {to}, which contains no secrets. Run this where the root's key is:");
        println!(
            "    lychgate-gateway ca sign --root-key root.key --root-passphrase-file FILE --in {to} --out ca-signed.pem"
        );
        println!("then run this here, with the signed file:");
        println!("    lychgate-gateway ca import --config gateway.toml --in ca-signed.pem");
    }
    Ok(())
}

/// Gives the text of a request, when one was asked for.
fn in_its_folder(command: &CaCommand, config: &Config) -> Result<Option<String>, Complaint> {
    let (clock, entropy) = (Clock::system(), Entropy::os());
    let data_dir = &config.data_dir;
    match command {
        CaCommand::Sign { .. } => {}
        CaCommand::List { .. } => show(&offline::list(data_dir).map_err(Complaint::failed)?, data_dir, &clock)?,
        CaCommand::Crl { root_key, root_passphrase_file, .. } => {
            let root = root(config, root_key.as_deref(), root_passphrase_file.as_deref())?;
            let made = offline::renew_root_list(data_dir, &root, &clock).map_err(Complaint::failed)?;
            let what = Offline::RootListMade { number: made.number.to_string(), signed: Signed::Here };
            note(config, &clock, vec![what])?;
            let until = made.next_update.map_or_else(String::new, |until| format!(", valid until {until}"));
            println!("made the root's revocation list, number {}{until}", made.number);
            println!("restart the gateway to serve it");
        }
        CaCommand::Renew { request: Some(_), .. } => {
            return offline::request(data_dir).map(Some).map_err(Complaint::failed);
        }
        CaCommand::Renew { root_key, root_passphrase_file, request: None, .. } => {
            let root = root(config, root_key.as_deref(), root_passphrase_file.as_deref())?;
            let listed = offline::renew(data_dir, &root, &clock, &entropy).map_err(Complaint::failed)?;
            note(config, &clock, renewed(&listed, data_dir, Signed::Here)?)?;
            show(&listed, data_dir, &clock)?;
            println!("{RESTART}");
        }
        CaCommand::Import { input, .. } => {
            let listed = offline::import(data_dir, input).map_err(Complaint::failed)?;
            note(config, &clock, renewed(&listed, data_dir, Signed::Elsewhere)?)?;
            show(&listed, data_dir, &clock)?;
            println!("{RESTART}");
        }
    }
    Ok(None)
}

/// What the audit is to hold of new certificates.
fn renewed(listed: &[Listed], data_dir: &Path, signed: Signed) -> Result<Vec<Offline>, Complaint> {
    let issuing = listed.iter().filter(|one| one.name != "root");
    let mut done: Vec<Offline> = issuing
        .map(|one| Offline::CaRenewed {
            ca: one.name.to_owned(),
            serial: one.info.serial.to_string(),
            not_after: one.info.not_after.secs(),
            signed,
        })
        .collect();
    if let Some((_, list)) = offline::root_list(data_dir).map_err(Complaint::failed)? {
        done.push(Offline::RootListMade { number: list.number.to_string(), signed });
    }
    Ok(done)
}

/// The store may be the running gateway's, so it is left to the gateway to write it down.
fn note(config: &Config, clock: &Clock, done: Vec<Offline>) -> Result<(), Complaint> {
    noted::note(&config.data_dir, clock.now().into(), done).map_err(Complaint::failed)
}

fn write(path: &Path, text: &str) -> Result<(), Complaint> {
    files::write_atomic(path, text.as_bytes(), Access::Public, Existing::Replace).map_err(Complaint::failed)
}

/// The root with its key, wherever that is.
fn root(config: &Config, key: Option<&Path>, passphrase: Option<&Path>) -> Result<Root, Complaint> {
    let here = config.data_dir.join("ca/root.key");
    let key = key.unwrap_or(&here);
    if !files::exists(key) {
        return Err(Complaint::failed(format!("the root's key is not at `{}`", key.display())).hint(
            "give its path with --root-key; or, if it must not be on this machine, sign where it is: `ca renew --request FILE`",
        ));
    }
    let passphrase = Passphrase::load(passphrase.unwrap_or(&config.passphrase_file)).map_err(Complaint::failed)?;
    let certificate = offline::root_certificate(&config.data_dir).map_err(Complaint::failed)?;
    offline::open_root(&certificate, key, &passphrase).map_err(|error| match error {
        wrong @ SignerError::WrongPassphrase { .. } => {
            Complaint::failed(wrong).hint("give the file with the root key's passphrase with --root-passphrase-file")
        }
        other => Complaint::failed(other),
    })
}

/// The table of what there is, and what should be done about it.
fn show(listed: &[Listed], data_dir: &Path, clock: &Clock) -> Result<(), Complaint> {
    let list = offline::root_list(data_dir).map_err(Complaint::failed)?.and_then(|(_, list)| list.next_update);
    println!("{:<9} {:<20}  {:<32}  FILE", "CA", "ENDS", "SERIAL");
    for Listed { path, name, info } in listed {
        println!("{name:<9} {:<20}  {:<32}  {}", info.not_after.to_string(), info.serial, path.display());
    }
    let path = data_dir.join("ca").join(offline::ROOT_LIST);
    match list {
        Some(end) => println!("{:<9} {:<20}  {:<32}  {}", "root-crl", end.to_string(), "", path.display()),
        None => println!("there is no revocation list of the root: make it with `lychgate-gateway ca crl`"),
    }
    for line in notices(listed, list, clock) {
        println!("{line}");
    }
    Ok(())
}

/// What is to be said of ends that are near.
fn notices(listed: &[Listed], root_list: Option<pki::UnixTime>, clock: &Clock) -> Vec<String> {
    let end = |name: &str| listed.iter().find(|one| one.name == name).map(|one| one.info.not_after);
    let (Some(root), Some(machine), Some(person), Some(gateway)) =
        (end("root"), end("machine"), end("person"), end("gateway"))
    else {
        return Vec::new();
    };
    let ends = CaEnds { root, root_list, machine, person, gateway };
    ends.notices(clock.now()).iter().map(ToString::to_string).collect()
}

/// The same for whoever checks the configuration; nothing before `init`.
pub fn warnings(data_dir: &Path) -> Vec<String> {
    let list = offline::root_list(data_dir).ok().flatten().and_then(|(_, list)| list.next_update);
    offline::list(data_dir).map_or_else(|_| Vec::new(), |listed| notices(&listed, list, &Clock::system()))
}
