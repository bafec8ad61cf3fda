//! What a document says, parsed once for as long as it stays the same: evidence comes more often than an operator changes a file.

use std::sync::{Arc, Mutex, PoisonError};

use super::Document;

/// What a document said when it was last parsed.
pub struct Parsed<T> {
    last: Mutex<Option<ParsedBytes<T>>>,
}

/// The bytes, and what they say.
struct ParsedBytes<T> {
    bytes: Arc<[u8]>,
    value: Arc<T>,
}

impl<T> Default for Parsed<T> {
    fn default() -> Self {
        Self { last: Mutex::default() }
    }
}

impl<T> Parsed<T> {
    /// What a document says: parsed now only if its bytes are others than last time.
    pub fn of(&self, document: &Document, parse: impl FnOnce(&[u8]) -> T) -> Arc<T> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reading) = last.as_ref().filter(|reading| reading.bytes == document.bytes) {
            return Arc::clone(&reading.value);
        }
        let value = Arc::new(parse(&document.bytes));
        *last = Some(ParsedBytes { bytes: Arc::clone(&document.bytes), value: Arc::clone(&value) });
        value
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, time::Duration};

    use super::*;

    #[test]
    fn the_same_bytes_are_parsed_once() {
        let (parsed, parses) = (Parsed::default(), Cell::new(0));
        let read = |text: &str| {
            let document = Document { bytes: text.as_bytes().into(), age: Duration::ZERO };
            *parsed.of(&document, |bytes| {
                parses.set(parses.get() + 1);
                bytes.len()
            })
        };
        assert_eq!((read("one"), read("one"), parses.get()), (3, 3, 1));
        assert_eq!((read("three"), parses.get()), (5, 2));
    }
}
