//! The command line. The doc comments of options and commands are the texts of `--help`, man pages and completions.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use pki::UnixTime;

use crate::text::report::EXIT_CODES;

mod examples;
mod joining;
mod people;

pub use self::joining::{FetchArgs, JoinArgs, KeyChoice, TpmCommand, TpmMaker};
pub use self::people::{
    ApproveArgs, LockKind, LocksCommand, MachineListArgs, MachineSetArgs, MachinesCommand, PeopleCommand,
    PersonSetArgs, RequestsCommand, SessionsCommand, TokenArgs, TokensCommand,
};

/// The list of files at the end of `--help` and in the man page.
const FILES: &str = "\
Files, in the folder named by --dir (by default /var/lib/lychgate for root, ~/.lychgate for others):
  cert.pem    the certificate followed by its issuing CA
  key.pem     the private key, readable by its owner alone; with `join --key tpm`, what the TPM
              alone can use of it
  chain.pem   the issuing CA alone
  bundle.pem  the roots to trust
  services.toml  what `run` exposes and reaches, if it is there
  helper.sock where the helper listens
  state.json  what is known: identity, times, last contact, trouble
  attestation.json  how the machine proves itself, and where its keys are
  ssh/        SSH keys and certificates, known_hosts for ssh
  current/    the folder that holds matching cert.pem, key.pem and chain.pem at any moment
  hooks.d/    programs run after there is a new certificate, in the order of their names, for at
              most 30 s each, with LYCHGATE_DIR, LYCHGATE_EVENT (joined, renewed, rejoined),
              LYCHGATE_SERIAL and LYCHGATE_IDENTITY in their environment";

/// The text at the end of `--help`.
fn after_help() -> String {
    format!("{FILES}\n\n{EXIT_CODES}")
}

/// Joins a Lychgate gateway, keeps the certificate renewed, and lets people manage who else joins.
#[derive(Debug, Parser)]
#[command(name = "lychgate", version, about, after_long_help = after_help(), max_term_width = 100)]
pub struct Cli {
    /// The folder of the identity
    #[arg(long, global = true, value_name = "DIR", env = "LYCHGATE_DIR")]
    pub dir: Option<PathBuf>,

    /// Print results as JSON on standard output
    #[arg(long, global = true)]
    pub json: bool,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The command line, with the exit codes in the help of every command.
#[must_use]
pub fn command() -> clap::Command {
    manual::with_exit_codes(Cli::command(), EXIT_CODES)
}

/// Parses a command line.
///
/// # Errors
/// When clap cannot parse them; also for `--help` and `--version`, whose text is in the error.
pub fn read(arguments: &[std::ffi::OsString]) -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&command().try_get_matches_from(arguments)?)
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Request a certificate, or continue an earlier request
    #[command(after_help = examples::JOIN)]
    Join(JoinArgs),
    /// Run as a service: keep the certificate renewed, expose and reach services
    #[command(after_help = examples::RUN)]
    Run(RunArgs),
    /// Renew now if it is due
    Renew(RenewArgs),
    /// Show the identity, its validity, and what happens next
    Status,
    /// Give up the identity and remove its files
    Leave(LeaveArgs),
    /// Requests to join: list, show, approve, deny
    #[command(subcommand)]
    Requests(RequestsCommand),
    /// Admitted machines
    #[command(subcommand)]
    Machines(MachinesCommand),
    /// People
    #[command(subcommand)]
    People(PeopleCommand),
    /// Locks on machines, people, lineages and keys
    #[command(subcommand)]
    Locks(LocksCommand),
    /// Join tokens
    #[command(subcommand)]
    Tokens(TokensCommand),
    /// Connections to services, open or recently ended
    #[command(subcommand)]
    Sessions(SessionsCommand),
    /// Connect standard input and output to a service on a machine
    #[command(after_help = examples::CONNECT)]
    Connect(ConnectArgs),
    /// Listen on this host and forward each connection to a service on a machine
    #[command(after_help = examples::FORWARD)]
    Forward(ForwardArgs),
    /// Serve `connect --helper`: one process and one TLS connection for all of them
    Helper(HelperArgs),
    /// Run ssh to a machine
    #[command(after_help = examples::SSH)]
    Ssh(SshArgs),
    /// Print an ssh configuration for connecting to machines by name
    #[command(after_help = examples::SSH_CONFIG)]
    SshConfig(SshConfigArgs),
    /// SSH certificates: to log in with, and for this machine's sshd
    #[command(subcommand)]
    SshCert(SshCertCommand),
    /// Show the audit log, newest entries last
    #[command(after_help = examples::AUDIT)]
    Audit(AuditArgs),
    /// Print the machines as an inventory for Ansible, always as JSON
    Inventory(InventoryArgs),
    /// This machine's TPM
    #[command(subcommand)]
    Tpm(TpmCommand),
    /// Ask whether the policy allows you to do something
    #[command(after_help = examples::CAN_I)]
    CanI(CanIArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a folder
    Man {
        /// The folder
        dir: PathBuf,
    },
}

