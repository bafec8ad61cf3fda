//! The envelope around every stored value: `[format u8][version u64 BE][crc32 u32 BE][payload]`. Internal to the disk
//! engines; callers see the payload. The format byte also says whether the entry is leased.
//!
//! The checksum covers the key, the version and the payload, so a record stored under another key is detected as damage.

use super::batch::Version;

/// The first byte of a record without a lease. Any value but these two is damage.
const RECORD_FORMAT: u8 = 1;

/// The first byte of a leased record; the layout is the same.
const LEASED_FORMAT: u8 = 2;

/// Bytes before the payload.
pub(super) const HEADER: usize = 1 + 8 + 4;

/// Why bytes are not a valid record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadRecord {
    #[error("it has {0} bytes, fewer than a record's header")]
    Short(usize),
    #[error("its first byte is {0}, not {RECORD_FORMAT} or {LEASED_FORMAT}")]
    Format(u8),
    #[error("its checksum is {found:08x}, its header says {stored:08x}")]
    Checksum { stored: u32, found: u32 },
}

/// The header of a record: enough to compare versions and to keep the store's sum without touching the payload.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub version: Version,
    pub leased: bool,
    crc: u32,
}

impl Head {
    /// The record's summand in [`Totals::sum`](super::engine::Totals). Mixed with the finalizer of SplitMix64, so that equal
    /// changes to two records do not cancel out.
    pub(super) fn fingerprint(self) -> u64 {
        let mut x = (u64::from(self.crc) << 32) ^ self.version.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}

fn checksum(key: &[u8], version: Version, leased: bool, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    if leased {
        hasher.update(&[LEASED_FORMAT]);
    }
    hasher.update(&version.to_be_bytes());
    hasher.update(key);
    hasher.update(payload);
    hasher.finalize()
}

pub(super) fn encode(key: &[u8], version: Version, leased: bool, payload: &[u8]) -> (Head, Vec<u8>) {
    let head = Head { version, leased, crc: checksum(key, version, leased, payload) };
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.push(if leased { LEASED_FORMAT } else { RECORD_FORMAT });
    bytes.extend_from_slice(&version.to_be_bytes());
    bytes.extend_from_slice(&head.crc.to_be_bytes());
    bytes.extend_from_slice(payload);
    (head, bytes)
}

/// Reads the header; the checksum is not verified. An unreadable header is returned as all zeros, so that its record can be
/// replaced and deleted like any other.
pub(super) fn head(bytes: &[u8]) -> Head {
    split(bytes).map_or(Head { version: 0, leased: false, crc: 0 }, |(head, _)| head)
}

/// Reads a record and verifies its checksum.
pub(super) fn decode<'a>(key: &[u8], bytes: &'a [u8]) -> Result<(Head, &'a [u8]), BadRecord> {
    let (head, payload) = split(bytes)?;
    let found = checksum(key, head.version, head.leased, payload);
    if found != head.crc {
        return Err(BadRecord::Checksum { stored: head.crc, found });
    }
    Ok((head, payload))
}

fn split(bytes: &[u8]) -> Result<(Head, &[u8]), BadRecord> {
    let short = || BadRecord::Short(bytes.len());
    let (format, rest) = bytes.split_first().ok_or_else(short)?;
    let leased = match *format {
        RECORD_FORMAT => false,
        LEASED_FORMAT => true,
        other => return Err(BadRecord::Format(other)),
    };
    let (version, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let (crc, payload) = rest.split_first_chunk().ok_or_else(short)?;
    Ok((Head { version: Version::from_be_bytes(*version), leased, crc: u32::from_be_bytes(*crc) }, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(spoil: impl Fn(&mut Vec<u8>), key: &[u8], want: Result<&[u8], &str>) {
        let (_, mut bytes) = encode(b"machines/oslo", 7, false, b"payload");
        spoil(&mut bytes);
        let got = decode(key, &bytes).map(|(_, payload)| payload).map_err(|e| e.to_string());
        match (got, want) {
            (Ok(got), Ok(want)) => assert_eq!(got, want),
            (Err(got), Err(want)) => assert!(got.contains(want), "{got}"),
            (got, want) => panic!("got {got:?}, want {want:?}"),
        }
    }

    #[test]
    fn what_was_wrapped_is_unwrapped() {
        check(|_| (), b"machines/oslo", Ok(b"payload"));
    }

    #[test]
    fn damage_is_seen() {
        check(|_| (), b"machines/rome", Err("checksum"));
        check(|b| b[HEADER] ^= 1, b"machines/oslo", Err("checksum"));
        check(|b| b[3] ^= 1, b"machines/oslo", Err("checksum"));
        check(|b| b[HEADER - 1] ^= 1, b"machines/oslo", Err("checksum"));
        check(|b| b.truncate(HEADER + 3), b"machines/oslo", Err("checksum"));
        check(|b| b[0] = LEASED_FORMAT, b"machines/oslo", Err("checksum"));
        check(|b| b[0] = 9, b"machines/oslo", Err("first byte is 9"));
        check(|b| b.truncate(HEADER - 1), b"machines/oslo", Err("12 bytes"));
        check(Vec::clear, b"machines/oslo", Err("0 bytes"));
    }
}
