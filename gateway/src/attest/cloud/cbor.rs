//! A strict reader of CBOR (RFC 8949), for one known structure: the caller says what must come next. Numbers and lengths have their
//! shortest form; strings are in one piece; a map of indefinite length is read only where it is asked for. What is not known is passed
//! over within limits.

/// Deepest nesting of what is passed over.
const DEPTH_MAX: usize = 4;

/// Most values that are passed over in one document.
const SKIPPED_MAX: u32 = 256;

/// It is not the CBOR that was expected.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct NotCbor;

/// The major types (RFC 8949 3.1).
const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;

/// `null`, and the end of what has an indefinite length (RFC 8949 3.3).
const NULL: u8 = 0xf6;
const BREAK: u8 = 0xff;

/// How many entries a map has.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum MapEntries {
    /// So many are left.
    Left(u64),
    /// Until the end.
    ToBreak,
}

/// What is left to read.
#[derive(Clone, Debug)]
pub(super) struct CborReader<'a> {
    rest: &'a [u8],
    skipped: u32,
}

impl<'a> CborReader<'a> {
    pub(super) const fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, skipped: 0 }
    }

    fn byte(&mut self) -> Result<u8, NotCbor> {
        let (first, rest) = self.rest.split_first().ok_or(NotCbor)?;
        self.rest = rest;
        Ok(*first)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], NotCbor> {
        let length = usize::try_from(length).map_err(|_| NotCbor)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(NotCbor)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The major type of a value and its argument, which has the shortest form.
    fn head(&mut self) -> Result<(u8, u64), NotCbor> {
        let first = self.byte()?;
        let (octets, least) = match first & 0x1f {
            argument @ 0..24 => return Ok((first >> 5, argument.into())),
            24 => (1, 24),
            25 => (2, 1 << 8),
            26 => (4, 1 << 16),
            27 => (8, 1 << 32),
            _ => return Err(NotCbor),
        };
        let argument = self.take(octets)?.iter().fold(0, |sum: u64, octet| sum << 8 | u64::from(*octet));
        if argument < least { Err(NotCbor) } else { Ok((first >> 5, argument)) }
    }

    fn of_type(&mut self, wanted: u8) -> Result<u64, NotCbor> {
        self.head().and_then(|(major, argument)| if major == wanted { Ok(argument) } else { Err(NotCbor) })
    }

    pub(super) fn unsigned(&mut self) -> Result<u64, NotCbor> {
        self.of_type(UNSIGNED)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], NotCbor> {
        let length = self.of_type(BYTES)?;
        self.take(length)
    }

    /// Bytes, or nothing for `null`.
    pub(super) fn bytes_or_null(&mut self) -> Result<Option<&'a [u8]>, NotCbor> {
        if self.rest.first() == Some(&NULL) {
            self.byte()?;
            return Ok(None);
        }
        self.bytes().map(Some)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, NotCbor> {
        let length = self.of_type(TEXT)?;
        std::str::from_utf8(self.take(length)?).map_err(|_| NotCbor)
    }

    /// How many values an array has.
    pub(super) fn array(&mut self) -> Result<u64, NotCbor> {
        self.of_type(ARRAY)
    }

    /// How many entries a map has.
    pub(super) fn map(&mut self) -> Result<u64, NotCbor> {
        self.of_type(MAP)
    }

    /// A map, which may have an indefinite length.
    pub(super) fn map_of_any_length(&mut self) -> Result<MapEntries, NotCbor> {
        if self.rest.first() == Some(&(MAP << 5 | 0x1f)) {
            self.byte()?;
            return Ok(MapEntries::ToBreak);
        }
        self.map().map(MapEntries::Left)
    }

    /// Whether another entry follows.
    pub(super) fn more(&mut self, entries: &mut MapEntries) -> Result<bool, NotCbor> {
        match entries {
            MapEntries::Left(0) => Ok(false),
            MapEntries::Left(left) => {
                *left -= 1;
                Ok(true)
            }
            MapEntries::ToBreak if self.rest.first() == Some(&BREAK) => {
                self.byte()?;
                Ok(false)
            }
            MapEntries::ToBreak => Ok(true),
        }
    }

    /// Drops a tag (RFC 8949 3.4) if there is this one.
    pub(super) fn optional_tag(&mut self, number: u64) {
        let mut ahead = self.clone();
        if ahead.of_type(TAG) == Ok(number) {
            *self = ahead;
        }
    }

    /// Passes over a value that is not known.
    pub(super) fn skip(&mut self) -> Result<(), NotCbor> {
        self.skip_at(0)
    }

    fn skip_at(&mut self, depth: usize) -> Result<(), NotCbor> {
        self.skipped += 1;
        if depth > DEPTH_MAX || self.skipped > SKIPPED_MAX {
            return Err(NotCbor);
        }
        let (major, argument) = self.head()?;
        let inside = match major {
            BYTES | TEXT => return self.take(argument).map(|_| ()),
            ARRAY => argument,
            MAP => argument.checked_mul(2).ok_or(NotCbor)?,
            TAG => 1,
            UNSIGNED | NEGATIVE | SIMPLE => return Ok(()),
            _ => return Err(NotCbor),
        };
        (0..inside).try_for_each(|_| self.skip_at(depth + 1))
    }

    /// Nothing may follow.
    pub(super) const fn end(&self) -> Result<(), NotCbor> {
        if self.rest.is_empty() { Ok(()) } else { Err(NotCbor) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortest_forms_alone() {
        // RFC 8949, appendix A.
        for (bytes, want) in [
            (&[0x00][..], Ok(0)),
            (&[0x17], Ok(23)),
            (&[0x18, 0x18], Ok(24)),
            (&[0x18, 0x17], Err(NotCbor)),
            (&[0x19, 0x03, 0xe8], Ok(1000)),
            (&[0x19, 0x00, 0xff], Err(NotCbor)),
            (&[0x1a, 0x00, 0x0f, 0x42, 0x40], Ok(1_000_000)),
            (&[0x1a, 0x00, 0x00, 0xff, 0xff], Err(NotCbor)),
            (&[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Ok(u64::MAX)),
            (&[0x1b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], Err(NotCbor)),
            (&[0x1c], Err(NotCbor)),
            (&[0x1f], Err(NotCbor)),
            (&[0x18], Err(NotCbor)),
            (&[0x20], Err(NotCbor)),
            (&[], Err(NotCbor)),
        ] {
            assert_eq!(CborReader::of(bytes).unsigned(), want, "{bytes:02x?}");
        }
    }

    #[test]
    fn strings_in_one_piece() {
        assert_eq!(CborReader::of(&[0x43, 1, 2, 3]).bytes(), Ok(&[1, 2, 3][..]));
        assert_eq!(CborReader::of(&[0x44, 1, 2, 3]).bytes(), Err(NotCbor));
        assert_eq!(CborReader::of(&[0x5f, 0x41, 1, 0xff]).bytes(), Err(NotCbor));
        assert_eq!(CborReader::of(&[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]).bytes(), Err(NotCbor));
        assert_eq!(CborReader::of(b"\x62ab").text(), Ok("ab"));
        assert_eq!(CborReader::of(&[0x61, 0xff]).text(), Err(NotCbor));
        assert_eq!(CborReader::of(&[0xf6]).bytes_or_null(), Ok(None));
        assert_eq!(CborReader::of(&[0x41, 7]).bytes_or_null(), Ok(Some(&[7][..])));
        assert_eq!(CborReader::of(&[0xf7]).bytes_or_null(), Err(NotCbor));
    }

    #[test]
    fn maps_end_where_they_say() {
        let keys = |bytes: &[u8]| {
            let (mut reader, mut keys) = (CborReader::of(bytes), Vec::new());
            let mut entries = reader.map_of_any_length()?;
            while reader.more(&mut entries)? {
                keys.push(reader.unsigned()?);
                reader.skip()?;
            }
            reader.end().map(|()| keys)
        };
        assert_eq!(keys(&[0xa2, 1, 2, 3, 4]), Ok(vec![1, 3]));
        assert_eq!(keys(&[0xbf, 1, 2, 3, 4, 0xff]), Ok(vec![1, 3]));
        assert_eq!(keys(&[0xbf, 1, 2, 3, 4]), Err(NotCbor));
        assert_eq!(keys(&[0xa2, 1, 2]), Err(NotCbor));
        assert_eq!(keys(&[0xa1, 1, 2, 3]), Err(NotCbor));
        assert_eq!(keys(&[0xa1, 1, 0xff]), Err(NotCbor), "an end in the place of a value");
    }

    #[test]
    fn what_is_passed_over_is_bounded() {
        let skip = |bytes: &[u8]| {
            let mut reader = CborReader::of(bytes);
            reader.skip().and_then(|()| reader.end())
        };
        assert_eq!(skip(&[0xa2, 1, 0x82, 0x41, 5, 0xc1, 0x61, b'a', 0x20, 0xf5]), Ok(()));
        assert_eq!(skip(&[&[0x81; 4][..], &[0]].concat()), Ok(()));
        assert_eq!(skip(&[&[0x81; 5][..], &[0]].concat()), Err(NotCbor));
        assert_eq!(skip(&[&[0x98, 200][..], &[0; 200]].concat()), Ok(()));
        assert_eq!(skip(&[&[0x99, 1, 0][..], &[0; 256]].concat()), Err(NotCbor));
        // A length that nobody could send costs nothing.
        assert_eq!(skip(&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Err(NotCbor));
        assert_eq!(skip(&[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Err(NotCbor));
        assert_eq!(skip(&[0x9f, 0xff]), Err(NotCbor));
    }

    #[test]
    fn a_tag_may_be_there() {
        for (bytes, want) in [(&[0xd2, 5][..], Ok(5)), (&[5], Ok(5)), (&[0xd3, 5], Err(NotCbor))] {
            let mut reader = CborReader::of(bytes);
            reader.optional_tag(18);
            assert_eq!(reader.unsigned(), want);
        }
    }
}
