//! TPM 2.0 structures and arithmetic, as both ends of an attestation need them. No TPM is spoken to here.
//!
//! Nothing here has a clock, a disk, a socket or a runtime. Structures have the names of the TPM 2.0 Library
//! specification (part 2), which is also where their encoding stands. The modules in reading order:
//!
//! - [`algorithm`], [`codec`]: algorithms; bytes to values and back;
//! - [`public`]: public areas of keys, their names, and what makes a sound EK, AK and identity key;
//! - [`kdf`], [`credential`]: a secret that only one TPM can open;
//! - [`signature`], [`attest`], [`pcr`]: what an AK signed, and the values of PCRs that it vouches for;
//! - [`eventlog`]: what was measured during the boot, as far as those values bear it out;
//! - [`command`]: what a machine says to its own TPM, and what that answers;
//! - [`keyfile`]: a key of a TPM in a file;
//! - `soft`, a feature that only tests and load generators want: a TPM in software.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod algorithm;
pub mod attest;
pub mod codec;
pub mod command;
pub mod credential;
mod der;
pub mod eventlog;
pub mod kdf;
pub mod keyfile;
pub mod pcr;
pub mod public;
pub mod signature;
#[cfg(feature = "soft")]
pub mod soft;
#[cfg(test)]
mod testing;

pub use algorithm::{AesBits, Curve, HashAlgorithm};
pub use attest::{Attest, AttestError, Attested, ClockInfo, verify};
pub use codec::CodecError;
pub use credential::{Credential, CredentialError, make_credential};
pub use eventlog::{
    Authority, Boot, BootError, Budget, Event, EventKind, EventLog, LogError, ReplayError, Replayed, Section,
    SecureBoot, SecureBootError,
};
pub use keyfile::{KeyFile, KeyFileError};
pub use pcr::{Bank, PcrSet, PcrValues, Quote, QuoteError, QuotedPcrs, Selection};
pub use public::{
    Ak, Area, Attributes, Ek, IdentityKey, Name, Parameters, Public, PublicKey, RsaBits, Scheme, SpkiError, Symmetric,
    Unsound,
    template::{self, AkTemplate, Template},
};
pub use signature::{Signature, SignatureError};
