//! Pages of listings that reveal nothing about the rows they leave out: reading continues past rows that the caller may not see until
//! the page is full, and the start of the next page is encrypted.

use std::collections::VecDeque;

use super::{shell::Shell, views::Page};
use crate::core::{
    look::Look,
    records::Seen,
    refusal::{Fault, Malformed, Refusal},
    stored::Stored,
};

/// Rows read at a time.
const CHUNK: usize = 256;

/// Most rows read for one page, so that one request cannot read a large store for a caller who may see little of it. The page then
/// tells where to continue.
const LOOKED_AT_MAX: usize = 4_096;

/// The start of a page.
///
/// # Errors
/// [`Refusal::Malformed`] if it does not come from a page of this listing.
pub fn start(shell: &Shell, listing: &str, after: Option<&str>) -> Result<Option<String>, Refusal> {
    let Some(text) = after else { return Ok(None) };
    match shell.places.open(listing, text) {
        Some(place) => Ok(Some(place)),
        None => Err(Refusal::Malformed(Malformed::Place)),
    }
}

/// The start of a page, encrypted for the caller.
///
/// # Errors
/// [`Fault::Issue`] if it cannot be encrypted.
pub fn next(shell: &Shell, listing: &str, place: &str) -> Result<String, Fault> {
    let sealed = shell.places.seal(listing, place, shell.entropy.bytes());
    sealed.ok_or_else(|| Fault::Issue("a place in a listing could not be sealed".to_owned()))
}

/// All records under a prefix, read in chunks.
pub struct All<'a, T> {
    shell: &'a Shell,
    prefix: String,
    after: Option<String>,
    chunk: VecDeque<(String, Seen<T>)>,
    last: bool,
}

impl<'a, T: Stored> All<'a, T> {
    /// From the first record, or from the one after a key.
    pub fn of(shell: &'a Shell, prefix: &str, after: Option<String>) -> Self {
        Self { shell, prefix: prefix.to_owned(), after, chunk: VecDeque::new(), last: false }
    }

    /// The next records, each with its key without the prefix; nothing at the end.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn chunk(&mut self) -> Result<Option<Vec<(String, Seen<T>)>>, Fault> {
        self.fill().await?;
        let rows: Vec<_> = std::mem::take(&mut self.chunk).into();
        self.after = rows.last().map(|(key, _)| key.clone()).or_else(|| self.after.take());
        let named = |(key, seen): (String, _)| (self.name(&key), seen);
        Ok(Some(rows).filter(|rows| !rows.is_empty()).map(|rows| rows.into_iter().map(named).collect()))
    }

    /// The next record.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn next(&mut self) -> Result<Option<(String, Seen<T>)>, Fault> {
        self.fill().await?;
        let Some((key, seen)) = self.chunk.pop_front() else { return Ok(None) };
        let name = self.name(&key);
        self.after = Some(key);
        Ok(Some((name, seen)))
    }

    async fn fill(&mut self) -> Result<(), Fault> {
        if self.chunk.is_empty() && !self.last {
            let rows = self.shell.scan(&self.prefix, self.after.as_deref(), CHUNK).await?;
            self.last = rows.len() < CHUNK;
            self.chunk = rows.into();
        }
        Ok(())
    }

    fn name(&self, key: &str) -> String {
        key.get(self.prefix.len()..).unwrap_or_default().to_owned()
    }
}

/// A page of at most `limit` rows, from the end of another one. `show` returns the row for a record, or nothing if the caller may not
/// see it. Records are read in chunks, so a page takes few reads.
///
/// # Errors
/// [`Refusal::Malformed`] if `after` does not come from a page of this listing; if the store fails.
pub async fn page<T: Stored, V>(
    shell: &Shell,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
    show: impl Fn(&Look, &str, &Seen<T>) -> Result<Option<V>, Refusal>,
) -> Result<Page<V>, Refusal> {
    let mut place = start(shell, prefix, after)?;
    let (mut items, mut left) = (Vec::new(), LOOKED_AT_MAX);
    // One more than is shown, to know whether there is a next page. For a caller who may see few rows, many are read.
    let mut chunk = (limit + 1).min(CHUNK);
    loop {
        let asked = chunk.min(left);
        let rows: Vec<(String, Seen<T>)> = shell.scan(prefix, place.as_deref(), asked).await?;
        let last = rows.len() < asked;
        let name = |key: &'_ str| key.get(prefix.len()..).unwrap_or_default().to_owned();
        let views = |look: &Look| rows.iter().map(|(key, seen)| show(look, &name(key), seen)).collect();
        let views: Vec<Option<V>> = shell.look::<_, Refusal>(views).await?;
        left -= rows.len();
        for ((key, _), view) in rows.into_iter().zip(views) {
            if view.is_some() && items.len() == limit {
                // Starts after the last row of the page before.
                let next = next(shell, prefix, &place.unwrap_or_default())?;
                return Ok(Page { items, next: Some(next) });
            }
            items.extend(view);
            place = Some(key);
        }
        if last {
            return Ok(Page { items, next: None });
        }
        if left == 0 {
            let next = next(shell, prefix, &place.unwrap_or_default())?;
            return Ok(Page { items, next: Some(next) });
        }
        chunk = CHUNK;
    }
}
