//! The command line of `lychgate-gateway`.

use std::path::PathBuf;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

/// Admits machines and people, issues their certificates, and connects people to services of machines.
#[derive(Debug, Parser)]
#[command(name = "lychgate-gateway", version, about, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// End of every `--help`.
const EXIT_CODES: &str = "\
Exit codes:
   0  done, or stopped by a signal after draining
   1  failed: a port is taken, a file cannot be read, the passphrase does not decrypt the keys
   2  the command line is not valid
   3  the configuration, the policy or a case is wrong
   4  the store cannot be used (in use, damaged, of another engine or a newer format, older than the
      one last used here), or the outcome of a write is unknown, as on a full disk";

/// The definition of the command line, with the exit codes in the help of every command.
#[must_use]
pub fn command() -> clap::Command {
    manual::with_exit_codes(Cli::command(), EXIT_CODES)
}

/// Parses the arguments of this process.
///
/// # Errors
/// Invalid arguments; also `--help` and `--version`, whose output is the error's text.
pub fn read() -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&command().try_get_matches()?)
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a gateway on loopback to try Lychgate; one folder has all its files and is kept between runs
    Dev {
        /// The folder
        #[arg(long, default_value = "lychgate-dev")]
        dir: PathBuf,
    },
    /// Create a new gateway: CA keys, store, configuration, policy, and a join token for the first person
    Init {
        /// The folder for all files; it must not contain a gateway
        #[arg(long, required_unless_present = "data_dir", conflicts_with_all = ["config_dir", "data_dir"])]
        dir: Option<PathBuf>,
        /// Instead of --dir: the folder for configuration, policy and the passphrase, such as `/etc/lychgate`
        #[arg(long, requires = "data_dir")]
        config_dir: Option<PathBuf>,
        /// The folder for records and keys, such as `/var/lib/lychgate-gateway`; with --config-dir
        #[arg(long, requires = "config_dir")]
        data_dir: Option<PathBuf>,
        /// The trust domain, such as `lab.example`; it cannot be changed later
        #[arg(long)]
        trust_domain: String,
        /// The host name or address that clients use to reach the gateway
        #[arg(long)]
        name: Option<String>,
        /// The address of the enroll face, for joining
        #[arg(long, default_value = "127.0.0.1:8443")]
        listen: std::net::SocketAddr,
        /// The address of the manage face, for machines and people with a certificate; by default the next port
        #[arg(long)]
        listen_manage: Option<std::net::SocketAddr>,
        /// The address of the proxy face, for people who connect to services of machines; by default the port after that
        #[arg(long)]
        listen_proxy: Option<std::net::SocketAddr>,
        /// All faces on the port of `--listen`, separated by the names NAME, `manage.`NAME and `proxy.`NAME
        #[arg(long, requires = "name", conflicts_with_all = ["listen_manage", "listen_proxy"])]
        shared: bool,
        /// The storage engine: `sled` or `redb`
        #[arg(long, default_value = "sled")]
        engine: crate::store::Engine,
    },
    /// Run the gateway
    Run {
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
        /// Start although the store is older than the one last used here, as after a restore; locks set since then are lost
        #[arg(long)]
        accept_rollback: bool,
    },
    /// Print a join token for another administrator, if none is left who can invite one; stop the gateway first
    Invite {
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
    },
    /// Tell the gateway about its clock
    Clock {
        /// What to do
        #[command(subcommand)]
        command: ClockCommand,
    },
    /// Check the configuration and the policy, and print errors
    CheckConfig {
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
    },
    /// Check and test policies; this needs no gateway
    Policy {
        /// What to do
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// List and renew the certificates of the CAs
    Ca {
        /// What to do
        #[command(subcommand)]
        command: CaCommand,
    },
    /// Work on what evidence is checked against
    Attest {
        /// What to do
        #[command(subcommand)]
        command: AttestCommand,
    },
    /// Write all records as JSON lines; stop the gateway first
    Export {
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
        /// The file to write; by default standard output
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
        /// Quarantine damaged records instead of refusing the file
        #[arg(long)]
        quarantine: bool,
    },
    /// Check the records of the store and quarantine damaged ones; stop the gateway first
    Store {
        /// What to do
        #[command(subcommand)]
        command: StoreCommand,
    },
}

