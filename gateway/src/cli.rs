//! The command line of `lychgate-gateway`.

use std::path::PathBuf;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

/// The gateway: where machines wait until they are received.
#[derive(Debug, Parser)]
#[command(name = "lychgate-gateway", version, about, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What stands at the end of `--help`.
const EXIT_CODES: &str = "\
Exit codes:
   0  done, or stopped by a signal after draining
   1  failed: a port is taken, a file cannot be read, the passphrase does not open the keys
   2  the command line makes no sense
   3  the configuration, the policy or a case is wrong
   4  the store cannot be used (in use, damaged, of another engine or a newer format, older than the
      last one seen here), or it stopped because a write's outcome is unknown, as on a full disk";

/// The whole command line, with the exit codes at the help of every command.
#[must_use]
pub fn command() -> clap::Command {
    manual::with_exit_codes(Cli::command(), EXIT_CODES)
}

/// Reads the words of the command line.
///
/// # Errors
/// When they are none; also when they ask for help, which is in the error then.
pub fn read() -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&command().try_get_matches()?)
}

/// Everything the gateway can be asked to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a gateway on loopback to try things with; everything lies in one folder and is kept between runs
    Dev {
        /// The folder
        #[arg(long, default_value = "lychgate-dev")]
        dir: PathBuf,
    },
    /// Make a new gateway: authority, store, configuration, policy, and a token for the first person
    Init {
        /// The folder for everything, which must not hold a gateway yet
        #[arg(long, required_unless_present = "data_dir", conflicts_with_all = ["config_dir", "data_dir"])]
        dir: Option<PathBuf>,
        /// Instead: the folder for configuration, policy and the passphrase, such as `/etc/lychgate`
        #[arg(long, requires = "data_dir")]
        config_dir: Option<PathBuf>,
        /// And the one for records and keys, such as `/var/lib/lychgate-gateway`
        #[arg(long, requires = "config_dir")]
        data_dir: Option<PathBuf>,
        /// The trust domain, such as `lab.example`; it can never change
        #[arg(long)]
        trust_domain: String,
        /// The host name or address that clients use to reach the gateway
        #[arg(long)]
        name: Option<String>,
        /// Where newcomers connect
        #[arg(long, default_value = "127.0.0.1:8443")]
        listen: std::net::SocketAddr,
        /// Where holders of certificates connect; the next port when not given
        #[arg(long)]
        listen_manage: Option<std::net::SocketAddr>,
        /// Where people connect on their way to machines; the port after that when not given
        #[arg(long)]
        listen_proxy: Option<std::net::SocketAddr>,
        /// All on the one port of `--listen`, told apart by name: NAME, `manage.`NAME and `proxy.`NAME
        #[arg(long, requires = "name", conflicts_with_all = ["listen_manage", "listen_proxy"])]
        shared: bool,
        /// What keeps the records: `sled` or `redb`
        #[arg(long, default_value = "sled")]
        engine: crate::store::Engine,
    },
    /// Run the gateway
    Run {
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
        /// Start although the store is older than the last one seen here, as after restoring a backup: locks set since are lost
        #[arg(long)]
        accept_rollback: bool,
    },
    /// Print a join token for one more administrator, for when none is left who could; the gateway must not be running
    Invite {
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
    },
    /// Have a say about the clock
    Clock {
        /// What to do
        #[command(subcommand)]
        command: ClockCommand,
    },
    /// Read the configuration and the policy, say what is wrong, and stop
    CheckConfig {
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
    },
    /// Check and try policies, without a gateway
    Policy {
        /// What to do
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Look after the authority: when its certificates end, and making them anew
    Ca {
        /// What to do
        #[command(subcommand)]
        command: CaCommand,
    },
    /// Write everything in the store as JSON lines; the gateway must not be running
    Export {
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
        /// The file to write; standard output when not given
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Write a man page for every command
    Man {
        /// The folder
        dir: PathBuf,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Fill an empty store from an export
    Import {
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
        /// The file to read
        #[arg(long = "in")]
        input: PathBuf,
        /// Put damaged records aside instead of refusing the file
        #[arg(long)]
        quarantine: bool,
    },
    /// Look at the records of the store, and put damaged ones aside; the gateway must not be running
    Store {
        /// What to do
        #[command(subcommand)]
        command: StoreCommand,
    },
}

/// Work on the records.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Name every record that does not read as what it should be; exit code 4 when there is one
    Check {
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
    },
    /// Put a damaged record aside, where nothing reads it and every export has it
    Quarantine {
        /// Its key, as `store check` names it
        key: String,
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
    },
}

/// Work on the clock.
#[derive(Debug, Subcommand)]
pub enum ClockCommand {
    /// Say that this machine's clock is right, although it jumped: a gateway that doubts it believes it within a minute and
    /// goes on deleting what is old by it
    Accept {
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
    },
}

/// Work on the authority. The gateway may be running; it takes over what changed when it starts anew.
#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// List the root, its revocation list and the issuing CAs, with when they end
    List {
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
    },
    /// Make the root's revocation list anew, with the root's key
    Crl {
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
        /// The root's key, when it is not in the data folder
        #[arg(long)]
        root_key: Option<PathBuf>,
        /// The file with the passphrase of the root's key, when it is not the gateway's
        #[arg(long)]
        root_passphrase_file: Option<PathBuf>,
    },
    /// Certify the issuing CAs anew, for the keys they have, with the root's key; or write the request for it, to be signed elsewhere
    Renew {
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
        /// The root's key, when it is not in the data folder
        #[arg(long, conflicts_with = "request")]
        root_key: Option<PathBuf>,
        /// The file with the passphrase of the root's key, when it is not the gateway's
        #[arg(long, conflicts_with = "request")]
        root_passphrase_file: Option<PathBuf>,
        /// Write what is to be signed into this file, and change nothing; `ca sign` signs it where the root's key is
        #[arg(long)]
        request: Option<PathBuf>,
    },
    /// Sign a request of `ca renew`, where the root's key is; needs nothing else of the gateway
    Sign {
        /// The root's key
        #[arg(long)]
        root_key: PathBuf,
        /// The file with its passphrase
        #[arg(long)]
        root_passphrase_file: PathBuf,
        /// The request
        #[arg(long = "in")]
        input: PathBuf,
        /// The file to write, which `ca import` takes
        #[arg(long)]
        out: PathBuf,
    },
    /// Put what `ca sign` signed in place
    Import {
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
        /// What was signed
        #[arg(long = "in")]
        input: PathBuf,
    },
}

/// Work on policies.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Check policy files strictly: names, types, annotations
    Check {
        /// The files, which are loaded as one policy
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Also look into the store of this configuration, and say which groups nobody is in; the gateway must not be running
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Run a table of cases against a policy
    Test {
        /// The policy files, which are loaded as one policy, and the table of cases (TOML)
        #[arg(required = true, num_args = 2.., value_name = "FILE... CASES")]
        files: Vec<PathBuf>,
    },
    /// Print the policy a new gateway starts with
    Default,
    /// Print the schema: every fact a rule may use, the claims of the attestors among them
    Schema,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_every_exit_code() {
        let mut command = command();
        command.build();
        command.clone().debug_assert();
        for help in [command.render_help(), command.render_long_help()] {
            let help = help.to_string();
            for code in 0..=4 {
                assert!(help.contains(&format!("\n   {code}  ")), "{code}: {help}");
            }
            assert!(help.contains("full disk"), "{help}");
        }
    }
}
