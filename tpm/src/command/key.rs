//! Keys: made from a template, loaded, looked at, used and flushed.

use super::{Authorization, Command, Draft, Gives, NO_HANDLE, nothing};
use crate::algorithm::{self, HashAlgorithm};
use crate::attest::ATTEST_MAX;
use crate::codec::{self, CodecError, Reader, Writer};
use crate::credential::{ID_OBJECT_MAX, SECRET_MAX};
use crate::pcr::Selection;
use crate::public::PUBLIC_MAX;

/// Longest digest, name or nonce: an algorithm and a digest of SHA-512.
const DATA_MAX: usize = 66;
/// Longest TPMS_CREATION_DATA, in bytes: a selection of PCRs of every bank, a digest, two names.
const CREATION_MAX: usize = 512;
/// Longest private part of a key, in bytes: of RSA-4096 it has under 1300.
pub const PRIVATE_MAX: usize = 1536;
/// TPM_ST_HASHCHECK.
const HASH_CHECK: u16 = 0x8024;

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

/// A key that the TPM made below a parent, for whoever keeps it: the TPM itself does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Its TPMT_PUBLIC.
    pub public: Vec<u8>,
    /// Its private part, encrypted by the parent: the content of a TPM2B_PRIVATE.
    pub private: Vec<u8>,
}

/// Makes a key without a password below a loaded parent, whose password is empty (part 3, 12.1). Each one is another.
pub fn create(parent: u32, template: &[u8]) -> Result<Command<Created>, CodecError> {
    let mut parameters = Writer::default();
    // As in TPM2_CreatePrimary.
    parameters.u16(4).u16(0).u16(0);
    parameters.sized("template", template)?.u16(0).u32(0);
    let draft = Draft {
        name: "TPM2_Create",
        code: 0x153,
        handles: &[parent],
        authorizations: &[Authorization::EmptyPassword],
        parameters: parameters.finish(),
        gives: Gives::NoHandle,
    };
    draft.command(|_, reader| {
        let private = reader.sized("outPrivate", PRIVATE_MAX)?.to_vec();
        let public = reader.sized("outPublic", PUBLIC_MAX)?.to_vec();
        reader.sized("creationData", CREATION_MAX)?;
        reader.sized("creationHash", DATA_MAX)?;
        skip_ticket(reader)?;
        Ok(Created { public, private })
    })
}

/// Loads a key below its parent, which is loaded, and gives its handle (part 3, 12.2).
pub fn load(parent: u32, key: &Created) -> Result<Command<u32>, CodecError> {
    let mut parameters = Writer::default();
    parameters.sized("inPrivate", &key.private)?.sized("inPublic", &key.public)?;
    let draft = Draft {
        name: "TPM2_Load",
        code: 0x157,
        handles: &[parent],
        authorizations: &[Authorization::EmptyPassword],
        parameters: parameters.finish(),
        gives: Gives::Handle,
    };
    draft.command(|handle, reader| {
        reader.sized("name", DATA_MAX)?;
        Ok(handle)
    })
}

/// Signs a digest of SHA-256 with a key on P-256 that has no password and is not restricted (part 3, 20.2). It gives the TPMT_SIGNATURE.
pub fn sign_ecdsa(key: u32, digest: &[u8; 32]) -> Result<Command<Vec<u8>>, CodecError> {
    let mut parameters = Writer::default();
    parameters.sized("digest", digest)?.u16(algorithm::ECDSA).u16(HashAlgorithm::Sha256.id());
    // TPMT_TK_HASHCHECK: the TPM did not make the digest, and need not for such a key.
    parameters.u16(HASH_CHECK).u32(NO_HANDLE).u16(0);
    let draft = Draft {
        name: "TPM2_Sign",
        code: 0x15d,
        handles: &[key],
        authorizations: &[Authorization::EmptyPassword],
        parameters: parameters.finish(),
        gives: Gives::NoHandle,
    };
    draft.command(|_, reader| Ok(reader.bytes("signature", reader.rest().len())?.to_vec()))
}

/// Certifies with the AK, in its own scheme, that the TPM holds a key (part 3, 18.2). Neither has a password.
pub fn certify(key: u32, ak: u32, extra_data: &[u8]) -> Result<Command<Signed>, CodecError> {
    let mut parameters = Writer::default();
    parameters.sized("qualifyingData", extra_data)?.u16(algorithm::NULL);
    let draft = Draft {
        name: "TPM2_Certify",
        code: 0x148,
        handles: &[key, ak],
        authorizations: &[Authorization::EmptyPassword, Authorization::EmptyPassword],
        parameters: parameters.finish(),
        gives: Gives::NoHandle,
    };
    draft.command(|_, reader| read_signed(reader, "certifyInfo"))
}

fn read_signed(reader: &mut Reader<'_>, field: &'static str) -> Result<Signed, CodecError> {
    let attest = reader.sized(field, ATTEST_MAX)?.to_vec();
    Ok(Signed { attest, signature: reader.bytes("signature", reader.rest().len())?.to_vec() })
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
    draft.command(|_, reader| read_signed(reader, "quoted"))
}

/// Removes a key or a session from the TPM's memory (part 3, 28.4).
pub fn flush_context(handle: u32) -> Result<Command<()>, CodecError> {
    let (name, code) = ("TPM2_FlushContext", 0x165);
    // The handle is written as a parameter. Without sessions that is the same place.
    let draft =
        Draft { name, code, handles: &[handle], authorizations: &[], parameters: Vec::new(), gives: Gives::NoHandle };
    draft.command(nothing)
}
