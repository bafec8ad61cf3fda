//! The store's own rows, which are the format version and the totals, and the check of all rows when it is opened.
//!
//! `meta/format` is plain text, so that any future version can read it even if everything else changes. A store of a newer
//! format is refused and not changed. An older one would be migrated here, one step per version, inside one group.
//!
//! `meta/commits` holds the number of commits, the number of rows and a sum over all rows, written in the same atomic step as
//! every group. Opening counts again. This is not only for bit rot: sled silently skips whatever follows a damaged
//! message in a segment, so without the totals a damaged store would open with records missing or old. A store that went back
//! to an earlier complete state agrees with its own totals; the mark in `folder` detects that.
//!
//! A record whose checksum is wrong does not prevent the use of the others: it is counted, listed and returned as damaged, and its
//! reader decides what to do. While there is one, the number of records must still agree. The sum agrees too, unless the damage is in a
//! record's header; only in that case an old record in place of a newer one goes unnoticed.

use super::{
    batch::{Key, Version},
    engine::{Checked, DiskEngine, Past, RowChange, Totals, View, Writes, caller_key, guarded, row_key},
    named::OpenError,
    record,
    scan::{Direction, Span},
    transfer::IMPORT_MARK,
};

/// The format this build writes.
pub(super) const FORMAT: u32 = 1;

/// A store with more damaged records than this does not open.
const DAMAGED_MAX: usize = 100;

const FORMAT_KEY: &[u8] = b"meta/format";

/// Engine key of the totals.
pub(super) const TOTALS: &[u8] = b"meta/commits";

/// The totals as a record, so that they carry a checksum.
pub(super) fn encode_totals(totals: Totals) -> Vec<u8> {
    let mut payload = totals.rows.to_be_bytes().to_vec();
    payload.extend_from_slice(&totals.sum.to_be_bytes());
    record::encode(TOTALS, totals.commits, false, &payload).1
}

fn decode_totals(bytes: &[u8]) -> Result<Totals, String> {
    let (head, payload) = record::decode(TOTALS, bytes).map_err(|bad| bad.to_string())?;
    let parsed = payload.split_first_chunk().and_then(|(rows, rest)| Some((rows, rest.first_chunk()?)));
    let (rows, sum) = parsed.ok_or("it is too short")?;
    Ok(Totals { commits: head.version, rows: u64::from_be_bytes(*rows), sum: u64::from_be_bytes(*sum) })
}

/// Prepares a new store, or checks an old one from end to end.
pub(super) fn check<E: DiskEngine>(engine: &E, past: Past) -> Result<Checked, OpenError> {
    guarded(|| {
        let view = engine.view()?;
        let Some(format) = view.get(FORMAT_KEY)? else {
            return first_opening(engine, &view, past).map(Checked::from);
        };
        known_format(format.as_ref())?;
        let stored = match view.get(TOTALS)? {
            Some(bytes) => decode_totals(bytes.as_ref()).map_err(|why| damaged(format!("its totals: {why}")))?,
            None => return Err(damaged("its totals are missing".to_owned())),
        };
        let counted = count(&view, stored.commits)?;
        let explained = !counted.damaged.is_empty() && counted.totals.rows == stored.rows;
        if counted.totals != stored && !explained {
            return Err(damaged(format!(
                "it should hold {} records and holds {}, or an old one among them",
                stored.rows, counted.totals.rows
            )));
        }
        match past {
            Past::AtLeast(commits) if stored.commits < commits => {
                Err(damaged(format!("it ends at commit {}, but had reached {commits}", stored.commits)))
            }
            Past::AtLeast(_) | Past::New if view.get(&row_key(IMPORT_MARK.as_bytes()))?.is_some() => {
                Err(OpenError::HalfImported)
            }
            Past::AtLeast(_) | Past::New => Ok(counted),
        }
    })
}

fn damaged(reason: String) -> OpenError {
    OpenError::Damaged { reason }
}

fn first_opening<E: DiskEngine>(engine: &E, view: &E::View, past: Past) -> Result<Totals, OpenError> {
    let everything = Span { from: Vec::new(), to: None };
    let foreign = view.rows(&everything, Direction::Ascending)?.next().transpose()?.is_some();
    match past {
        Past::New if !foreign => {
            let totals = Totals::default();
            let mut writes = Writes::new();
            writes.insert(FORMAT_KEY.to_vec(), RowChange::put(FORMAT.to_string().into_bytes()));
            writes.insert(TOTALS.to_vec(), RowChange::put(encode_totals(totals)));
            engine.apply(&writes)?;
            engine.sync()?;
            Ok(totals)
        }
        Past::New | Past::AtLeast(_) => Err(damaged("its format version is missing".to_owned())),
    }
}

fn known_format(stored: &[u8]) -> Result<(), OpenError> {
    let text = String::from_utf8_lossy(stored);
    match text.parse::<u32>() {
        Ok(FORMAT) => Ok(()),
        Ok(found) if found > FORMAT => Err(OpenError::Newer { found, known: FORMAT }),
        // format 1 is the first, so there is nothing to migrate from
        Ok(_) | Err(_) => Err(damaged(format!("its format version reads `{}`", text.escape_debug()))),
    }
}

fn count<V: View>(view: &V, commits: Version) -> Result<Checked, OpenError> {
    let mut checked = Checked::from(Totals { commits, ..Totals::default() });
    for row in view.rows(&Span::of(&row_key(b"")), Direction::Ascending)? {
        let (row, raw) = row?;
        let key = caller_key(row.as_ref());
        let value = view.assemble(raw)?;
        let head = record::head(value.as_ref());
        checked.totals.add(head);
        if head.leased {
            checked.leased.push(Key::from(key));
        }
        if record::decode(key, value.as_ref()).is_err() {
            checked.damaged.push(Key::from(key));
            if checked.damaged.len() > DAMAGED_MAX {
                return Err(damaged(format!("more than {DAMAGED_MAX} records are, {:?} among them", Key::from(key))));
            }
        }
    }
    Ok(checked)
}
