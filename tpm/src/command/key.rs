//! Keys: made from a template, looked at, used and flushed.

use super::{Authorization, Command, Draft, Gives, nothing};
use crate::algorithm;
use crate::attest::ATTEST_MAX;
use crate::codec::{self, CodecError, Reader, Writer};
use crate::credential::{ID_OBJECT_MAX, SECRET_MAX};
use crate::pcr::Selection;
use crate::public::PUBLIC_MAX;

/// Longest digest, name or nonce: an algorithm and a digest of SHA-512.
const DATA_MAX: usize = 66;
/// Longest TPMS_CREATION_DATA, in bytes: a selection of PCRs of every bank, a digest, two names.
const CREATION_MAX: usize = 512;

/// A key that the TPM holds in its memory until it is flushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Its handle.
    pub handle: u32,
    /// Its TPMT_PUBLIC.
    pub public: Vec<u8>,
}

/// Makes the primary key of a template in a hierarchy without a password (part 3, 24.1). The same template makes the same key.
pub fn create_primary(hierarchy: u32, template: &[u8]) -> Result<Command<Loaded>, CodecError> {
    let mut parameters = Writer::default();
    // TPM2B_SENSITIVE_CREATE: neither a password nor data.
    parameters.u16(4).u16(0).u16(0);
    // Neither outsideInfo nor a record of PCRs.
    parameters.sized("template", template)?.u16(0).u32(0);
    let draft = Draft {
        name: "TPM2_CreatePrimary",
        code: 0x131,
        handles: &[hierarchy],
        authorizations: &[Authorization::EmptyPassword],
        parameters: parameters.finish(),
        gives: Gives::Handle,
    };
    draft.command(|handle, reader| {
        let public = reader.sized("outPublic", PUBLIC_MAX)?.to_vec();
        reader.sized("creationData", CREATION_MAX)?;
        reader.sized("creationHash", DATA_MAX)?;
        skip_ticket(reader)?;
        reader.sized("name", DATA_MAX)?;
        Ok(Loaded { handle, public })
    })
}

/// TPMT_TK_CREATION and its like.
pub(super) fn skip_ticket(reader: &mut Reader<'_>) -> Result<(), CodecError> {
    reader.u16("ticket tag")?;
    reader.u32("ticket hierarchy")?;
    reader.sized("ticket digest", DATA_MAX).map(|_| ())
}

/// The TPMT_PUBLIC of a key (part 3, 12.4).
pub fn read_public(handle: u32) -> Result<Command<Vec<u8>>, CodecError> {
    let (name, code) = ("TPM2_ReadPublic", 0x173);
    let draft =
        Draft { name, code, handles: &[handle], authorizations: &[], parameters: Vec::new(), gives: Gives::NoHandle };
    draft.command(|_, reader| {
        let public = reader.sized("outPublic", PUBLIC_MAX)?.to_vec();
        reader.sized("name", DATA_MAX)?;
        reader.sized("qualifiedName", DATA_MAX)?;
        Ok(public)
    })
}

/// Opens a credential for the AK with the EK (part 3, 12.5). `id_object` is a TPM2B_ID_OBJECT, `encrypted_secret` a
/// TPM2B_ENCRYPTED_SECRET. It gives the secret.
pub fn activate_credential(
    ak: u32,
    ek: (u32, Authorization),
    id_object: &[u8],
    encrypted_secret: &[u8],
) -> Result<Command<Vec<u8>>, CodecError> {
    codec::unwrap_sized("credentialBlob", id_object, ID_OBJECT_MAX)?;
    codec::unwrap_sized("secret", encrypted_secret, SECRET_MAX)?;
    let draft = Draft {
        name: "TPM2_ActivateCredential",
        code: 0x147,
        handles: &[ak, ek.0],
        authorizations: &[Authorization::EmptyPassword, ek.1],
        parameters: [id_object, encrypted_secret].concat(),
        gives: Gives::NoHandle,
    };
    draft.command(|_, reader| Ok(reader.sized("certInfo", DATA_MAX)?.to_vec()))
}

/// What an AK signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The TPMS_ATTEST.
    pub attest: Vec<u8>,
    /// The TPMT_SIGNATURE.
    pub signature: Vec<u8>,
}

/// Quotes PCRs with the AK in its own scheme (part 3, 18.4).
pub fn quote(ak: u32, extra_data: &[u8], selection: Selection) -> Result<Command<Signed>, CodecError> {
    let mut parameters = Writer::default();
    parameters.sized("qualifyingData", extra_data)?.u16(algorithm::NULL);
    selection.write_list(&mut parameters);
    let draft = Draft {
        name: "TPM2_Quote",
        code: 0x158,
        handles: &[ak],
        authorizations: &[Authorization::EmptyPassword],
        parameters: parameters.finish(),
        gives: Gives::NoHandle,
    };
    draft.command(|_, reader| {
        let attest = reader.sized("quoted", ATTEST_MAX)?.to_vec();
        Ok(Signed { attest, signature: reader.bytes("signature", reader.rest().len())?.to_vec() })
    })
}

/// Removes a key or a session from the TPM's memory (part 3, 28.4).
pub fn flush_context(handle: u32) -> Result<Command<()>, CodecError> {
    let (name, code) = ("TPM2_FlushContext", 0x165);
    // The handle is written as a parameter. Without sessions that is the same place.
    let draft =
        Draft { name, code, handles: &[handle], authorizations: &[], parameters: Vec::new(), gives: Gives::NoHandle };
    draft.command(nothing)
}
