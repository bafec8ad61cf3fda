//! Export and import: all records as lines of JSON, and back into an empty store of any engine.
//!
//! ```text
//! {"lychgate_store_export":1,"exported_at":"2026-01-02T03:04:05Z"}
//! {"key":"machines/oslo","value":"..."}              a key or value that is not UTF-8 is given as "key_hex", "value_hex"
//! {"records":1,"sha256":"<of every byte before this line>"}
//! ```
//!
//! Records are in the order of their keys. A truncated file has no last line; an altered one has another hash.
//!
//! **Versions are not exported.** An import numbers its commits from 1, so every record gets a new version, and several may
//! share one. Nothing outside the store may keep a version beyond the request that read it; within the new store versions
//! only grow. An export contains every secret in the store: protect it like the store.

use std::io::{self, BufRead, Read, Seek, Write};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use super::{
    api::{CommitError, ReadError, SCAN_MAX, Store},
    batch::{self, Batch, KEY_MAX, Key, StoreLimits, VALUE_MAX},
};

/// The format this build writes.
const FORMAT: u32 = 1;

/// Present from the first commit of an import to the last. A store with this key does not open.
pub(super) const IMPORT_MARK: &str = "store/import-unfinished";

/// Longest line in bytes: a key and a value with every byte escaped as six characters, and the braces.
const LINE_MAX: usize = 6 * (VALUE_MAX + KEY_MAX) + 64;

/// Bytes in one commit of an import, if the engine's limit is higher: enough that syncing costs little.
const IMPORT_BYTES: usize = 256 * 1024;

/// Most damaged records listed in one error.
const REFUSED_NAMED: usize = 100;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExportHeader {
    lychgate_store_export: u32,
    exported_at: String,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ExportLine {
    Record(Record),
    End(Summary),
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
}

/// The last line of an export; also the result of an export or import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Number of records.
    pub records: u64,
    /// SHA-256 of everything before the last line, in hex.
    pub sha256: String,
}

