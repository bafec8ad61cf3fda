//! Pages of listings that give away nothing of what they leave out: a page is filled by going on past what the caller may not
//! see, and the place where the next one starts is sealed.

use std::collections::VecDeque;

use super::{shell::Shell, views::Page};
use crate::core::{
    kinds::Stored,
    records::Seen,
    refusal::{Fault, Malformed, Refusal},
};

/// Rows read at a time.
const CHUNK: usize = 256;

/// Most rows looked at for one page: one request must not read a whole store for somebody who may see little of it. They
/// are told where to go on.
const LOOKED_AT_MAX: usize = 4_096;

/// The place where a page starts.
///
/// # Errors
/// [`Refusal::Malformed`] when no page of this listing gave it.
pub fn start(shell: &Shell, listing: &str, after: Option<&str>) -> Result<Option<String>, Refusal> {
    let Some(text) = after else { return Ok(None) };
    match shell.places.open(listing, text) {
        Some(place) => Ok(Some(place)),
        None => Err(Refusal::Malformed(Malformed::Place)),
    }
}

/// The place as it is given to a caller.
///
/// # Errors
/// [`Fault::Issue`] when it cannot be sealed.
pub fn next(shell: &Shell, listing: &str, place: &str) -> Result<String, Fault> {
    let sealed = shell.places.seal(listing, place, shell.entropy.bytes());
    sealed.ok_or_else(|| Fault::Issue("a place in a listing could not be sealed".to_owned()))
}

/// All records under a prefix, one after the other, read in chunks.
pub struct All<'a, T> {
    shell: &'a Shell,
    prefix: String,
    after: Option<String>,
    chunk: VecDeque<(String, Seen<T>)>,
    last: bool,
}

impl<'a, T: Stored> All<'a, T> {
    /// From the first, or from behind a key.
    pub fn of(shell: &'a Shell, prefix: &str, after: Option<String>) -> Self {
        Self { shell, prefix: prefix.to_owned(), after, chunk: VecDeque::new(), last: false }
    }

    /// The next, with what its key has behind the prefix.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn next(&mut self) -> Result<Option<(String, Seen<T>)>, Fault> {
        if self.chunk.is_empty() && !self.last {
            let rows = self.shell.scan(&self.prefix, self.after.as_deref(), CHUNK).await?;
            self.last = rows.len() < CHUNK;
            self.chunk = rows.into();
        }
        let Some((key, seen)) = self.chunk.pop_front() else { return Ok(None) };
        let name = key.get(self.prefix.len()..).unwrap_or_default().to_owned();
        self.after = Some(key);
        Ok(Some((name, seen)))
    }
}

/// A page in the making: of each record what is shown of it, or nothing when the caller may not see it.
pub struct PageBuilder<'a, T, V> {
    all: All<'a, T>,
    before: Option<String>,
    left: usize,
    limit: usize,
    items: Vec<V>,
}

impl<'a, T: Stored, V> PageBuilder<'a, T, V> {
    /// A page of at most `limit`, from where another one ended.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] when no page of this listing gave `after`.
    pub fn of(shell: &'a Shell, prefix: &str, after: Option<&str>, limit: usize) -> Result<Self, Refusal> {
        let start = start(shell, prefix, after)?;
        let all = All::of(shell, prefix, start.clone());
        Ok(Self { all, before: start, left: LOOKED_AT_MAX, limit, items: Vec::new() })
    }

    /// The next record to look at; nothing when there is no more, or enough were looked at.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn next(&mut self) -> Result<Option<(String, Seen<T>)>, Fault> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.before.clone_from(&self.all.after);
        self.all.next().await
    }

    /// Shows the record that was last looked at. Gives the page when it does not fit any more: then there is a next page, and
    /// it begins after the last that was shown.
    ///
    /// # Errors
    /// When its place cannot be sealed.
    pub fn show(&mut self, view: V) -> Result<Option<Page<V>>, Fault> {
        if self.items.len() < self.limit {
            self.items.push(view);
            return Ok(None);
        }
        let place = self.before.take().unwrap_or_default();
        let next = next(self.all.shell, &self.all.prefix, &place)?;
        Ok(Some(Page { items: std::mem::take(&mut self.items), next: Some(next) }))
    }

    /// The page, when there is nothing more to look at.
    ///
    /// # Errors
    /// When its place cannot be sealed.
    pub fn end(self) -> Result<Page<V>, Fault> {
        let more = self.left == 0 && !(self.all.last && self.all.chunk.is_empty());
        let place = self.all.after.unwrap_or_default();
        let next = if more { Some(next(self.all.shell, &self.all.prefix, &place)?) } else { None };
        Ok(Page { items: self.items, next })
    }
}
