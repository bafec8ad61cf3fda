//! A reader of BER (X.690 8): what DER is, and lengths and strings of other forms. Bounded in depth and in number of values.

/// Deepest nesting: a message has its certificates six levels down, and a string in pieces is one more.
const DEPTH_MAX: usize = 10;

/// Most values that are looked at while ends are sought: a string of 16 KiB in pieces of 64 bytes, several times over.
const VALUES_MAX: u32 = 4096;

/// SEQUENCE and SET, constructed.
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const OID: u8 = 0x06;
pub(super) const OCTET_STRING: u8 = 0x04;

/// Whether a value has others inside (X.690 8.1.2.5).
const CONSTRUCTED: u8 = 0x20;

/// A context-specific tag, constructed.
pub(super) const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// It is not BER, or beyond the limits.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct NotBer;

/// One value.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct BerValue<'a> {
    /// The identifier octet.
    pub(super) tag: u8,
    /// With its tag and length; without the end-of-contents octets of an indefinite one.
    pub(super) encoded: &'a [u8],
    /// What is inside.
    pub(super) content: &'a [u8],
    /// Whether its length is given, and not found by its end.
    pub(super) is_definite: bool,
}

impl<'a> BerValue<'a> {
    /// The values inside, all of them.
    pub(super) fn inside(&self) -> BerValues<'a> {
        BerValues { rest: self.content }
    }

    /// The octets of an OCTET STRING, which may be in pieces (X.690 8.7.3).
    pub(super) fn octets(&self) -> Result<Vec<u8>, NotBer> {
        if self.tag == OCTET_STRING {
            return Ok(self.content.to_vec());
        }
        if self.tag != OCTET_STRING | CONSTRUCTED {
            return Err(NotBer);
        }
        let (mut all, mut pieces) = (Vec::new(), self.inside());
        while let Some(piece) = pieces.next()? {
            if piece.tag != OCTET_STRING {
                return Err(NotBer);
            }
            all.extend_from_slice(piece.content);
        }
        Ok(all)
    }
}

/// BerValues one after the other.
#[derive(Copy, Clone, Debug)]
pub(super) struct BerValues<'a> {
    rest: &'a [u8],
}

impl<'a> BerValues<'a> {
    pub(super) const fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next value, if there is one.
    pub(super) fn next(&mut self) -> Result<Option<BerValue<'a>>, NotBer> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let mut budget = VALUES_MAX;
        let (value, rest) = read(self.rest, 0, &mut budget)?;
        self.rest = rest;
        Ok(Some(value))
    }

    /// The next value, which must be there and have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Result<BerValue<'a>, NotBer> {
        self.next()?.filter(|value| value.tag == tag).ok_or(NotBer)
    }

    /// The next value if it has this tag.
    pub(super) fn optional(&mut self, tag: u8) -> Result<Option<BerValue<'a>>, NotBer> {
        if self.rest.first() == Some(&tag) { self.next() } else { Ok(None) }
    }

    /// Nothing may follow.
    pub(super) const fn end(&self) -> Result<(), NotBer> {
        if self.rest.is_empty() { Ok(()) } else { Err(NotBer) }
    }
}

/// Reads one value; gives what follows it.
fn read<'a>(input: &'a [u8], depth: usize, budget: &mut u32) -> Result<(BerValue<'a>, &'a [u8]), NotBer> {
    *budget = budget.checked_sub(1).ok_or(NotBer)?;
    let (tag, first, rest) = match input {
        [tag, first, rest @ ..] => (*tag, *first, rest),
        [] | [_] => return Err(NotBer),
    };
    // Numbers from 31 on have a tag of several octets, and a tag of zeros is an end.
    if depth > DEPTH_MAX || tag & 0x1f == 0x1f || tag == 0 {
        return Err(NotBer);
    }
    if first == 0x80 {
        return indefinite(tag, input, rest, depth, budget);
    }
    let (length, rest) = length(first, rest)?;
    let (content, after) = rest.split_at_checked(length).ok_or(NotBer)?;
    let encoded = input.get(..input.len() - after.len()).ok_or(NotBer)?;
    Ok((BerValue { tag, encoded, content, is_definite: true }, after))
}