/// `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Do what is due now, then exit
    #[arg(long)]
    pub once: bool,
    /// A shell command to run after each new certificate; may be repeated
    #[arg(long = "hook", value_name = "COMMAND")]
    pub hooks: Vec<String>,
    /// A service to expose: NAME=[HOST:]PORT or NAME=unix:/PATH, then optionally `,raw` (its bytes as they are) or `,sealed` (inside
    /// TLS to this machine), and `,allow=WHO` (person, machine, person/NAME, machine/NAME, group/NAME, label/KEY=VALUE); may be
    /// repeated. The file `services.toml` in the folder can hold the same
    #[arg(long = "expose", value_name = "NAME=TARGET")]
    pub expose: Vec<String>,
    /// A service on another machine for programs here: NAME=SERVICE@MACHINE:PORT listens on 127.0.0.1:PORT; `,listen=HOST:PORT`
    /// changes the address, `,raw` also accepts a service that is not sealed; may be repeated
    #[arg(long = "reach", value_name = "NAME=SERVICE@MACHINE:PORT")]
    pub reach: Vec<String>,
}

/// `connect`.
#[derive(Debug, Args)]
pub struct ConnectArgs {
    /// The service and the machine that exposes it; a machine alone means its ssh
    #[arg(value_name = "SERVICE@MACHINE")]
    pub place: String,
    /// The service, as it was written before
    #[arg(hide = true)]
    pub service: Option<String>,
    /// Use the helper; start one if none runs
    #[arg(long)]
    pub helper: bool,
    /// Pass the open connection to ssh and exit (for ProxyUseFdpass); needs --helper
    #[arg(long, requires = "helper")]
    pub fdpass: bool,
    /// Also accept a service that is not sealed: the gateway could read its traffic unless the service encrypts
    #[arg(long)]
    pub raw: bool,
}

/// `forward`.
#[derive(Debug, Args)]
pub struct ForwardArgs {
    /// The service and the machine that exposes it
    #[arg(value_name = "SERVICE@MACHINE")]
    pub place: String,
    /// The service, as it was written before
    #[arg(hide = true)]
    pub service: Option<String>,
    /// Where to listen; a port alone means 127.0.0.1
    #[arg(long, value_name = "[HOST:]PORT", default_value = "127.0.0.1:0")]
    pub listen: String,
    /// Also accept a service that is not sealed: the gateway could read its traffic unless the service encrypts
    #[arg(long)]
    pub raw: bool,
}

/// `helper`.
#[derive(Debug, Args)]
pub struct HelperArgs {
    /// Exit after this long without a connection; never by default
    #[arg(long, value_parser = parse_ttl)]
    pub idle: Option<Duration>,
}

/// `ssh`.
#[derive(Debug, Args)]
pub struct SshArgs {
    /// The arguments of ssh: its options, the machine, and the command to run there
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "[OPTION]... [LOGIN@]MACHINE [COMMAND]"
    )]
    pub arguments: Vec<std::ffi::OsString>,
}

