//! Variables of UEFI, as they are measured (UEFI_VARIABLE_DATA; PC Client Platform Firmware Profile, 10.4.2).

/// EFI_GLOBAL_VARIABLE, 8be4df61-93ca-11d2-aa0d-00e098032b8c, as it lies in memory.
const GLOBAL_VARIABLE: [u8; 16] =
    [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c];

/// EFI_IMAGE_SECURITY_DATABASE_GUID, d719b2cb-3d3a-4596-a3bc-dad00e67656f: db and dbx.
const IMAGE_SECURITY_DATABASE: [u8; 16] =
    [0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f];

/// SHIM_LOCK_GUID, 605dab50-e046-4300-abb6-3dd810dd8b23: what shim accepts beside db.
const SHIM_LOCK: [u8; 16] =
    [0x50, 0xab, 0x5d, 0x60, 0x46, 0xe0, 0x00, 0x43, 0xab, 0xb6, 0x3d, 0xd8, 0x10, 0xdd, 0x8b, 0x23];

/// Longest name that is read, in UTF-16 units. Those that are measured have under 20.
const NAME_MAX: u64 = 64;

/// Whose variable it is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Namespace {
    /// UEFI's own: SecureBoot, PK, KEK.
    Global,
    /// What images are verified by: db, dbx.
    ImageSecurity,
    /// Shim's.
    Shim,
    /// Another's.
    Other,
}

/// A variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variable<'a> {
    pub(super) namespace: Namespace,
    pub(super) name: String,
    pub(super) value: &'a [u8],
    /// What follows the value. Shim up to 15.4 measures some bytes too many.
    pub(super) rest: &'a [u8],
}

impl<'a> Variable<'a> {
    /// Reads one, if this is one.
    pub(super) fn read(data: &'a [u8]) -> Option<Self> {
        let (guid, rest) = data.split_first_chunk::<16>()?;
        let (name_len, rest) = rest.split_first_chunk()?;
        let (value_len, rest) = rest.split_first_chunk()?;
        let name_len = Some(u64::from_le_bytes(*name_len)).filter(|len| *len <= NAME_MAX)?;
        let (name, rest) = rest.split_at_checked(usize::try_from(name_len).ok()?.checked_mul(2)?)?;
        let (value, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*value_len)).ok()?)?;
        let units: Vec<u16> = name.as_chunks().0.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
        let namespace = match *guid {
            GLOBAL_VARIABLE => Namespace::Global,
            IMAGE_SECURITY_DATABASE => Namespace::ImageSecurity,
            SHIM_LOCK => Namespace::Shim,
            _ => Namespace::Other,
        };
        Some(Self { namespace, name: String::from_utf16(&units).ok()?, value, rest })
    }

    /// The value, if it is this variable and nothing follows it.
    pub(super) fn is(&self, namespace: Namespace, name: &str) -> Option<&'a [u8]> {
        (self.namespace == namespace && self.name == name && self.rest.is_empty()).then_some(self.value)
    }
}
