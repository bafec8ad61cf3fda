//! Pure X.509 for Lychgate: names, requests, profiles, issuing, verification, revocation lists; and SSH certificates.
//!
//! Nothing here has a clock, a disk, a socket or a runtime; time and entropy are arguments (the one exception is
//! [`SoftwareKey::generate`], where the crypto library draws the key itself). The modules in reading order:
//!
//! - [`time`], [`name`], [`key`], [`serial`]: basic types;
//! - [`csr`]: bytes to a public key with proof of possession;
//! - [`profile`], [`mod@draft`], [`lint`]: the certificate profile of each role, and the rules a leaf must obey before signing;
//! - [`ca`]: the root and the three issuing CAs;
//! - [`cert`], [`anchor`], [`chain`], [`verify`], [`foreign`]: a peer's certificates to a [`Peer`], or to a [`ForeignPeer`];
//! - [`ek`], [`foreign_ca`]: certificates of TPMs' endorsement keys, and of their makers' CAs;
//! - [`path`]: certification paths to anchors that are none of ours;
//! - [`cms`]: messages that others signed;
//! - [`vouch`]: statements and cross certificates;
//! - [`ssh`]: OpenSSH certificates for machines and people;
//! - [`mod@crl`], [`mod@schedule`], [`pem`], [`code`], [`mod@shown`]: revocation lists, renewal times, PEM, the waiting code, and texts of
//!   strangers.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod anchor;
pub mod ca;
pub mod cert;
pub mod chain;
pub mod cms;
pub mod code;
pub mod crl;
pub mod csr;
mod der;
pub mod draft;
pub mod ek;
pub mod foreign;
pub mod foreign_ca;
pub mod key;
pub mod lint;
pub mod misread;
pub mod name;
mod oid;
mod parsed;
pub mod path;
pub mod pem;
pub mod profile;
pub mod schedule;
pub mod serial;
pub mod shown;
mod signature;
pub mod ssh;
#[cfg(test)]
mod testing;
pub mod time;
pub mod verify;
pub mod vouch;

pub use anchor::{AnchorError, AnchorSet, TrustAnchors, find_pinned_root, root_domain, root_pin};
pub use ca::{CaError, CaInfo, ISSUING_CA_LIFETIME, IssuingCa, Root, ca_info, check_issuing, check_renewed};
pub use cert::{CERT_MAX, CertFault};
pub use chain::{CHAIN_MAX, ChainError, Eku, SENT_MAX, VerifiedChain, names_host, verify_chain};
pub use cms::{CmsError, PinnedCertificates, PinnedError, SIGNED_MESSAGE_MAX, SignedMessage};
pub use code::{WaitingCode, waiting_code};
pub use crl::{BadList, BadListsUrl, ListInfo, ListsUrl, RevocationReason, RevokedEntry, crl, read_crl, root_crl};
pub use csr::{CSR_MAX, CsrError, RequestBinding, RequestError, VerifiedCsr};
pub use draft::{Draft, IssueError, Issued, LeafRequest, Linted, draft};
pub use ek::{
    EK_CERTIFICATES_MAX, EkAnchorError, EkAnchorFault, EkAnchorText, EkAnchors, EkCertificate, EkChain, EkDevice,
    EkError, verify_ek,
};
pub use foreign::{ForeignPeer, verify_foreign};
pub use foreign_ca::{ForeignCa, ForeignCaError};
pub use key::{
    BadSignature, CaKey, KeyAlgorithm, KeyDigest, KeyError, KeyParts, KeyPlace, SignError, SoftwareKey, SubjectKey,
    jws_of_p256,
};
pub use lint::LintError;
pub use misread::misread;
pub use name::{BadName, GatewayName, Identity, Name, Role, TrustDomain};
pub use path::{
    CertificationPath, PATH_CERTIFICATES_MAX, PathAnchorError, PathAnchors, PathError, PathLeaf, RevocationError,
    RevocationList, RevocationListError, UnprovenLeaf, verify_path,
};
pub use pem::{PemError, parse_pem, parse_pem_each, to_pem};
pub use profile::{AdmittedBy, Assurance, AssuranceLevel, AssuranceOf, BACKDATE, OtherNames, Profile, UnknownWord};
pub use schedule::{Schedule, schedule};
pub use serial::{BadHex, Serial};
pub use shown::{is_deceptive, shown};
pub use ssh::{
    BadSshSignature, ForeignSshCertificate, ForeignSshError, SshCa, SshCertError, SshCertificate, SshDraft, SshError,
    SshIssued, SshKey, SshKeyError, SshKind,
};
pub use time::UnixTime;
pub use verify::{Peer, PeerError, verify_gateway, verify_peer, verify_peer_to_root, verify_sealed};
pub use vouch::{Order, VouchError, verify_cross, verify_statement};