/// A value that ends with end-of-contents octets (X.690 8.1.3.6).
fn indefinite<'a>(
    tag: u8,
    input: &'a [u8],
    content: &'a [u8],
    depth: usize,
    budget: &mut u32,
) -> Result<(BerValue<'a>, &'a [u8]), NotBer> {
    if tag & CONSTRUCTED == 0 {
        return Err(NotBer);
    }
    let mut rest = content;
    while !rest.starts_with(&[0, 0]) {
        (_, rest) = read(rest, depth + 1, budget)?;
    }
    let inside = content.get(..content.len() - rest.len()).ok_or(NotBer)?;
    let encoded = input.get(..input.len() - rest.len()).ok_or(NotBer)?;
    let after = rest.get(2..).ok_or(NotBer)?;
    Ok((BerValue { tag, encoded, content: inside, is_definite: false }, after))
}

/// A length that is given (X.690 8.1.3.4, 8.1.3.5), in as few octets as it takes.
fn length(first: u8, rest: &[u8]) -> Result<(usize, &[u8]), NotBer> {
    if first < 0x80 {
        return Ok((first.into(), rest));
    }
    let (octets, rest) = rest.split_at_checked((first & 0x7f).into()).ok_or(NotBer)?;
    if octets.len() > 3 || octets.first() == Some(&0) {
        return Err(NotBer);
    }
    let length = octets.iter().fold(0, |length: usize, octet| length << 8 | usize::from(*octet));
    if length < 0x80 { Err(NotBer) } else { Ok((length, rest)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], want: Option<(u8, &[u8], &[u8])>) {
        let mut values = BerValues::of(bytes);
        let read = values.next().ok().flatten().map(|value| (value.tag, value.content, values.rest));
        assert_eq!(read, want, "{bytes:02x?}");
    }

    #[test]
    fn lengths() {
        check(&[4, 2, 1, 2, 9], Some((4, &[1, 2], &[9])));
        check(&[4, 0], Some((4, &[], &[])));
        check(&[0x30, 0x80, 4, 1, 7, 0, 0, 9], Some((0x30, &[4, 1, 7], &[9])));
        check(&[0x30, 0x80, 0x30, 0x80, 0, 0, 0, 0], Some((0x30, &[0x30, 0x80, 0, 0], &[])));
        for bad in [
            &[4][..],
            &[4, 3, 1, 2],
            // longer than it takes
            &[4, 0x81, 1, 7],
            &[4, 0x82, 0, 0x80],
            // too long to be
            &[4, 0x84, 1, 0, 0, 0],
            &[4, 0xff],
            // no end, and an end of something that has none
            &[0x30, 0x80, 4, 1, 7],
            &[0x30, 0x80, 4, 1, 7, 0],
            &[4, 0x80, 0, 0],
            &[0, 0],
            // a tag of several octets
            &[0x1f, 0x81, 1, 0],
        ] {
            check(bad, None);
        }
        let long = [&[4, 0x82, 1, 0][..], &[5; 256]].concat();
        check(&long, Some((4, &[5; 256], &[])));
    }

    #[test]
    fn strings_in_pieces() {
        let octets = |bytes: &[u8]| BerValues::of(bytes).next().unwrap().unwrap().octets();
        assert_eq!(octets(&[4, 2, 1, 2]), Ok(vec![1, 2]));
        assert_eq!(octets(&[0x24, 0x80, 4, 1, 1, 4, 2, 2, 3, 0, 0]), Ok(vec![1, 2, 3]));
        assert_eq!(octets(&[0x24, 3, 4, 1, 1]), Ok(vec![1]));
        assert_eq!(octets(&[0x24, 5, 0x24, 3, 4, 1, 1]), Err(NotBer), "pieces of pieces");
        assert_eq!(octets(&[0x24, 3, 2, 1, 1]), Err(NotBer));
        assert_eq!(octets(&[0x30, 3, 4, 1, 1]), Err(NotBer));
    }

    #[test]
    fn what_is_nested_or_cut_too_often_is_not_read() {
        let nested = |depth: usize| [[0x30, 0x80].repeat(depth), [0, 0].repeat(depth)].concat();
        assert!(BerValues::of(&nested(DEPTH_MAX)).next().is_ok());
        assert_eq!(BerValues::of(&nested(DEPTH_MAX + 2)).next(), Err(NotBer));
        let pieces = |count: usize| [&[0x24, 0x80][..], &[4, 0].repeat(count), &[0, 0]].concat();
        assert!(BerValues::of(&pieces(4000)).next().is_ok());
        assert_eq!(BerValues::of(&pieces(4096)).next(), Err(NotBer));
    }
}
