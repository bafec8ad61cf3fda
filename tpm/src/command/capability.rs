//! What a TPM has (TPM2_GetCapability; part 3, 30.2).

use super::{Command, Draft, Gives};
use crate::codec::{CodecError, Reader, Writer};
use crate::pcr::Selection;

/// TPM_CAP_HANDLES.
const HANDLES: u32 = 1;
/// TPM_CAP_PCRS.
const PCRS: u32 = 5;
/// TPM_CAP_TPM_PROPERTIES.
const PROPERTIES: u32 = 6;

/// Most handles or properties in one response; TPMs give fewer at a time (part 2, MAX_CAP_HANDLES).
const LIST_MAX: u32 = 254;

/// Handles, and whether there are more after the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handles {
    /// In ascending order.
    pub handles: Vec<u32>,
    /// Whether there are more.
    pub more: bool,
}

/// A property of the TPM (TPM_PT) with its value.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// Which.
    pub tag: u32,
    /// Its value.
    pub value: u32,
}

impl Property {
    /// TPM_PT_MANUFACTURER: four letters.
    pub const MANUFACTURER: u32 = 0x105;
    /// TPM_PT_VENDOR_STRING_1, the first of four: four letters each.
    pub const VENDOR_STRING: u32 = 0x106;
    /// TPM_PT_FIRMWARE_VERSION_1: the upper half.
    pub const FIRMWARE_VERSION_1: u32 = 0x10b;
    /// TPM_PT_FIRMWARE_VERSION_2: the lower half.
    pub const FIRMWARE_VERSION_2: u32 = 0x10c;
}

fn get<T>(
    capability: u32,
    from: u32,
    count: u32,
    read: fn(u32, &mut Reader<'_>) -> Result<T, CodecError>,
) -> Result<Command<T>, CodecError> {
    let mut parameters = Writer::default();
    parameters.u32(capability).u32(from).u32(count);
    let parameters = parameters.finish();
    let (name, code) = ("TPM2_GetCapability", 0x17a);
    Draft { name, code, handles: &[], authorizations: &[], parameters, gives: Gives::NoHandle }.command(read)
}

/// The handles that are in use from this one on, of its kind.
pub fn get_handles(from: u32) -> Result<Command<Handles>, CodecError> {
    get(HANDLES, from, LIST_MAX, |_, reader| {
        let more = begin(reader, HANDLES)?;
        let handles = (0..count(reader)?).map(|_| reader.u32("handle")).collect::<Result<_, _>>()?;
        Ok(Handles { handles, more })
    })
}

/// The banks of PCRs, each with the PCRs that are in it; a bank that is off has none.
pub fn get_pcr_banks() -> Result<Command<Vec<Selection>>, CodecError> {
    get(PCRS, 0, 1, |_, reader| {
        begin(reader, PCRS)?;
        Selection::read_list(reader)
    })
}

/// So many properties from this one on.
pub fn get_properties(from: u32, count: u32) -> Result<Command<Vec<Property>>, CodecError> {
    get(PROPERTIES, from, count, |_, reader| {
        begin(reader, PROPERTIES)?;
        let count = self::count(reader)?;
        (0..count).map(|_| Ok(Property { tag: reader.u32("property")?, value: reader.u32("value")? })).collect()
    })
}

/// Whether there is more, and that it is of this capability.
fn begin(reader: &mut Reader<'_>, capability: u32) -> Result<bool, CodecError> {
    let more = reader.u8("moreData")?;
    if reader.u32("capability")? != capability || more > 1 {
        return Err(CodecError::Value { field: "capability" });
    }
    Ok(more == 1)
}

fn count(reader: &mut Reader<'_>) -> Result<u32, CodecError> {
    let count = reader.u32("count")?;
    if count > LIST_MAX {
        return Err(CodecError::Unsupported { field: "count", found: count });
    }
    Ok(count)
}
