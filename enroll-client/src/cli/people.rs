//! The command line of administration: requests, machines, people, locks, tokens, sessions.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{MachineState, parse_pair, parse_ttl};

/// `requests`.
#[derive(Debug, Subcommand)]
pub enum RequestsCommand {
    /// List waiting requests
    List {
        /// Include requests that were decided or lapsed
        #[arg(long)]
        all: bool,
    },
    /// Show what was verified about a request, and what it only claims
    Show {
        /// The request
        id: String,
    },
    /// Approve a request; on a terminal, without an id, choose from those that wait
    #[command(after_help = super::examples::APPROVE)]
    Approve(ApproveArgs),
    /// Wait until a request is decided: exits with 0 when approved, 3 when denied, 4 when the time runs out
    #[command(after_help = super::examples::REQUESTS_WAIT)]
    Wait {
        /// The request
        id: String,
        /// How long to wait, such as 10min; without a limit by default
        #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
        timeout: Option<Duration>,
    },
    /// Print new and decided requests as they happen, until interrupted
    Watch,
    /// Deny requests
    Deny {
        /// The requests
        #[arg(required_unless_present = "from", value_name = "ID")]
        ids: Vec<String>,
        /// All waiting requests from this network, as `requests list` shows it
        #[arg(long, value_name = "PREFIX", conflicts_with = "ids")]
        from: Option<String>,
        /// The reason; their owners will read it
        #[arg(long)]
        reason: String,
    },
    /// Take back a denial: the request waits again, with the same key and code
    Reopen {
        /// The request, as `requests list --all` shows it
        id: String,
    },
}

/// `requests approve`.
#[derive(Debug, Args)]
pub struct ApproveArgs {
    /// The request, or the beginning of it
    pub id: Option<String>,
    /// The waiting code as the machine's owner reads it to you
    #[arg(long, conflicts_with = "unchecked")]
    pub code: Option<String>,
    /// Approve without having checked the code
    #[arg(long)]
    pub unchecked: bool,
    /// Give it another name than it asked for
    #[arg(long)]
    pub name: Option<String>,
    /// A label for the machine; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub labels: Vec<(String, String)>,
    /// The person who owns the machine
    #[arg(long)]
    pub owner: Option<String>,
    /// Approve with the same name, labels and owner as this person did, as `requests show` lists them
    #[arg(long, value_name = "PERSON", conflicts_with_all = ["name", "labels", "owner"])]
    pub same_as: Option<String>,
}

