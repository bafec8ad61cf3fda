//! Calls the function of the parsed command.

use std::path::{Path, PathBuf};

use crate::cli::{self, Cli, Command, JoinArgs, KeyChoice, SshCertCommand, TpmCommand, pairs};
use crate::commands::connect;
use crate::commands::daemon::{self, RunLength};
use crate::commands::helper;
use crate::commands::join;
use crate::commands::manage_client::ManageClient;
use crate::commands::own::{self, LeaveNotice, RenewWhen};
use crate::commands::sshcert;
use crate::commands::sshconfig;
use crate::commands::tpm;
use crate::core::enrollment::{OnWait, Patience, RetryPolicy};
use crate::core::plan::{JoinRequest, WantedRole};
use crate::core::services::{self, Services};
use crate::core::target::{JoinTarget, parse_name, parse_pin};
use crate::edge::keystore::Keystore;
use crate::edge::terminal::{self, Format};
use crate::platform::{self, Access};
use crate::text::report::{Complaint, Exit};

/// Longest join token or URL read from standard input, in bytes.
const STDIN_MAX: u64 = 16 * 1024;

/// Runs the command.
pub fn run(cli: Cli, format: Format) -> Result<Exit, Complaint> {
    match &cli.command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut cli::command(), "lychgate", &mut script);
            terminal::result(Format::Text, &serde_json::Value::Null, &String::from_utf8_lossy(&script));
            return Ok(Exit::Ok);
        }
        Command::Man { dir } => return man(dir).map(|()| Exit::Ok),
        _ => {}
    }
    let store = Keystore::at(folder(cli.dir)?);
    store.check()?;
    // One thread: a client waits most of the time, and a service should be small.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Complaint::new(Exit::Failure, "runtime", format!("cannot start: {e}")))?;
    let outcome = runtime.block_on(command(cli.command, &store, format));
    // Does not wait for a name lookup that hangs in a thread.
    runtime.shutdown_background();
    outcome
}

async fn command(command: Command, store: &Keystore, format: Format) -> Result<Exit, Complaint> {
    match command {
        Command::Join(args) => {
            let on_wait = if args.no_wait { OnWait::Leave } else { OnWait::Stay };
            let patience = args.wait.map_or(Patience::Brief, Patience::UpTo);
            return join::join(store, &join_request(args)?, RetryPolicy { patience, on_wait }, format).await;
        }
        Command::Status => return own::status(store, format),
        Command::Run(args) => {
            let length = if args.once { RunLength::Once } else { RunLength::ForEver };
            let file = store.trusted_text(services::FILE)?;
            let services = Services::configured(file.as_deref(), &args.expose, &args.reach)?;
            daemon::run(store, &daemon::Options { length, hooks: args.hooks, format, services }).await?;
        }
        Command::Renew(args) => {
            let when = if args.force { RenewWhen::Now } else { RenewWhen::Due };
            own::renew(store, when, &args.hooks, format).await?;
        }
        Command::Leave(args) => {
            let notice = if args.local { LeaveNotice::Nobody } else { LeaveNotice::Gateway };
            own::leave(store, notice, format).await?;
        }
        Command::Requests(command) => ManageClient::open(store, format)?.requests(&command).await?,
        Command::Machines(command) => ManageClient::open(store, format)?.machines(&command).await?,
        Command::People(command) => ManageClient::open(store, format)?.people(&command).await?,
        Command::Locks(command) => ManageClient::open(store, format)?.locks(&command).await?,
        Command::Tokens(command) => ManageClient::open(store, format)?.tokens(&command).await?,
        Command::Sessions(command) => ManageClient::open(store, format)?.sessions(&command).await?,
        Command::Connect(args) => return connect::connect(store, &args).await,
        Command::Forward(args) => connect::forward(store, &args, format).await?,
        Command::Helper(args) => helper::helper(store, &args).await?,
        Command::SshConfig(args) => sshconfig::print(store, &args, format).await?,
        Command::Ssh(args) => return sshconfig::ssh(store, &args).await,
        Command::SshCert(command) => ssh_cert(command, store, format).await?,
        Command::Audit(args) => ManageClient::open(store, format)?.audit(&args).await?,
        Command::Inventory(args) => ManageClient::open(store, Format::Json)?.inventory(store.dir(), &args).await?,
        Command::CanI(args) => ManageClient::open(store, format)?.can_i(&args).await?,
        Command::Tpm(TpmCommand::Info) => tpm::info(store, format).await?,
        Command::Tpm(TpmCommand::Fetch(args)) => tpm::fetch::fetch(store, &args, format).await?,
        // Handled above, without folder and runtime.
        Command::Completions { .. } | Command::Man { .. } => {}
    }
    Ok(Exit::Ok)
}