/// Why an export failed. What was written so far has no last line and cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The number of the newest commit could not be read.
    #[error(transparent)]
    Store(#[from] CommitError),
    /// The store changed meanwhile, so the lines do not belong together.
    #[error("the store changed while it was exported; stop the gateway, or try again")]
    Changed,
    /// The file could not be written.
    #[error("the export could not be written: {0}")]
    Write(#[from] io::Error),
}

/// Why an import failed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The store has records already.
    #[error("the store is not empty; import into a new folder")]
    NotEmpty,
    /// The file was written by a newer version.
    #[error("the export has format {found}, this version knows formats up to {FORMAT}; use the newer version")]
    Newer {
        /// Format version of the file.
        found: u32,
    },
    /// The file ends before its last line.
    #[error("the export is cut short after line {after}; nothing was imported")]
    Truncated {
        /// Number of the last complete line, 0 if there is none.
        after: u64,
    },
    /// The last line does not agree with the lines before it.
    #[error("the export was altered: {why}")]
    Altered {
        /// What does not agree.
        why: String,
    },
    /// A line is not what an export writes.
    #[error("line {line} of the export: {why}")]
    Malformed {
        /// Counted from 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The caller refused records as not written by a gateway.
    #[error("the export has damaged records, nothing was imported:\n  {}", records.join("\n  "))]
    Damaged {
        /// Line, key and reason of each; at most 100.
        records: Vec<String>,
    },
    /// The file could not be read.
    #[error("the export could not be read: {0}")]
    Io(#[from] io::Error),
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store could not be written. It is incomplete and will not open: remove its folder.
    #[error("the import stopped half way, remove the store's folder and import again: {0}")]
    Store(#[from] CommitError),
}

/// Writes all records to `out`. `exported_at` goes into the header as it is. The caller makes `out` durable.
pub async fn export<W: Write + Send>(
    store: &dyn Store,
    exported_at: &str,
    out: &mut W,
) -> Result<Summary, ExportError> {
    let mut out = Hashed { inner: out, digest: digest::Context::new(&digest::SHA256) };
    let before = store.commit(Batch::default()).await?;
    out.line(&ExportHeader { lychgate_store_export: FORMAT, exported_at: exported_at.to_owned() })?;
    let everything = Key::from("");
    let mut last: Option<Key> = None;
    let mut records = 0;
    loop {
        let page = store.scan(&everything, last.as_ref(), SCAN_MAX).await?;
        for (key, entry) in &page.rows {
            // in the file it could not be told from an intact one
            if let Some(reason) = &entry.damage {
                return Err(ReadError::Corrupt { key: key.clone(), reason: reason.clone() }.into());
            }
            out.line(&to_record(key, &entry.value))?;
        }
        records += page.rows.len() as u64;
        if !page.more {
            break;
        }
        last = page.rows.into_iter().next_back().map(|(key, _)| key);
    }
    if store.commit(Batch::default()).await? != before {
        return Err(ExportError::Changed);
    }
    let Hashed { inner, digest } = out;
    let summary = Summary { records, sha256: hex::encode(digest.finish()) };
    inner.write_all(&json(&summary)?)?;
    inner.flush()?;
    Ok(summary)
}

/// What an import does with one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportDecision {
    /// Store it.
    Take,
    /// Store it under this key, for later inspection.
    Aside(Key),
    /// Refuse the export for this reason; nothing is imported.
    Refuse(String),
}

/// Reads a file written by [`export`] into an empty store. All of the file is checked before anything is written.
/// `judge` is called twice for each record, once in each pass, and must answer the same.
pub async fn import<R: BufRead + Seek + Send>(
    store: &dyn Store,
    source: &mut R,
    judge: impl Fn(&Key, &[u8]) -> ImportDecision + Send,
) -> Result<Summary, ImportError> {
    if !store.scan(&Key::from(""), None, 1).await?.rows.is_empty() {
        return Err(ImportError::NotEmpty);
    }
    let start = source.stream_position()?;
    let mut lines = Lines::start(source)?;
    let mut refused = Vec::new();
    while let Some((key, value)) = lines.next()? {
        if let ImportDecision::Refuse(why) = judge(&key, &value)
            && refused.len() < REFUSED_NAMED
        {
            refused.push(format!("line {}, {key:?}: {why}", lines.number));
        }
    }
    if !refused.is_empty() {
        return Err(ImportError::Damaged { records: refused });
    }
    source.seek(io::SeekFrom::Start(start))?;

    let mut lines = Lines::start(source)?;
    let mut batch = Batch::default().absent(IMPORT_MARK).put(IMPORT_MARK, "");
    let limits = store.limits();
    let limits = StoreLimits { batch_bytes: limits.batch_bytes.min(IMPORT_BYTES), ..limits };
    while let Some((key, value)) = lines.next()? {
        let key = match judge(&key, &value) {
            ImportDecision::Aside(aside) => aside,
            ImportDecision::Take | ImportDecision::Refuse(_) => key,
        };
        let put = batch::Write::Put(key, value);
        if !batch.has_room_for(&put, &limits) {
            store.commit(std::mem::take(&mut batch)).await?;
        }
        batch.writes.push(put);
    }
    if batch.writes.len() >= limits.batch_items {
        store.commit(std::mem::take(&mut batch)).await?;
    }
    store.commit(batch.delete(IMPORT_MARK)).await?;
    Ok(lines.summary())
}

fn json<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

struct Hashed<'a, W> {
    inner: &'a mut W,
    digest: digest::Context,
}

impl<W: Write> Hashed<'_, W> {
    fn line<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        let line = json(value)?;
        self.digest.update(&line);
        self.inner.write_all(&line)
    }
}

fn to_record(key: &Key, value: &[u8]) -> Record {
    let mut record = Record::default();
    match str::from_utf8(key.as_bytes()) {
        Ok(text) => record.key = Some(text.to_owned()),
        Err(_) => record.key_hex = Some(hex::encode(key.as_bytes())),
    }
    match str::from_utf8(value) {
        Ok(text) => record.value = Some(text.to_owned()),
        Err(_) => record.value_hex = Some(hex::encode(value)),
    }
    record
}

/// Decodes a field of which exactly one of the two forms must be present.
fn either(name: &str, text: Option<String>, hexed: Option<String>) -> Result<Vec<u8>, String> {
    match (text, hexed) {
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(hexed)) => hex::decode(hexed).map_err(|error| format!("{name}_hex: {error}")),
        (Some(_), Some(_)) => Err(format!("both {name} and {name}_hex")),
        (None, None) => Err(format!("neither {name} nor {name}_hex")),
    }
}

