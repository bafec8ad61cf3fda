//! Pages of listings that give away nothing of what they leave out: a page is filled by going on past what the caller may not
//! see, and the place where the next one starts is sealed.

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

/// All records under a prefix, read in chunks.
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

    /// The next ones, each with what its key has behind the prefix; nothing when there are no more.
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

    /// The next one.
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

/// A page of at most `limit`, from where another one ended. What `show` gives of a record is shown; nothing when the caller may
/// not see it. Records are looked at many at a time, so a page costs a few reads, however many it shows.
///
/// # Errors
/// [`Refusal::Malformed`] when no page of this listing gave `after`; when the store fails.
pub async fn page<T: Stored, V>(
    shell: &Shell,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
    show: impl Fn(&Look, &str, &Seen<T>) -> Result<Option<V>, Refusal>,
) -> Result<Page<V>, Refusal> {
    let mut place = start(shell, prefix, after)?;
    let (mut items, mut left) = (Vec::new(), LOOKED_AT_MAX);
    // One more than are shown, to know whether there are more. Whoever may not see most of them looks at many.
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
                // It begins after the last that was looked at before.
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
