//! The little DER that public keys and signatures need.

/// SEQUENCE.
pub(crate) const SEQUENCE: u8 = 0x30;
/// INTEGER.
pub(crate) const INTEGER: u8 = 0x02;
/// BIT STRING.
pub(crate) const BIT_STRING: u8 = 0x03;
/// OBJECT IDENTIFIER.
pub(crate) const OID: u8 = 0x06;

/// One value.
pub(crate) fn tlv(tag: u8, content: &[&[u8]]) -> Vec<u8> {
    let length: usize = content.iter().map(|part| part.len()).sum();
    let mut der = vec![tag];
    match u8::try_from(length) {
        Ok(short @ 0..=0x7f) => der.push(short),
        Ok(_) | Err(_) => {
            let bytes = length.to_be_bytes();
            let skip = bytes.iter().take_while(|byte| **byte == 0).count();
            // Of the eight bytes of a length fewer are left than fit in seven bits.
            der.push(0x80 | u8::try_from(bytes.len() - skip).unwrap_or(0x08));
            der.extend_from_slice(&bytes[skip..]);
        }
    }
    content.iter().for_each(|part| der.extend_from_slice(part));
    der
}

/// A number that is not negative: no zeros before it but the one that keeps it positive.
pub(crate) fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let bytes = without_zeros(bytes);
    let sign: &[u8] = if bytes.first().is_none_or(|byte| *byte >= 0x80) { &[0] } else { &[] };
    tlv(INTEGER, &[sign, bytes])
}

/// Without the zeros at the beginning.
pub(crate) fn without_zeros(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..]
}

/// The content of the value with this tag at the front, and what follows it. Lengths must be in their shortest form.
pub(crate) fn read(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match *first {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81 => {
            let (length, rest) = rest.split_first()?;
            (usize::from(*length).checked_sub(0x80)? + 0x80, rest)
        }
        0x82 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)).checked_sub(0x100)? + 0x100, rest)
        }
        _ => return None,
    };
    if *found != tag { None } else { rest.split_at_checked(length) }
}

/// The content of the one value with this tag that these bytes are.
pub(crate) fn only(der: &[u8], tag: u8) -> Option<&[u8]> {
    read(der, tag).filter(|(_, rest)| rest.is_empty()).map(|(content, _)| content)
}

/// The bytes of a number that is positive, in its shortest form.
pub(crate) fn read_unsigned(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (content, rest) = read(der, INTEGER)?;
    match content {
        [0, number @ ..] if number.first().is_some_and(|byte| *byte >= 0x80) => Some((number, rest)),
        [1..0x80, ..] => Some((content, rest)),
        _ => None,
    }
}
