//! Policy sessions.

use super::key::skip_ticket;
use super::{Authorization, Command, Draft, Gives, NO_HANDLE};
use crate::algorithm::{self, HashAlgorithm};
use crate::codec::{CodecError, Writer};

/// TPM_SE_POLICY.
const POLICY: u8 = 1;
/// Longest nonce and longest digest, in bytes: of SHA-512.
const NONCE_MAX: usize = 64;

/// Starts a policy session without salt, and gives its handle (part 3, 11.1). The hash is that of the name of the key which the
/// session is for; `nonce` has 16 bytes or more, which need not be secret, as no HMAC is made.
pub fn start_policy_session(hash: HashAlgorithm, nonce: &[u8; 16]) -> Result<Command<u32>, CodecError> {
    let mut parameters = Writer::default();
    parameters.sized("nonceCaller", nonce)?.u16(0).bytes(&[POLICY]).u16(algorithm::NULL).u16(hash.id());
    let draft = Draft {
        name: "TPM2_StartAuthSession",
        code: 0x176,
        handles: &[NO_HANDLE, NO_HANDLE],
        authorizations: &[],
        parameters: parameters.finish(),
        gives: Gives::Handle,
    };
    draft.command(|handle, reader| {
        reader.sized("nonceTPM", NONCE_MAX)?;
        Ok(handle)
    })
}

/// Tells the session that the password of a hierarchy, which is empty, is known (part 3, 23.4).
pub fn policy_secret(hierarchy: u32, session: u32) -> Result<Command<()>, CodecError> {
    let mut parameters = Writer::default();
    // Neither nonceTPM, cpHashA nor policyRef, and no expiration.
    parameters.u16(0).u16(0).u16(0).u32(0);
    let draft = Draft {
        name: "TPM2_PolicySecret",
        code: 0x151,
        handles: &[hierarchy, session],
        authorizations: &[Authorization::EmptyPassword],
        parameters: parameters.finish(),
        gives: Gives::NoHandle,
    };
    draft.command(|_, reader| {
        reader.sized("timeout", NONCE_MAX)?;
        skip_ticket(reader)
    })
}