/// `ssh-config`.
#[derive(Debug, Args)]
pub struct SshConfigArgs {
    /// Use plain `openssl s_client` instead of this program
    #[arg(long)]
    pub openssl: bool,
    /// Write it to DIR/ssh/config instead of standard output
    #[arg(long)]
    pub write: bool,
    /// Write it to DIR/ssh/config and include it in ~/.ssh/config
    #[arg(long)]
    pub install: bool,
}

/// `renew`.
#[derive(Debug, Args)]
pub struct RenewArgs {
    /// Renew even if it is not due
    #[arg(long)]
    pub force: bool,
    /// A shell command to run after the renewal; may be repeated
    #[arg(long = "hook", value_name = "COMMAND")]
    pub hooks: Vec<String>,
}

/// `leave`.
#[derive(Debug, Args)]
pub struct LeaveArgs {
    /// Only remove the files here, without telling the gateway
    #[arg(long)]
    pub local: bool,
}

/// `ssh-cert`.
#[derive(Debug, Subcommand)]
pub enum SshCertCommand {
    /// Get a certificate for logging in (people)
    User(SshUserArgs),
    /// Get a certificate for this machine's sshd, and keep it renewed with the machine's own
    Host(SshHostArgs),
    /// Print the known_hosts line with which ssh accepts the host certificate of every machine
    KnownHosts {
        /// Another pattern of host names to accept them under; may be repeated
        #[arg(long, value_name = "PATTERN", value_parser = crate::core::ssh::Pattern::parse)]
        also: Vec<crate::core::ssh::Pattern>,
    },
    /// Print the keys for the file named by sshd's TrustedUserCAKeys
    TrustedUserCa,
}

/// `ssh-cert user`.
#[derive(Debug, Args)]
pub struct SshUserArgs {
    /// Your own key, or its .pub file if the agent holds it; by default a key is made in DIR/ssh
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Where to write the certificate; by default beside the key, where ssh looks for it
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Add key and certificate to the ssh-agent until the certificate expires
    #[arg(long, conflicts_with = "out")]
    pub agent: bool,
    /// Do nothing while more than a third of the certificate's life is left
    #[arg(long)]
    pub if_needed: bool,
}

/// `ssh-cert host`.
#[derive(Debug, Args)]
pub struct SshHostArgs {
    /// The host key
    #[arg(long, value_name = "FILE", default_value = crate::core::ssh::HOST_KEY)]
    pub host_key: PathBuf,
    /// Where to write the certificate; by default beside the key
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// A shell command to run now and after each renewal, such as 'systemctl reload ssh'
    #[arg(long, value_name = "COMMAND")]
    pub reload: Option<String>,
    /// No longer renew the certificate of this host key
    #[arg(long, conflicts_with_all = ["out", "reload"])]
    pub forget: bool,
}

/// `audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Only this event, or a group of events such as `enrollment`
    #[arg(long)]
    pub event: Option<String>,
    /// Only events about this subject
    #[arg(long)]
    pub subject: Option<String>,
    /// Only events caused by this actor
    #[arg(long)]
    pub actor: Option<String>,
    /// Only events since then: a span back such as 2h, an RFC 3339 time, or seconds since 1970
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Then print new events as they happen, until interrupted
    #[arg(long)]
    pub follow: bool,
    /// Show at most this many events, the newest
    #[arg(long, default_value_t = 100, value_parser = parse_limit)]
    pub limit: usize,
}

/// `inventory`.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group = clap::ArgGroup::new("what"))]
pub struct InventoryArgs {
    /// All machines with their groups and variables; the default
    #[arg(long, group = "what")]
    pub list: bool,
    /// The variables of one machine
    #[arg(long, value_name = "NAME", group = "what")]
    pub host: Option<String>,
    /// List machines in this state; may be repeated
    #[arg(long = "state", value_name = "STATE", default_value = "active", conflicts_with = "host")]
    pub states: Vec<MachineState>,
}

/// State of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum MachineState {
    /// It has a valid certificate
    Active,
    /// Its certificate has expired
    Expired,
    /// It is locked
    Locked,
    /// It is admitted and has not fetched its certificate yet
    Reserved,
}

impl MachineState {
    /// As the gateway writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Locked => "locked",
            Self::Reserved => "reserved",
        }
    }
}