/// `machines`.
#[derive(Debug, Subcommand)]
pub enum MachinesCommand {
    /// List all that you may see
    List(MachineListArgs),
    /// Show machines
    Show {
        /// The names of the machines
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Lock machines: refuse them from now on and end their connections
    Lock {
        /// The names of the machines
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// The reason
        #[arg(long)]
        reason: String,
    },
    /// Lift the locks of the machine and its lineage
    Unlock {
        /// The name of the machine
        name: String,
    },
    /// Ask machines to renew now: at once through an open tunnel, otherwise within the hour
    Renew {
        /// The names of the machines
        #[arg(required_unless_present = "all", value_name = "NAME")]
        names: Vec<String>,
        /// All machines
        #[arg(long, conflicts_with = "names")]
        all: bool,
        /// The reason, for the audit
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Change labels, owner or name of a machine
    Set(MachineSetArgs),
    /// Wait until a machine can be reached: exits with 0 then, with 5 when the time runs out
    #[command(after_help = super::examples::MACHINES_WAIT)]
    Wait {
        /// The name of the machine
        name: String,
        /// Wait for its tunnel
        #[arg(long, required = true)]
        online: bool,
        /// How long to wait, such as 10min; without a limit by default
        #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
        timeout: Option<Duration>,
    },
    /// Remove a machine; its name is free again
    Remove {
        /// The name of the machine
        name: String,
    },
}

/// `machines list`.
#[derive(Debug, Args)]
pub struct MachineListArgs {
    /// Only names that match, such as 'rack7-*'; all by default
    #[arg(value_name = "PATTERN")]
    pub names: Vec<String>,
    /// Only machines in this state
    #[arg(long, value_name = "STATE")]
    pub state: Option<MachineState>,
    /// Only machines with this label; without a value, with any value of it
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub label: Option<String>,
    /// Only machines of this owner
    #[arg(long, value_name = "PERSON")]
    pub owner: Option<String>,
    /// Only machines that can be reached
    #[arg(long)]
    pub online: bool,
    /// Only machines that cannot be reached
    #[arg(long, conflicts_with = "online")]
    pub offline: bool,
}

/// `machines set`.
#[derive(Debug, Args)]
pub struct MachineSetArgs {
    /// The name of the machine
    pub machine: String,
    /// A label to set, replacing the one with that key; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub labels: Vec<(String, String)>,
    /// A label to remove; may be repeated
    #[arg(long = "no-label", value_name = "KEY")]
    pub no_labels: Vec<String>,
    /// The new owner
    #[arg(long, conflicts_with = "no_owner")]
    pub owner: Option<String>,
    /// Remove the owner
    #[arg(long)]
    pub no_owner: bool,
    /// A new name, which the machine takes at its next renewal; it is asked to renew now
    #[arg(long)]
    pub name: Option<String>,
}

/// `people set`.
#[derive(Debug, Args)]
pub struct PersonSetArgs {
    /// The name of the person
    pub person: String,
    /// A group to add; may be repeated
    #[arg(long = "group", value_name = "GROUP")]
    pub groups: Vec<String>,
    /// A group to remove; may be repeated
    #[arg(long = "no-group", value_name = "GROUP")]
    pub no_groups: Vec<String>,
}

/// `people`.
#[derive(Debug, Subcommand)]
pub enum PeopleCommand {
    /// Create a token with which a person can join
    #[command(after_help = super::examples::INVITE)]
    Invite {
        /// The name of the person
        #[arg(long)]
        name: Option<String>,
        /// A group of the person; may be repeated
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
        /// How long the token is valid, such as 30min, 1h, 2d: from a second to 90 days; an hour by default
        #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
        ttl: Option<Duration>,
    },
    /// List all that you may see
    List,
    /// Show a person
    Show {
        /// The name of the person
        name: String,
    },
    /// Change the groups of a person
    Set(PersonSetArgs),
    /// Give the machines of a person to somebody else, then remove the person
    Offboard {
        /// The name of the person
        name: String,
        /// The new owner of their machines
        #[arg(long, value_name = "PERSON")]
        to: String,
    },
    /// Lock a person: refuse them from now on
    Lock {
        /// The name of the person
        name: String,
        /// The reason
        #[arg(long)]
        reason: String,
    },
    /// Lift the locks of a person
    Unlock {
        /// The name of the person
        name: String,
    },
    /// Remove a person; their name is free again
    Remove {
        /// The name of the person
        name: String,
    },
}

/// `locks`.
#[derive(Debug, Subcommand)]
pub enum LocksCommand {
    /// List all that you may see
    List,
    /// Set a lock
    Add {
        /// machine, person, lineage or key
        kind: LockKind,
        /// A name, a lineage's id or a key's SHA-256
        target: String,
        /// The reason
        #[arg(long)]
        reason: String,
    },
    /// Lift a lock
    Remove {
        /// machine, person, lineage or key
        kind: LockKind,
        /// A name, a lineage's id or a key's SHA-256
        target: String,
    },
}

/// What can be locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LockKind {
    /// A machine, by name
    Machine,
    /// A person, by name
    Person,
    /// The certificates descended from one enrollment
    Lineage,
    /// A public key
    Key,
}

impl LockKind {
    /// As the gateway writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Person => "person",
            Self::Lineage => "lineage",
            Self::Key => "key",
        }
    }
}

/// `sessions`.
#[derive(Debug, Subcommand)]
pub enum SessionsCommand {
    /// List those that are open
    List {
        /// Only those to this machine
        #[arg(long)]
        machine: Option<String>,
        /// Only those of this person
        #[arg(long)]
        person: Option<String>,
        /// Only those to this service
        #[arg(long)]
        service: Option<String>,
        /// Only those that this rule allowed
        #[arg(long)]
        rule: Option<String>,
    },
    /// Show a session that is open or recently ended
    Show {
        /// Its id
        id: String,
    },
    /// End a session
    Kill {
        /// Its id
        id: String,
    },
    /// Print sessions as they open and end
    Watch,
}

/// `tokens`.
#[derive(Debug, Subcommand)]
pub enum TokensCommand {
    /// Create a join token; it is shown once
    #[command(after_help = super::examples::TOKENS_CREATE)]
    Create(TokenArgs),
    /// List all that you may see
    List,
    /// Revoke a join token
    Revoke {
        /// Its id
        id: String,
    },
}

/// `tokens create`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// A name it is valid for; a `*` at the end matches any rest; may be repeated
    #[arg(long = "name", value_name = "NAME")]
    pub names: Vec<String>,
    /// How many machines may use it; one by default
    #[arg(long, value_name = "NUMBER")]
    pub uses: Option<u32>,
    /// How long it is valid, such as 30min, 1h, 2d: from a second to 90 days; an hour by default
    #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
    pub ttl: Option<Duration>,
    /// A label for the machine; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub labels: Vec<(String, String)>,
    /// The owner of the machine
    #[arg(long)]
    pub owner: Option<String>,
    /// SHA-256 of the only public key that may use it
    #[arg(long, value_name = "HEX")]
    pub key: Option<String>,
}
