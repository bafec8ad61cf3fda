//! The command line of what people do for others: requests, machines, people, locks, tokens.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{MachineState, parse_pair, parse_ttl};

/// `requests`.
#[derive(Debug, Subcommand)]
pub enum RequestsCommand {
    /// List who waits
    List {
        /// Also those that were decided or lapsed
        #[arg(long)]
        all: bool,
    },
    /// Show what was verified about a request and what it claims
    Show {
        /// The request
        id: String,
    },
    /// Approve a request; on a terminal without one, pick it from those that wait
    #[command(after_help = super::examples::APPROVE)]
    Approve(ApproveArgs),
    /// Wait until a request is decided: exits with 0 when it was approved, 3 when not, 4 when the time is over before
    #[command(after_help = super::examples::REQUESTS_WAIT)]
    Wait {
        /// The request
        id: String,
        /// How long at most, such as 10min; for ever when not given
        #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
        timeout: Option<Duration>,
    },
    /// Print who comes and who is decided, until interrupted
    Watch,
    /// Refuse requests
    Deny {
        /// The requests
        #[arg(required_unless_present = "from", value_name = "ID")]
        ids: Vec<String>,
        /// All that wait and came from this network, as `requests list` shows it
        #[arg(long, value_name = "PREFIX", conflicts_with = "ids")]
        from: Option<String>,
        /// Why; their owners will read it
        #[arg(long)]
        reason: String,
    },
    /// Take a denial back: the request waits again, with the same key and code
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
    /// Say that you did not check the code
    #[arg(long)]
    pub unchecked: bool,
    /// Give it another name than it asked for
    #[arg(long)]
    pub name: Option<String>,
    /// A label to put on it; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub labels: Vec<(String, String)>,
    /// The person who owns it
    #[arg(long)]
    pub owner: Option<String>,
    /// Give it what this person gave it by approving it: name, labels and owner, as `requests show` says
    #[arg(long, value_name = "PERSON", conflicts_with_all = ["name", "labels", "owner"])]
    pub same_as: Option<String>,
}

/// `machines`.
#[derive(Debug, Subcommand)]
pub enum MachinesCommand {
    /// List them
    List(MachineListArgs),
    /// Show some
    Show {
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Refuse some from now on, open connections included
    Lock {
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Why
        #[arg(long)]
        reason: String,
    },
    /// Lift the locks of the machine and its lineage
    Unlock {
        /// Its name
        name: String,
    },
    /// Ask machines to renew now; `lychgate run` does so at once by its tunnel, or when it next asks, within the hour
    Renew {
        /// Their names
        #[arg(required_unless_present = "all", value_name = "NAME")]
        names: Vec<String>,
        /// All machines
        #[arg(long, conflicts_with = "names")]
        all: bool,
        /// Why, for the audit
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Correct its labels, its owner or its name
    Set(MachineSetArgs),
    /// Wait until a machine can be reached: exits with 0 then, with 5 when the time is over before
    #[command(after_help = super::examples::MACHINES_WAIT)]
    Wait {
        /// Its name
        name: String,
        /// Until it holds its tunnel
        #[arg(long, required = true)]
        online: bool,
        /// How long at most, such as 10min; for ever when not given
        #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
        timeout: Option<Duration>,
    },
    /// Forget it; its name is free again
    Remove {
        /// Its name
        name: String,
    },
}

/// `machines list`.
#[derive(Debug, Args)]
pub struct MachineListArgs {
    /// Those whose names match, such as 'rack7-*'; all when not given
    #[arg(value_name = "PATTERN")]
    pub names: Vec<String>,
    /// Those in this state
    #[arg(long, value_name = "STATE")]
    pub state: Option<MachineState>,
    /// Those with this label, or with any value of it
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub label: Option<String>,
    /// Those of this person
    #[arg(long, value_name = "PERSON")]
    pub owner: Option<String>,
    /// Those that can be reached
    #[arg(long)]
    pub online: bool,
    /// Those that cannot be reached
    #[arg(long, conflicts_with = "online")]
    pub offline: bool,
}

/// `machines set`.
#[derive(Debug, Args)]
pub struct MachineSetArgs {
    /// Its name
    pub machine: String,
    /// A label to put on it, in the place of the one with that key; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub labels: Vec<(String, String)>,
    /// A label to take away; may be repeated
    #[arg(long = "no-label", value_name = "KEY")]
    pub no_labels: Vec<String>,
    /// The person who owns it from now on
    #[arg(long, conflicts_with = "no_owner")]
    pub owner: Option<String>,
    /// Nobody owns it from now on
    #[arg(long)]
    pub no_owner: bool,
    /// The name it takes when it next renews; it is asked to do so now
    #[arg(long)]
    pub name: Option<String>,
}

/// `people set`.
#[derive(Debug, Args)]
pub struct PersonSetArgs {
    /// Their name
    pub person: String,
    /// A group to put them in; may be repeated
    #[arg(long = "group", value_name = "GROUP")]
    pub groups: Vec<String>,
    /// A group to take them out of; may be repeated
    #[arg(long = "no-group", value_name = "GROUP")]
    pub no_groups: Vec<String>,
}

/// `people`.
#[derive(Debug, Subcommand)]
pub enum PeopleCommand {
    /// Make a token with which a person can join
    #[command(after_help = super::examples::INVITE)]
    Invite {
        /// The name they will have
        #[arg(long)]
        name: Option<String>,
        /// A group they will be in; may be repeated
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
        /// How long the token lives, such as 30min, 1h, 2d: from a second to 90 days; an hour when not given
        #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
        ttl: Option<Duration>,
    },
    /// List them
    List,
    /// Show one
    Show {
        /// Their name
        name: String,
    },
    /// Correct the groups of one
    Set(PersonSetArgs),
    /// Hand the machines of one to somebody else, then forget them
    Offboard {
        /// Their name
        name: String,
        /// Who gets their machines
        #[arg(long, value_name = "PERSON")]
        to: String,
    },
    /// Lock a person: refuse them from now on
    Lock {
        /// Their name
        name: String,
        /// Why
        #[arg(long)]
        reason: String,
    },
    /// Lift the locks of a person
    Unlock {
        /// Their name
        name: String,
    },
    /// Forget one
    Remove {
        /// Their name
        name: String,
    },
}

/// `locks`.
#[derive(Debug, Subcommand)]
pub enum LocksCommand {
    /// List them
    List,
    /// Set a lock
    Add {
        /// machine, person, lineage or key
        kind: LockKind,
        /// A name, a lineage's id or a key's SHA-256
        target: String,
        /// Why
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

/// `tokens`.
#[derive(Debug, Subcommand)]
pub enum TokensCommand {
    /// Make a join token; it is shown once
    #[command(after_help = super::examples::TOKENS_CREATE)]
    Create(TokenArgs),
    /// List them
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
    /// A name it is good for, `*` at the end stands for any rest; may be repeated
    #[arg(long = "name", value_name = "NAME")]
    pub names: Vec<String>,
    /// How many machines may use it; one when not given
    #[arg(long, value_name = "NUMBER")]
    pub uses: Option<u32>,
    /// How long it lives, such as 30min, 1h, 2d: from a second to 90 days; an hour when not given
    #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
    pub ttl: Option<Duration>,
    /// A label the machine gets; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub labels: Vec<(String, String)>,
    /// The person who will own the machine
    #[arg(long)]
    pub owner: Option<String>,
    /// SHA-256 of the one public key that may use it
    #[arg(long, value_name = "HEX")]
    pub key: Option<String>,
}
