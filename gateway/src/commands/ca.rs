//! Work on the authority's files: what ends when, the root's list, certifying the issuing CAs anew.

use std::path::Path;

use pki::Root;

use super::{Complaint, load};
use crate::{
    cli::CaCommand,
    config::Config,
    core::ca_end::CaEnds,
    edge::{
        clock::Clock,
        entropy::Entropy,
        files::{self, Access, Existing},
        signer::{
            Passphrase, SignerError,
            offline::{self, Listed},
        },
    },
};

/// What comes after new certificates are in place.
const RESTART: &str =
    "start the gateway anew to take them over; machines and people go on, and get the new chain when they renew";

/// Carries out one of the commands.
///
/// # Errors
/// What failed, and what to do.
pub fn ca(command: &CaCommand) -> Result<(), Complaint> {
    let (clock, entropy) = (Clock::system(), Entropy::os());
    match command {
        CaCommand::List { config } => {
            let config = load(config)?;
            show(&offline::list(&config.data_dir).map_err(Complaint::failed)?, &config.data_dir, &clock)
        }
        CaCommand::Crl { config, root_key, root_passphrase_file } => {
            let config = load(config)?;
            let root = root(&config, root_key.as_deref(), root_passphrase_file.as_deref())?;
            let made = offline::renew_root_list(&config.data_dir, &root, &clock).map_err(Complaint::failed)?;
            let until = made.next_update.map_or_else(String::new, |until| format!(", good until {until}"));
            println!("made the root's revocation list, number {}{until}", made.number);
            println!("start the gateway anew to serve it");
            Ok(())
        }
        CaCommand::Renew { config, request: Some(request), .. } => {
            let config = load(config)?;
            let text = offline::request(&config.data_dir).map_err(Complaint::failed)?;
            write(request, &text)?;
            println!("wrote {}; nothing in it is secret. Where the root's key is:", request.display());
            println!(
                "    lychgate-gateway ca sign --root-key root.key --root-passphrase-file FILE --in {} --out ca-signed.pem",
                request.display()
            );
            println!("and here, with what comes back:");
            println!("    lychgate-gateway ca import --config gateway.toml --in ca-signed.pem");
            Ok(())
        }
        CaCommand::Renew { config, root_key, root_passphrase_file, request: None } => {
            let config = load(config)?;
            let root = root(&config, root_key.as_deref(), root_passphrase_file.as_deref())?;
            let listed = offline::renew(&config.data_dir, &root, &clock, &entropy).map_err(Complaint::failed)?;
            show(&listed, &config.data_dir, &clock)?;
            println!("{RESTART}");
            Ok(())
        }
        CaCommand::Sign { root_key, root_passphrase_file, input, out } => {
            let passphrase = Passphrase::load(root_passphrase_file).map_err(Complaint::failed)?;
            let signed = offline::sign(input, root_key, &passphrase, &clock, &entropy).map_err(Complaint::failed)?;
            write(out, &signed)?;
            println!("signed; take {} back to the gateway, for `lychgate-gateway ca import`", out.display());
            Ok(())
        }
        CaCommand::Import { config, input } => {
            let config = load(config)?;
            let listed = offline::import(&config.data_dir, input).map_err(Complaint::failed)?;
            show(&listed, &config.data_dir, &clock)?;
            println!("{RESTART}");
            Ok(())
        }
    }
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
            "say where it is by --root-key; or, if it may not come here, let it be signed there: `ca renew --request FILE`",
        ));
    }
    let passphrase = Passphrase::load(passphrase.unwrap_or(&config.passphrase_file)).map_err(Complaint::failed)?;
    let certificate = offline::root_certificate(&config.data_dir).map_err(Complaint::failed)?;
    offline::open_root(&certificate, key, &passphrase).map_err(|error| match error {
        wrong @ SignerError::WrongPassphrase { .. } => {
            Complaint::failed(wrong).hint("say by --root-passphrase-file where the one of the root's key is")
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
