//! Runs the commands. Errors end here, as a message and an exit code.

mod anchors;
mod authority;
mod ca;
mod dev;
mod init;
mod listing;
mod manual;
mod offline;
mod rotation;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use crate::{
    cli::{AttestCommand, Cli, ClockCommand, Command, PolicyCommand, StoreCommand},
    complaint::Complaint,
    config::Config,
    ports::home,
    server::{self, Start},
};

/// Runs one command line.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Dev { dir } => dev::dev(&dir),
        Command::Init {
            dir,
            config_dir,
            data_dir,
            trust_domain,
            name,
            listen,
            listen_manage,
            listen_proxy,
            shared,
            engine,
        } => {
            let ports = if shared { init::Ports::Shared } else { init::Ports::Apart };
            let options = init::InitOptions { trust_domain, name, listen, listen_manage, listen_proxy, engine, ports };
            folders(dir, config_dir, data_dir)
                .and_then(|folders| init::init(&folders, &options))
                .map(|made| made.announce())
        }
        Command::Run { config, accept_rollback } => serve(&config, accept_rollback),
        Command::Invite { config } => init::invite(&config),
        Command::Man { dir } => manual::man(&dir),
        Command::Completions { shell } => manual::completions(shell),
        Command::Clock { command: ClockCommand::Accept { config } } => offline::clock_accept(&config),
        Command::CheckConfig { config } => offline::check_config(&config),
        Command::Policy { command: PolicyCommand::Check { files, config } } => {
            offline::policy_check(&files, config.as_deref())
        }
        Command::Policy { command: PolicyCommand::Test { files } } => offline::policy_test(&files),
        Command::Policy { command: PolicyCommand::Default } => {
            print!("{}", policy::DEFAULT_POLICY);
            Ok(())
        }
        Command::Policy { command: PolicyCommand::Schema } => offline::policy_schema(),
        Command::Ca { command } => ca::ca(&command),
        Command::Attest { command: AttestCommand::Anchors { command } } => anchors::anchors(command),
        Command::Export { config, out } => offline::export(&config, out.as_deref()),
        Command::Import { config, input, quarantine } => {
            let damaged = if quarantine { offline::OnDamage::Quarantine } else { offline::OnDamage::Refuse };
            offline::import(&config, &input, damaged)
        }
        Command::Store { command: StoreCommand::Check { config } } => offline::store_check(&config),
        Command::Store { command: StoreCommand::Quarantine { key, config } } => offline::quarantine(&config, &key),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(complaint) => complaint.report(),
    }
}

/// The folders of `init`: one, or two; clap checks that.
fn folders(one: Option<PathBuf>, config: Option<PathBuf>, data: Option<PathBuf>) -> Result<init::Folders, Complaint> {
    match (one, config, data) {
        (Some(dir), _, _) => Ok(init::Folders::one(&dir)),
        (None, Some(config), Some(data)) => {
            // it is written to the configuration, which must not depend on the working directory
            let data = std::path::absolute(data).map_err(Complaint::failed)?;
            Ok(init::Folders::two(&config, &data))
        }
        (None, _, _) => Err(Complaint::wrong("no folder: give --dir, or --config-dir and --data-dir")),
    }
}

fn serve(path: &Path, accept_rollback: bool) -> Result<(), Complaint> {
    let config = server::configuration(path)?;
    crate::ports::log::init(&config.log).map_err(Complaint::wrong)?;
    runtime()?.block_on(async {
        let start = Start { config, path: path.to_owned(), accept_rollback };
        server::serve(start, |_| {}).await
    })
}

/// If root calls it, runs `work` as the owner of the configuration's folder: the configuration can name any file, and must not give its
/// author root's access to it.
fn by_owner<T: Send>(path: &Path, work: impl FnOnce() -> Result<T, Complaint> + Send) -> Result<T, Complaint> {
    let around = path.parent().filter(|around| !around.as_os_str().is_empty()).unwrap_or(Path::new("."));
    home::within(around, work).map_err(Complaint::wrong)?
}

/// Runs `work` as the owner of the gateway's data folder. Every command but `run` uses this.
fn at_home<T: Send>(
    path: &Path,
    config: &Config,
    work: impl AsyncFnOnce(&Config) -> Result<T, Complaint> + Send,
) -> Result<T, Complaint> {
    by_owner(path, || {
        home::within(&config.data_dir, || {
            server::check_folders(config)?;
            runtime()?.block_on(work(config))
        })
        .map_err(Complaint::wrong)?
    })
}

fn load(path: &Path) -> Result<Config, Complaint> {
    by_owner(path, || server::configuration(path))
}

fn runtime() -> Result<tokio::runtime::Runtime, Complaint> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Complaint::failed)
}
