//! What each command does. Errors end here, as words and an exit code.

mod dev;
mod init;
mod offline;

use std::{fmt, path::Path, process::ExitCode};

use crate::{
    cli::{Cli, Command, PolicyCommand},
    config::Config,
    server::{self, Start},
};

/// Exit code of a general failure.
const FAILED: u8 = 1;
/// Exit code when what was written down is wrong: configuration, policy, cases.
const WRONG: u8 = 3;
/// Exit code when the store cannot be used.
const STORE: u8 = 4;

/// What is said before exiting.
#[derive(Debug)]
pub struct Complaint {
    what: String,
    hint: Option<String>,
    code: u8,
}

impl Complaint {
    /// A failure.
    #[must_use]
    pub fn failed(what: impl fmt::Display) -> Self {
        Self { what: what.to_string(), hint: None, code: FAILED }
    }

    /// Something written down wrongly.
    #[must_use]
    pub fn wrong(what: impl fmt::Display) -> Self {
        Self { what: what.to_string(), hint: None, code: WRONG }
    }

    /// A store that cannot be used.
    #[must_use]
    pub fn store(what: impl fmt::Display) -> Self {
        Self { what: what.to_string(), hint: None, code: STORE }
    }

    /// With a way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says it and gives the exit code.
    fn report(&self) -> ExitCode {
        eprintln!("lychgate-gateway: error: {}", self.what);
        if let Some(hint) = &self.hint {
            eprintln!("lychgate-gateway: hint: {hint}");
        }
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// Carries out one command line.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Dev { dir } => dev::dev(&dir),
        Command::Init { dir, trust_domain, name, listen, listen_manage, listen_proxy } => {
            let wishes = init::Wishes { trust_domain, name, listen, listen_manage, listen_proxy };
            runtime().and_then(|runtime| runtime.block_on(init::init(&dir, &wishes))).map(|made| made.announce())
        }
        Command::Run { config, accept_rollback } => serve(&config, accept_rollback),
        Command::Invite { config } => runtime().and_then(|runtime| runtime.block_on(init::invite(&config))),
        Command::CheckConfig { config } => offline::check_config(&config),
        Command::Policy { command: PolicyCommand::Check { files } } => offline::policy_check(&files),
        Command::Policy { command: PolicyCommand::Test { files } } => offline::policy_test(&files),
        Command::Policy { command: PolicyCommand::Default } => {
            print!("{}", policy::DEFAULT_POLICY);
            Ok(())
        }
        Command::Policy { command: PolicyCommand::Schema } => offline::policy_schema(),
        Command::Export { config, out } => {
            runtime().and_then(|runtime| runtime.block_on(offline::export(&config, out.as_deref())))
        }
        Command::Import { config, input } => {
            runtime().and_then(|runtime| runtime.block_on(offline::import(&config, &input)))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(complaint) => complaint.report(),
    }
}

fn serve(path: &Path, accept_rollback: bool) -> Result<(), Complaint> {
    let config = load(path)?;
    crate::edge::log::init(&config.log).map_err(Complaint::wrong)?;
    runtime()?.block_on(async {
        let start = Start { config, path: path.to_owned(), accept_rollback };
        server::serve(start, |_| {}).await
    })
}

/// Reads the configuration.
fn load(path: &Path) -> Result<Config, Complaint> {
    Config::load(path).map_err(Complaint::wrong)
}

fn runtime() -> Result<tokio::runtime::Runtime, Complaint> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Complaint::failed)
}
