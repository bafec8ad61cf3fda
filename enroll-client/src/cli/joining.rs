//! `join`, and what it may prove the machine with.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{examples, parse_pair, parse_ttl};
use crate::core::attestation::{KeyPlace, KeyWish, Offer};
use crate::core::ek_server::Maker;

/// `join`.
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// A join token, or https://HOST[:PORT][#PIN]; `-` reads it from standard input; without one, an earlier request is continued
    #[arg(value_name = "TOKEN|URL")]
    pub target: Option<String>,
    /// SHA-256 of the public key of the gateway's root certificate
    #[arg(long, value_name = "HEX")]
    pub pin: Option<String>,
    /// The name to ask for
    #[arg(long)]
    pub name: Option<String>,
    /// Join as a person, by an invitation
    #[arg(long)]
    pub person: bool,
    /// Do not wait for an approver: exit with code 4 if one is needed
    #[arg(long)]
    pub no_wait: bool,
    /// How long to retry while the gateway does not answer, such as `10min`. By default a minute while it is too busy; a closed port is
    /// an error at once
    #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
    pub wait: Option<Duration>,
    /// An attribute of this machine to show to approvers; may be repeated
    #[arg(long = "attribute", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub attributes: Vec<(String, String)>,
    /// Which evidence of this machine itself to offer, with commas between: tpm, ssh-host-key and others that it has. `auto` offers
    /// what it has and the gateway accepts, and nothing beside a token; `none` offers nothing. It holds for renewals too. By default
    /// what was chosen before, at first `auto`
    #[arg(long, value_name = "KIND,...", value_parser = Offer::parse)]
    pub attest: Option<Offer>,
    /// Where the private keys of this machine are made, now and at each renewal: in a file, or in the TPM, which they cannot leave
    /// and where other programs cannot use them; `auto` is the TPM if it makes one. By default as before, at first in a file
    #[arg(long, value_name = "WHERE")]
    pub key: Option<KeyChoice>,
}

/// Where keys are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum KeyChoice {
    /// In a file
    File,
    /// In the TPM
    Tpm,
    /// In the TPM if it makes one, else in a file
    Auto,
}

impl KeyChoice {
    /// As the rest of the program has it.
    #[must_use]
    pub const fn wish(self) -> KeyWish {
        match self {
            Self::File => KeyWish::In(KeyPlace::File),
            Self::Tpm => KeyWish::In(KeyPlace::Tpm),
            Self::Auto => KeyWish::Auto,
        }
    }
}

/// `tpm`.
#[derive(Debug, Subcommand)]
pub enum TpmCommand {
    /// Show what this machine's TPM can prove: maker, firmware, certificates, banks, event log
    #[command(after_help = examples::TPM_INFO)]
    Info,
    /// Get the certificates that the maker keeps on a server (AMD, Intel), and store them in the folder. The server learns this
    /// machine's address and which TPM it has
    #[command(after_help = examples::TPM_FETCH)]
    Fetch(FetchArgs),
}

/// `tpm fetch`.
#[derive(Debug, Args)]
pub struct FetchArgs {
    /// The form in which to ask; by default that of the TPM's maker
    #[arg(long)]
    pub maker: Option<TpmMaker>,
    /// Where to ask instead of the maker's server, such as a mirror: an https URL to which the name of the key is appended
    #[arg(long, value_name = "URL")]
    pub from: Option<String>,
    /// A certificate that was got by other means, DER or PEM; nothing is asked for. May be repeated
    #[arg(long = "file", value_name = "FILE", conflicts_with_all = ["maker", "from"])]
    pub files: Vec<PathBuf>,
}

/// A maker that keeps certificates on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TpmMaker {
    /// ftpm.amd.com
    Amd,
    /// ekop.intel.com
    Intel,
}

impl TpmMaker {
    /// As the rest of the program has it.
    #[must_use]
    pub const fn maker(self) -> Maker {
        match self {
            Self::Amd => Maker::Amd,
            Self::Intel => Maker::Intel,
        }
    }
}