/// Work on what evidence is checked against.
#[derive(Debug, Subcommand)]
pub enum AttestCommand {
    /// The CAs of makers whose TPMs are trusted: the file that `[attest.tpm] anchors` names
    Anchors {
        /// What to do
        #[command(subcommand)]
        command: AnchorsCommand,
    },
}

/// Work on the CAs of makers. The gateway may be running; it reads the file within five seconds.
#[derive(Debug, Subcommand)]
pub enum AnchorsCommand {
    /// Add CAs to the file. If one is refused, nothing is added
    Import {
        /// Certificates, PEM or DER, or folders of them (`.pem`, `.crt`, `.cer`, `.der`)
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Where they are from, such as the address; by default each one's file
        #[arg(long)]
        source: Option<String>,
        /// The SHA-256 of a certificate that has the name of a known CA and another fingerprint: add it all the same
        #[arg(long, value_name = "SHA256", value_parser = sha256)]
        accept: Vec<String>,
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
    },
    /// List the CAs in the file, and what is known of each
    List {
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Compare certificates with the built-in table of makers' CAs; exit code 1 if one has the name of a known CA and another
    /// fingerprint
    Check {
        /// Certificates, PEM or DER, or folders of them; without any, those in the file
        #[arg(required_unless_present = "config")]
        files: Vec<PathBuf>,
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: Option<PathBuf>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// A SHA-256 in hex, with or without colons.
fn sha256(text: &str) -> Result<String, String> {
    let hex = text.replace(':', "").to_lowercase();
    let good = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    if good { Ok(hex) } else { Err("a SHA-256 has 64 hex digits".to_owned()) }
}

/// Work on the records.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// List the damaged records; exit code 4 if there are any
    Check {
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
    },
    /// Quarantine a damaged record: nothing reads it any more, and every export contains it
    Quarantine {
        /// The record's key, as `store check` prints it
        key: String,
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
    },
}

/// Work on the clock.
#[derive(Debug, Subcommand)]
pub enum ClockCommand {
    /// Declare that this machine's clock is right although it jumped; a running gateway that doubts it continues to delete old
    /// records within a minute
    Accept {
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
    },
}

/// Commands on the authority. The gateway may be running; it loads changes at its next reload.
#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// List roots and issuing CAs with their state and end, and, during a rotation, who depends on them
    List {
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Create another root with its issuing CAs, or another issuing CA below the active root; no client gets it before it is published
    Prepare {
        /// What to create
        what: Prepared,
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
        /// The active root's key, if it is not in the data folder
        #[arg(long, conflicts_with = "request")]
        root_key: Option<PathBuf>,
        /// The file with the passphrase of the root's key, if it is not the gateway's
        #[arg(long, conflicts_with = "request")]
        root_passphrase_file: Option<PathBuf>,
        /// Only create the key, and write a request to this file; `ca sign` signs it where the root's key is
        #[arg(long)]
        request: Option<PathBuf>,
    },
    /// Distribute a prepared root or issuing CA to clients, before it signs anything
    Publish {
        /// The root or issuing CA, as `ca list` names it
        name: String,
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
    },
    /// Sign with a published root or issuing CA from now on, instead of the active one
    Activate {
        /// The root or issuing CA, as `ca list` names it
        name: String,
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
    },
    /// Stop distributing a root or issuing CA; refused while machines or people depend on it
    Retire {
        /// The root or issuing CA, as `ca list` names it
        name: String,
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
        /// The name again: retire it although machines or people depend on it, or although that is unknown
        #[arg(long, value_name = "NAME")]
        force: Option<String>,
    },
    /// Replace the key of join tokens, or the key of tickets, with a new one. What was made with the old key is refused from the next
    /// reload on
    Replace {
        /// The key to replace
        what: Replaced,
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
    },
    /// Make a new revocation list of the root, with the root's key
    Crl {
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
        /// The root's key, if it is not in the data folder
        #[arg(long)]
        root_key: Option<PathBuf>,
        /// The file with the passphrase of the root's key, if it is not the gateway's
        #[arg(long)]
        root_passphrase_file: Option<PathBuf>,
    },
    /// Renew the certificates of the issuing CAs for the same keys, with the root's key; or write a request to sign elsewhere
    Renew {
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
        /// The root's key, if it is not in the data folder
        #[arg(long, conflicts_with = "request")]
        root_key: Option<PathBuf>,
        /// The file with the passphrase of the root's key, if it is not the gateway's
        #[arg(long, conflicts_with = "request")]
        root_passphrase_file: Option<PathBuf>,
        /// Only write a request to this file; `ca sign` signs it where the root's key is
        #[arg(long)]
        request: Option<PathBuf>,
    },
    /// Sign a request of `ca renew` or `ca prepare`, where the root's key is; needs nothing else of the gateway
    Sign {
        /// The role whose certificates a new CA will sign, if the request is for one
        #[arg(long, value_name = "ROLE")]
        new: Option<CaRole>,
        /// The root's key
        #[arg(long)]
        root_key: PathBuf,
        /// The file with the passphrase of the root's key
        #[arg(long)]
        root_passphrase_file: PathBuf,
        /// The file with the request
        #[arg(long = "in")]
        input: PathBuf,
        /// The file to write; `ca import` reads it
        #[arg(long)]
        out: PathBuf,
    },
    /// Install the certificates that `ca sign` signed
    Import {
        /// The configuration file
        #[arg(long, env = "LYCHGATE_GATEWAY_CONFIG")]
        config: PathBuf,
        /// The file that `ca sign` wrote
        #[arg(long = "in")]
        input: PathBuf,
    },
}

/// What `ca prepare` creates.
#[derive(Copy, Clone, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Prepared {
    /// A root, and an issuing CA for each role below it
    Root,
    /// An issuing CA for machines
    Machine,
    /// An issuing CA for people
    Person,
    /// An issuing CA for gateways
    Gateway,
}

impl Prepared {
    /// Role of the leaves that it signs; `None` for a root.
    #[must_use]
    pub const fn role(self) -> Option<pki::Role> {
        match self {
            Self::Root => None,
            Self::Machine => Some(pki::Role::Machine),
            Self::Person => Some(pki::Role::Person),
            Self::Gateway => Some(pki::Role::Gateway),
        }
    }