async fn ssh_cert(command: SshCertCommand, store: &Keystore, format: Format) -> Result<(), Complaint> {
    use crate::commands::sshcert::{Agent, HostCertRequest};
    use crate::flow::sshcert::user::{Freshness, UserCertRequest};
    match command {
        SshCertCommand::User(args) => {
            let freshness = if args.if_needed { Freshness::IfNeeded } else { Freshness::Now };
            let agent = if args.agent { Agent::Add } else { Agent::Leave };
            let request = UserCertRequest { key: args.key, out: args.out, freshness };
            sshcert::user(store, &request, agent, format).await
        }
        SshCertCommand::Host(args) if args.forget => sshcert::forget(store, &args.host_key, format).await,
        SshCertCommand::Host(args) => {
            let request = HostCertRequest { key: args.host_key, out: args.out, reload: args.reload };
            sshcert::host(store, &request, format).await
        }
        SshCertCommand::KnownHosts { also } => sshcert::print_known_hosts(store, &also, format).await,
        SshCertCommand::TrustedUserCa => sshcert::print_trusted_user_ca(store, format).await,
    }
}

/// The folder named, or the usual one.
fn folder(named: Option<PathBuf>) -> Result<PathBuf, Complaint> {
    let dir = named.filter(|dir| !dir.as_os_str().is_empty()).or_else(platform::default_folder).ok_or_else(|| {
        Complaint::new(Exit::Usage, "usage", "no folder is named, and there is no home folder")
            .hint("pass --dir or set LYCHGATE_DIR")
    })?;
    // Hooks and readers of the JSON may have another working directory.
    Ok(std::path::absolute(&dir).unwrap_or(dir))
}

/// What `join` was asked for.
fn join_request(args: JoinArgs) -> Result<JoinRequest, Complaint> {
    let target = match args.target.as_deref() {
        Some("-") => {
            let bad =
                |e| Complaint::new(Exit::Usage, "usage", format!("cannot read the token from standard input: {e}"));
            Some(JoinTarget::parse(&terminal::read_stdin(STDIN_MAX).map_err(bad)?)?)
        }
        Some(text) => Some(JoinTarget::parse(text)?),
        None => None,
    };
    Ok(JoinRequest {
        target,
        pin: args.pin.as_deref().map(parse_pin).transpose()?,
        name: args.name.as_deref().map(parse_name).transpose()?,
        role: if args.person { WantedRole::Person } else { WantedRole::AsTold },
        attributes: pairs(&args.attributes),
        offer: args.attest,
        key: args.key.map(KeyChoice::wish),
    })
}

/// Header of the man pages. The date is that of the last relevant change of the command line.
const MANUAL: manual::About<'static> = manual::About {
    program: concat!("lychgate ", env!("CARGO_PKG_VERSION")),
    date: "2026-11-30",
    see_also: &["lychgate-gateway(1)", "ssh(1)", "ssh_config(5)"],
};

/// Writes a man page for every command.
fn man(dir: &Path) -> Result<(), Complaint> {
    let write = || {
        platform::make_shared_folder(dir)?;
        manual::pages(cli::command(), MANUAL)
            .into_iter()
            .try_for_each(|page| platform::replace(&dir.join(page.file), &page.text, Access::Public))
    };
    write().map_err(|e| {
        Complaint::new(Exit::Files, "files", format!("cannot write man pages to `{}`: {e}", dir.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn man_pages_are_written_for_every_command() {
        let dir = tempfile::tempdir().unwrap();
        man(dir.path()).unwrap();
        for page in ["lychgate.1", "lychgate-join.1", "lychgate-requests-approve.1"] {
            assert!(dir.path().join(page).is_file(), "{page}");
        }
        let main = std::fs::read_to_string(dir.path().join("lychgate.1")).unwrap();
        assert!(main.contains(".SH EXIT STATUS"));
        for page in std::fs::read_dir(dir.path()).unwrap() {
            let text = std::fs::read_to_string(page.unwrap().path()).unwrap();
            assert!(text.lines().any(|line| line.starts_with(".TH") && line.contains(MANUAL.date)), "{text}");
        }
    }

    #[test]
    fn completions_exist_for_every_shell() {
        for shell in <clap_complete::Shell as clap::ValueEnum>::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut cli::command(), "lychgate", &mut script);
            assert!(String::from_utf8(script).unwrap().contains("lychgate"), "{shell}");
        }
    }
}
