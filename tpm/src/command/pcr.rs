//! Values of PCRs.

use super::{Command, Draft, Gives};
use crate::codec::{CodecError, Writer};
use crate::pcr::{PcrValues, Selection};

/// Most digests in one response (part 2, 10.9.5).
const DIGESTS_MAX: u32 = 8;

/// Reads PCRs of one bank (part 3, 22.4). A TPM gives eight at most; of a bank that it does not have it gives none.
pub fn pcr_read(selection: Selection) -> Result<Command<PcrValues>, CodecError> {
    let mut parameters = Writer::default();
    selection.write_list(&mut parameters);
    let (name, code, parameters) = ("TPM2_PCR_Read", 0x17e, parameters.finish());
    let draft = Draft { name, code, handles: &[], authorizations: &[], parameters, gives: Gives::NoHandle };
    draft.command(|_, reader| {
        reader.u32("pcrUpdateCounter")?;
        let given = Selection::read_list(reader)?;
        let count = reader.u32("pcrValues count")?;
        let pcrs: Vec<u8> = given.iter().flat_map(|selection| selection.pcrs.iter()).collect();
        if count > DIGESTS_MAX || usize::try_from(count) != Ok(pcrs.len()) {
            return Err(CodecError::Unsupported { field: "pcrValues count", found: count });
        }
        pcrs.into_iter().map(|pcr| Ok((pcr, reader.sized("pcrValues", 64)?.to_vec()))).collect()
    })
}