    /// The argument on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Machine => "machine",
            Self::Person => "person",
            Self::Gateway => "gateway",
        }
    }
}

/// What `ca replace` replaces.
#[derive(Copy, Clone, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Replaced {
    /// The key that signs join tokens
    Tokens,
    /// The key that encrypts tickets, which carry an attestor's state between the two rounds of its evidence
    Tickets,
}

/// Role of the certificates that an issuing CA signs.
#[derive(Copy, Clone, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CaRole {
    /// Those of machines
    Machine,
    /// Those of people
    Person,
    /// Those of gateways
    Gateway,
}

impl From<CaRole> for pki::Role {
    fn from(role: CaRole) -> Self {
        match role {
            CaRole::Machine => Self::Machine,
            CaRole::Person => Self::Person,
            CaRole::Gateway => Self::Gateway,
        }
    }
}

/// Work on policies.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Check policy files strictly: names, types, annotations
    Check {
        /// The policy files, which are read as one policy
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Also warn about groups without members in the store of this configuration; stop the gateway first
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Test a policy with a table of cases
    Test {
        /// The policy files, which are read as one policy, and last the table of cases (TOML)
        #[arg(required = true, num_args = 2.., value_name = "FILE... CASES")]
        files: Vec<PathBuf>,
    },
    /// Print the policy of a new gateway
    Default,
    /// Print the schema: every fact that a rule can use, including the attestors' claims
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