/// `can-i`.
#[derive(Debug, Args)]
pub struct CanIArgs {
    /// approve, lock, read, report, administer, renew, login, connect or reach
    pub action: String,
    /// What it would be done to: a request's id or the name it asks for, a machine's name, person/NAME, SERVICE@MACHINE, or
    /// token; nothing means the gateway as a whole
    #[arg(default_value = "")]
    pub resource: String,
    /// Say which rules decide, and how
    #[arg(long)]
    pub explain: bool,
}

/// `key=value`.
fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}

/// The pairs as a map; the last of several with the same key is used.
#[must_use]
pub fn pairs(list: &[(String, String)]) -> BTreeMap<String, String> {
    list.iter().cloned().collect()
}

/// A number of rows.
fn parse_limit(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must be 1 or more".to_owned()),
        Ok(limit) => Ok(limit),
        Err(_) => Err("it must be a number".to_owned()),
    }
}

/// A duration of at least a second.
fn parse_ttl(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(span) if span >= Duration::from_secs(1) => Ok(span),
        Ok(_) => Err("it must be a second or longer".to_owned()),
        Err(e) => Err(format!("{e}; write it as 30min, 1h or 2d")),
    }
}

/// Parses a time: a duration before `now`, an RFC 3339 time, or seconds since 1970.
pub fn parse_moment(text: &str, now: UnixTime) -> Result<UnixTime, String> {
    if let Ok(secs) = text.parse() {
        return Ok(UnixTime::new(secs));
    }
    if let Ok(at) = humantime::parse_rfc3339_weak(text) {
        let since = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        return Ok(UnixTime::new(since.as_secs()));
    }
    match humantime::parse_duration(text) {
        Ok(back) => Ok(now.minus(back)),
        Err(_) => Err(format!(
            "`{text}` is not a time; write 2h for two hours ago, 2026-03-01T12:00:00Z, or seconds since 1970"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_stand_anywhere() {
        for args in [["lychgate", "--json", "--dir", "/x", "status"], ["lychgate", "status", "--dir", "/x", "--json"]] {
            let cli = Cli::try_parse_from(args).unwrap();
            assert!(cli.json);
            assert_eq!(cli.dir, Some(PathBuf::from("/x")));
        }
    }

    #[track_caller]
    fn check(args: &[&str], good: bool) {
        let parsed = Cli::try_parse_from(std::iter::once(&"lychgate").chain(args));
        assert_eq!(parsed.is_ok(), good, "{args:?} {:?}", parsed.err().map(|e| e.to_string()));
    }

    #[test]
    fn what_is_accepted_and_what_is_not() {
        check(&["join"], true);
        check(&["join", "eyJ.a.b", "--name", "x", "--attribute", "rack=7", "--no-wait"], true);
        check(&["join", "--attribute", "rack"], false);
        check(&["join", "a", "b"], false);
        check(&["run", "--once", "--hook", "true"], true);
        check(&["requests", "approve", "e1", "--code", "ABCD-EFGH"], true);
        check(&["requests", "approve", "e1"], true);
        check(&["requests", "approve", "e1", "--code", "A", "--unchecked"], false);
        check(&["requests", "approve", "e1", "--code", "A", "--same-as", "ann"], true);
        check(&["requests", "approve", "e1", "--same-as", "ann", "--owner", "bob"], false);
        check(&["requests", "deny", "e1"], false);
        check(&["requests", "deny", "e1", "e2", "--reason", "r"], true);
        check(&["requests", "deny", "--from", "192.0.2.0/24", "--reason", "r"], true);
        check(&["requests", "deny", "--reason", "r"], false);
        check(&["requests", "watch"], true);
        check(&["requests", "wait", "e1", "--timeout", "10min"], true);
        check(&["requests", "wait", "e1", "--timeout", "soon"], false);
        check(&["machines", "wait", "m", "--online", "--timeout", "10min"], true);
        check(&["machines", "wait", "m"], false);
        check(&["audit", "--follow", "--event", "lock"], true);
        check(&["machines", "list", "rack7-*", "--state", "active", "--label", "env=lab", "--online"], true);
        check(&["machines", "list", "--online", "--offline"], false);
        check(&["machines", "show", "a", "b"], true);
        check(&["machines", "lock", "m"], false);
        check(&["machines", "lock", "m", "--reason", "stolen"], true);
        check(&["machines", "renew", "a", "b", "--reason", "new CA"], true);
        check(&["machines", "renew", "--all"], true);
        check(&["machines", "renew"], false);
        check(&["machines", "renew", "a", "--all"], false);
        check(&["locks", "add", "key", "ab", "--reason", "r"], true);
        check(&["locks", "add", "house", "ab", "--reason", "r"], false);
        check(&["tokens", "create", "--ttl", "10m", "--label", "a=b"], true);
        check(&["tokens", "create", "--ttl", "0s"], false);
        check(&["people", "invite", "--name", "bob", "--group", "admins", "--ttl", "1h"], true);
        check(&["people", "offboard", "bob"], false);
        check(&["people", "offboard", "bob", "--to", "carol"], true);
        check(&["people", "set", "bob", "--group", "staff", "--no-group", "admins"], true);
        check(&["machines", "set", "m", "--label", "env=lab", "--no-label", "tier", "--owner", "bob"], true);
        check(&["machines", "set", "m", "--owner", "bob", "--no-owner"], false);
        check(&["can-i", "administer", "--explain"], true);
        check(&["inventory", "--list"], true);
        check(&["inventory", "--host", "m"], true);
        check(&["inventory", "--state", "locked", "--state", "active", "--list"], true);
        check(&["inventory", "--list", "--state", "asleep"], false);
        check(&["inventory"], true);
        check(&["inventory", "--list", "--host", "m"], false);
        check(&["ssh-cert", "user"], true);
        check(&["ssh-cert", "user", "--key", "k.pub", "--out", "c", "--if-needed"], true);
        check(&["ssh-cert", "user", "--agent", "--out", "c"], false);
        check(&["ssh-cert", "host", "--host-key", "k", "--reload", "systemctl reload ssh"], true);
        check(&["ssh-cert", "host", "--forget", "--reload", "true"], false);
        check(&["ssh-cert", "known-hosts", "--also", "*.lab"], true);
        check(&["ssh-cert", "known-hosts", "--also", "a b"], false);
        check(&["ssh-cert", "trusted-user-ca"], true);
        check(&["completions", "zsh"], true);
        check(&[], false);
    }

    #[test]
    fn what_the_machine_proves_itself_with() {
        check(&["join", "--attest", "tpm,ssh-host-key", "--key", "tpm"], true);
        check(&["join", "--attest", "tpm,none"], false);
        check(&["join", "--attest", ""], false);
        check(&["join", "--key", "auto"], true);
        check(&["join", "--key", "cloud"], false);
        check(&["tpm", "info"], true);
        check(&["tpm", "fetch"], true);
        check(&["tpm", "fetch", "--maker", "amd", "--from", "https://mirror.example/aia"], true);
        check(&["tpm", "fetch", "--maker", "ifx"], false);
        check(&["tpm", "fetch", "--file", "a.crt", "--file", "b.crt"], true);
        check(&["tpm", "fetch", "--file", "a.crt", "--maker", "amd"], false);
        check(&["tpm"], false);
    }

    #[test]
    fn moments() {
        let now = UnixTime::new(10_000);
        for (text, want) in [("77", 77), ("2h", 2_800), ("1970-01-01T00:01:00Z", 60), ("1970-01-02 00:00:00", 86_400)] {
            assert_eq!(parse_moment(text, now), Ok(UnixTime::new(want)), "{text}");
        }
        assert!(parse_moment("yesterday", now).is_err());
    }

    #[test]
    fn help_lists_every_exit_code() {
        let mut left = vec![command()];
        while let Some(mut command) = left.pop() {
            let help = command.render_long_help().to_string();
            for code in 0..=10 {
                assert!(help.contains(&format!("\n  {code:>2}  ")), "{} {code}", command.get_name());
            }
            left.extend(command.get_subcommands().filter(|inner| inner.get_name() != "help").cloned());
        }
    }
}
