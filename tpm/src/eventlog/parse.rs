//! Bytes to a log. Numbers have the lowest byte first here.

use crate::codec::{CodecError, Reader};
use crate::pcr::{Bank, PCRS};

use super::{Budget, Event, EventKind, EventLog, LogError};

/// How a log with several banks begins (TCG_EfiSpecIDEvent). Every other one is in the old format.
const SPEC_ID_03: &[u8] = b"Spec ID Event03\0";

/// Most bytes in the digest of a bank that is not known.
const DIGEST_MAX: u16 = 64;

/// Bytes in a digest of SHA-1.
const SHA1_LEN: usize = 20;

/// A bank, and the bytes in its digests.
type BankSize = (Bank, usize);

impl<'a> EventLog<'a> {
    /// Reads a log in either format, to its last byte.
    pub fn parse(bytes: &'a [u8], budget: Budget) -> Result<Self, LogError> {
        if bytes.len() > budget.bytes {
            return Err(LogError::TooLong { found: bytes.len(), most: budget.bytes });
        }
        let mut reader = Reader::new(bytes);
        if reader.rest().is_empty() {
            return Err(LogError::Empty);
        }
        let failed = |event| move |why| LogError::Event { event, why };
        let first = read_sha1(&mut reader, budget).map_err(failed(0))?;
        let several = first.kind == EventKind::NO_ACTION && first.data.starts_with(SPEC_ID_03);
        let sizes = if several { read_banks(first.data, budget).map_err(failed(0))? } else { Vec::new() };
        let mut events = vec![first];
        while !reader.rest().is_empty() {
            if events.len() >= budget.events {
                return Err(LogError::TooManyEvents(budget.events));
            }
            let event = if several { read(&mut reader, &sizes, budget) } else { read_sha1(&mut reader, budget) };
            events.push(event.map_err(failed(events.len()))?);
        }
        let banks = if several { sizes.into_iter().map(|(bank, _)| bank).collect() } else { vec![Bank::Sha1] };
        Ok(Self { banks, events })
    }
}

/// An event of the old format (TCG_PCClientPCREvent). The first of the new format is one, too.
fn read_sha1<'a>(reader: &mut Reader<'a>, budget: Budget) -> Result<Event<'a>, CodecError> {
    let (pcr, kind) = read_head(reader)?;
    let digests = vec![(Bank::Sha1, reader.bytes("digest", SHA1_LEN)?)];
    let data = read_data(reader, budget.event_bytes)?;
    Ok(Event { pcr, kind, digests, data })
}

/// An event of the new format (TCG_PCR_EVENT2).
fn read<'a>(reader: &mut Reader<'a>, sizes: &[BankSize], budget: Budget) -> Result<Event<'a>, CodecError> {
    let (pcr, kind) = read_head(reader)?;
    let count = u32_le(reader, "digest count")?;
    if !usize::try_from(count).is_ok_and(|count| count <= sizes.len()) {
        return Err(CodecError::Unsupported { field: "digest count", found: count });
    }
    let mut digests: Vec<(Bank, &[u8])> = Vec::new();
    for _ in 0..count {
        let id = u16_le(reader, "digest algorithm")?;
        let bank = Bank::from_id(id);
        let size = sizes.iter().find(|(of, _)| *of == bank).map(|(_, size)| *size);
        let size = size.ok_or(CodecError::Unsupported { field: "digest algorithm", found: id.into() })?;
        // A second digest for the same bank would be one that nothing compares.
        if digests.iter().any(|(of, _)| *of == bank) {
            return Err(CodecError::Value { field: "digest algorithm" });
        }
        digests.push((bank, reader.bytes("digest", size)?));
    }
    let data = read_data(reader, budget.event_bytes)?;
    Ok(Event { pcr, kind, digests, data })
}

fn read_head(reader: &mut Reader<'_>) -> Result<(u32, EventKind), CodecError> {
    let pcr = u32_le(reader, "pcrIndex")?;
    let kind = EventKind(u32_le(reader, "eventType")?);
    if kind != EventKind::NO_ACTION && pcr >= u32::from(PCRS) {
        return Err(CodecError::Unsupported { field: "pcrIndex", found: pcr });
    }
    Ok((pcr, kind))
}

fn read_data<'a>(reader: &mut Reader<'a>, most: usize) -> Result<&'a [u8], CodecError> {
    let found = usize::try_from(u32_le(reader, "eventSize")?).unwrap_or(usize::MAX);
    if found > most {
        return Err(CodecError::TooLong { field: "event", found, most });
    }
    reader.bytes("event", found)
}

/// The banks of a log in the new format.
fn read_banks(data: &[u8], budget: Budget) -> Result<Vec<BankSize>, CodecError> {
    let mut reader = Reader::new(data);
    // Its name, the class of the platform, versions, and the size of a number on the platform.
    reader.bytes("specification", SPEC_ID_03.len() + 4 + 4)?;
    let count = u32_le(&mut reader, "numberOfAlgorithms")?;
    if count == 0 || !usize::try_from(count).is_ok_and(|count| count <= budget.digests) {
        return Err(CodecError::Unsupported { field: "numberOfAlgorithms", found: count });
    }
    let mut sizes: Vec<BankSize> = Vec::new();
    for _ in 0..count {
        let id = u16_le(&mut reader, "algorithmId")?;
        let bank = Bank::from_id(id);
        let size = u16_le(&mut reader, "digestSize")?;
        let right = bank.algorithm().is_none_or(|known| known.output_len() == usize::from(size));
        if !right || size > DIGEST_MAX || sizes.iter().any(|(of, _)| *of == bank) {
            return Err(CodecError::Value { field: "digestSize" });
        }
        sizes.push((bank, usize::from(size)));
    }
    let vendor = reader.u8("vendorInfoSize")?;
    reader.bytes("vendorInfo", vendor.into())?;
    reader.finish("specification")?;
    Ok(sizes)
}

fn u16_le(reader: &mut Reader<'_>, field: &'static str) -> Result<u16, CodecError> {
    reader.array(field).map(u16::from_le_bytes)
}

fn u32_le(reader: &mut Reader<'_>, field: &'static str) -> Result<u32, CodecError> {
    reader.array(field).map(u32::from_le_bytes)
}
