//! NV memory, where makers put certificates.

use super::{Authorization, Command, Draft, Gives};
use crate::codec::{CodecError, Reader, Writer};

/// Most bytes read at a time. Every TPM of a PC gives as many (PC Client Platform TPM Profile, NV_BUFFER_MAX).
pub const NV_CHUNK: u16 = 512;

/// Longest policy and longest name: an algorithm and a digest of SHA-512.
const DATA_MAX: usize = 66;

/// An index of NV memory (TPMS_NV_PUBLIC).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct NvPublic {
    /// Its handle.
    pub index: u32,
    /// What may be done with it (TPMA_NV).
    pub attributes: u32,
    /// Bytes in it.
    pub size: u16,
}

impl NvPublic {
    /// TPMA_NV_AUTHREAD: its own password allows reading.
    const AUTH_READ: u32 = 1 << 18;
    /// TPMA_NV_WRITTEN.
    const WRITTEN: u32 = 1 << 29;

    /// Whether it can be read with its own password, and has anything in it.
    #[must_use]
    pub const fn is_readable(&self) -> bool {
        self.attributes & Self::AUTH_READ != 0 && self.attributes & Self::WRITTEN != 0
    }
}

/// What is known of an index (part 3, 31.6).
pub fn nv_read_public(index: u32) -> Result<Command<NvPublic>, CodecError> {
    let (name, code) = ("TPM2_NV_ReadPublic", 0x169);
    let draft =
        Draft { name, code, handles: &[index], authorizations: &[], parameters: Vec::new(), gives: Gives::NoHandle };
    draft.command(|_, reader| {
        let mut public = Reader::new(reader.sized("nvPublic", 2 * DATA_MAX)?);
        reader.sized("nvName", DATA_MAX)?;
        let index = public.u32("nvIndex")?;
        public.u16("nameAlg")?;
        let attributes = public.u32("attributes")?;
        public.sized("authPolicy", DATA_MAX)?;
        let size = public.u16("dataSize")?;
        public.finish("nvPublic")?;
        Ok(NvPublic { index, attributes, size })
    })
}

/// Reads from an index whose own password is empty (part 3, 31.13); at most [`NV_CHUNK`] bytes.
pub fn nv_read(index: u32, offset: u16, size: u16) -> Result<Command<Vec<u8>>, CodecError> {
    let mut parameters = Writer::default();
    parameters.u16(size).u16(offset);
    let draft = Draft {
        name: "TPM2_NV_Read",
        code: 0x14e,
        handles: &[index, index],
        authorizations: &[Authorization::EmptyPassword],
        parameters: parameters.finish(),
        gives: Gives::NoHandle,
    };
    draft.command(|_, reader| Ok(reader.sized("data", NV_CHUNK.into())?.to_vec()))
}