fn from_record(record: Record) -> Result<(Key, Vec<u8>), String> {
    let key = either("key", record.key, record.key_hex)?;
    let value = either("value", record.value, record.value_hex)?;
    let batch = Batch::default().put(key, value);
    batch.check(&StoreLimits::EMBEDDED).map_err(|error| error.to_string())?;
    match batch.writes.into_iter().next() {
        Some(batch::Write::Put(key, value)) if key != Key::from(IMPORT_MARK) => Ok((key, value)),
        _ => Err("the export is of a store whose own import did not finish".to_owned()),
    }
}

/// Reads an export line by line and checks each line.
struct Lines<'a, R> {
    source: &'a mut R,
    digest: digest::Context,
    number: u64,
    records: u64,
    last: Option<Key>,
    end: Option<Summary>,
}

impl<'a, R: BufRead> Lines<'a, R> {
    fn start(source: &'a mut R) -> Result<Self, ImportError> {
        let digest = digest::Context::new(&digest::SHA256);
        let mut lines = Self { source, digest, number: 0, records: 0, last: None, end: None };
        let line = lines.line()?;
        lines.digest.update(&line);
        // the format number first: a newer header may have other fields
        let header: serde_json::Value = serde_json::from_slice(&line).map_err(|_| lines.malformed("not an export"))?;
        let format = header.get("lychgate_store_export").and_then(serde_json::Value::as_u64);
        let format = format.ok_or_else(|| lines.malformed("not an export"))?;
        match u32::try_from(format).unwrap_or(u32::MAX) {
            FORMAT => {
                serde_json::from_value::<ExportHeader>(header).map_err(|error| lines.malformed(error))?;
                Ok(lines)
            }
            found if found > FORMAT => Err(ImportError::Newer { found }),
            found => Err(lines.malformed(format!("there is no export format {found}"))),
        }
    }

    fn malformed(&self, why: impl ToString) -> ImportError {
        ImportError::Malformed { line: self.number, why: why.to_string() }
    }

    /// One line, newline included.
    fn line(&mut self) -> Result<Vec<u8>, ImportError> {
        let mut line = Vec::new();
        self.source.by_ref().take(LINE_MAX as u64).read_until(b'\n', &mut line)?;
        if line.last() == Some(&b'\n') {
            self.number += 1;
            Ok(line)
        } else if line.len() == LINE_MAX {
            self.number += 1;
            Err(self.malformed(format!("longer than {LINE_MAX} bytes")))
        } else {
            Err(ImportError::Truncated { after: self.number })
        }
    }

    /// The next record; `None` after the last line, if its count and hash match the lines before it.
    fn next(&mut self) -> Result<Option<(Key, Vec<u8>)>, ImportError> {
        let line = self.line()?;
        match serde_json::from_slice(&line).map_err(|_| self.malformed("neither a record nor the last line"))? {
            ExportLine::Record(record) => {
                self.digest.update(&line);
                self.records += 1;
                let (key, value) = from_record(record).map_err(|why| self.malformed(why))?;
                if self.last.as_ref().is_some_and(|last| *last >= key) {
                    return Err(self.malformed(format!("{key:?} is out of order or there twice")));
                }
                self.last = Some(key.clone());
                Ok(Some((key, value)))
            }
            ExportLine::End(end) => {
                self.finish(&end)?;
                self.end = Some(end);
                Ok(None)
            }
        }
    }

    fn finish(&mut self, end: &Summary) -> Result<(), ImportError> {
        let altered = |why: String| Err(ImportError::Altered { why });
        if end.records != self.records {
            return altered(format!("it says {} records and has {}", end.records, self.records));
        }
        let sha256 = hex::encode(self.digest.clone().finish());
        if !end.sha256.eq_ignore_ascii_case(&sha256) {
            return altered(format!("its lines have the sum {sha256}, its last line says {}", end.sha256));
        }
        if !self.source.fill_buf()?.is_empty() {
            return altered("there is more after its last line".to_owned());
        }
        Ok(())
    }

    fn summary(self) -> Summary {
        // called only after `next` returned `None`, which sets `end`
        self.end.unwrap_or(Summary { records: self.records, sha256: String::new() })
    }
}

#[cfg(test)]
mod tests;
