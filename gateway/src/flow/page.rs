//! Pages of listings that give away nothing of what they leave out: a page is filled by going on past what the caller may not
//! see, and the place where the next one starts is sealed.

use std::collections::VecDeque;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use wire::admin::Page;

use super::shell::Shell;
use crate::core::{
    kinds::Stored,
    records::Seen,
    refusal::{Fault, Refusal},
};

/// Rows read at a time.
const CHUNK: usize = 256;

/// Most rows looked at for one page: one request must not read a whole store for somebody who may see little of it. They
/// are told where to go on.
const LOOKED_AT_MAX: usize = 4_096;

/// Bytes of the key that seals places.
const KEY_LEN: usize = 32;

/// Longest place that is opened, in hex characters: no key of the store is nearly as long.
const PLACE_MAX: usize = 2_048;

/// Seals places in listings. The key is the process's own: after a restart a listing begins anew.
pub struct Places {
    key: Option<LessSafeKey>,
}

impl Places {
    /// With this key.
    #[must_use]
    pub fn new(key: [u8; KEY_LEN]) -> Self {
        Self { key: UnboundKey::new(&AES_256_GCM, &key).ok().map(LessSafeKey::new) }
    }

    fn seal(&self, listing: &str, place: &str, nonce: [u8; NONCE_LEN]) -> Option<String> {
        let mut sealed = place.as_bytes().to_vec();
        let aad = Aad::from(listing.as_bytes());
        self.key.as_ref()?.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).ok()?;
        Some(format!("{}{}", hex::encode(nonce), hex::encode(sealed)))
    }

    fn open(&self, listing: &str, text: &str) -> Option<String> {
        let bytes = hex::decode(Some(text).filter(|text| text.len() <= PLACE_MAX)?).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
        let (nonce, mut sealed) = (Nonce::try_assume_unique_for_key(nonce).ok()?, sealed.to_vec());
        let place = self.key.as_ref()?.open_in_place(nonce, Aad::from(listing.as_bytes()), &mut sealed).ok()?;
        String::from_utf8(place.to_vec()).ok()
    }
}

/// The place where a page starts.
///
/// # Errors
/// [`Refusal::Malformed`] when no page of this listing gave it.
pub fn start(shell: &Shell, listing: &str, after: Option<&str>) -> Result<Option<String>, Refusal> {
    let Some(text) = after else { return Ok(None) };
    match shell.places.open(listing, text) {
        Some(place) => Ok(Some(place)),
        None => Err(Refusal::Malformed("`after` is no place in this listing; begin again without it".to_owned())),
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
pub struct Rows<'a, T, V> {
    all: All<'a, T>,
    before: Option<String>,
    left: usize,
    limit: usize,
    items: Vec<V>,
}

impl<'a, T: Stored, V> Rows<'a, T, V> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_by_whoever_sealed_it_and_only_for_its_listing() {
        let (places, others) = (Places::new([1; KEY_LEN]), Places::new([2; KEY_LEN]));
        let sealed = places.seal("subject/machine/", "subject/machine/edge-7", [3; NONCE_LEN]).unwrap();
        assert!(!sealed.contains(&hex::encode("edge-7")));
        assert_eq!(places.open("subject/machine/", &sealed).as_deref(), Some("subject/machine/edge-7"));
        assert_eq!(places.open("subject/person/", &sealed), None);
        assert_eq!(others.open("subject/machine/", &sealed), None);
        for bad in ["", "edge-7", "00", &sealed[..sealed.len() - 2], &"0".repeat(PLACE_MAX + 2)] {
            assert_eq!(places.open("subject/machine/", bad), None, "{bad}");
        }
    }
}
