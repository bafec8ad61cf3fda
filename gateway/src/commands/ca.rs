//! `ca`: listing, the root's CRL, renewing issuing CAs, signing and importing.

use std::path::Path;

use super::{
    authority::{builder, note, notices, root, write},
    listing::{self, show},
    load, rotation,
};
use crate::{
    cli::CaCommand,
    complaint::Complaint,
    config::Config,
    core::{
        audit::{Offline, SignedWhere},
        slots::SlotState,
    },
    ports::{clock::Clock, entropy::Entropy},
    signer::{
        Passphrase,
        offline::{self, Imported, Listed},
    },
};

/// The next step after new certificates are installed.
const RELOAD: &str =
    "reload the gateway to use them; machines and people continue, and get the new chain with their next renewal";

/// Runs a `ca` command. Files in the gateway's folder are written as its owner.
pub fn ca(command: &CaCommand) -> Result<(), Complaint> {
    let path = match command {
        CaCommand::Sign { root_key, root_passphrase_file, input, out, new } => {
            let passphrase = Passphrase::load(root_passphrase_file).map_err(Complaint::failed)?;
            let by = offline::RootSigning { key: root_key, passphrase: &passphrase, new: new.map(Into::into) };
            let signed = offline::sign(input, &by, &Clock::system(), &Entropy::os());
            write(out, &signed.map_err(Complaint::failed)?)?;
            println!("signed; take {} to the gateway and run `lychgate-gateway ca import` there", out.display());
            return Ok(());
        }
        CaCommand::List { config, json } => return listing::list(config, *json),
        CaCommand::Crl { config, .. } | CaCommand::Renew { config, .. } | CaCommand::Import { config, .. } => config,
        CaCommand::Prepare { .. }
        | CaCommand::Publish { .. }
        | CaCommand::Activate { .. }
        | CaCommand::Retire { .. }
        | CaCommand::Replace { .. } => {
            return rotation::rotate(command);
        }
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

/// Runs the part in the gateway's folder. Returns the text of a request, if the command makes one.
fn in_its_folder(command: &CaCommand, config: &Config) -> Result<Option<String>, Complaint> {
    let (clock, entropy) = (Clock::system(), Entropy::os());
    let data_dir = &config.data_dir;
    match command {
        CaCommand::List { .. }
        | CaCommand::Sign { .. }
        | CaCommand::Prepare { .. }
        | CaCommand::Publish { .. }
        | CaCommand::Activate { .. }
        | CaCommand::Retire { .. }
        | CaCommand::Replace { .. } => {}
        CaCommand::Crl { root_key, root_passphrase_file, .. } => {
            let root = root(config, root_key.as_deref(), root_passphrase_file.as_deref())?;
            let made = offline::renew_root_list(data_dir, &root, &clock).map_err(Complaint::failed)?;
            let what = Offline::RootListMade { number: made.number.to_string(), signed: SignedWhere::Here };
            note(config, &clock, vec![what])?;
            let until = made.next_update.map_or_else(String::new, |until| format!(", valid until {until}"));
            println!("made the root's revocation list, number {}{until}", made.number);
            println!("reload the gateway to serve it");
        }
        CaCommand::Renew { request: Some(_), .. } => {
            return offline::request(data_dir).map(Some).map_err(Complaint::failed);
        }
        CaCommand::Renew { root_key, root_passphrase_file, request: None, .. } => {
            let root = root(config, root_key.as_deref(), root_passphrase_file.as_deref())?;
            let listed = offline::renew(data_dir, &root, &clock, &entropy).map_err(Complaint::failed)?;
            note(config, &clock, renewed(&listed, data_dir, SignedWhere::Here)?)?;
            show(&listed, &clock);
            println!("{RELOAD}");
        }
        CaCommand::Import { input, .. } => {
            match offline::import(&builder(config)?, input).map_err(Complaint::failed)? {
                Imported::Renewed(listed) => {
                    note(config, &clock, renewed(&listed, data_dir, SignedWhere::Elsewhere)?)?;
                    show(&listed, &clock);
                    println!("{RELOAD}");
                }
                Imported::New(name) => {
                    note(config, &clock, vec![rotation::changed(data_dir, &name, "prepared", None)?])?;
                    rotation::prepared(&name);
                }
            }
        }
    }
    Ok(None)
}

/// Audit notes about renewed certificates.
fn renewed(listed: &[Listed], data_dir: &Path, signed: SignedWhere) -> Result<Vec<Offline>, Complaint> {
    let issuing = listed.iter().filter(|one| one.root.is_some() && one.state != SlotState::Retired);
    let mut done: Vec<Offline> = issuing
        .map(|one| Offline::CaRenewed {
            ca: one.name.clone(),
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

/// Warnings about expiry for `check-config`; empty before `init`.
pub fn warnings(data_dir: &Path) -> Vec<String> {
    offline::list(data_dir).map_or_else(|_| Vec::new(), |listed| notices(&listed, &Clock::system()))
}
