//! DER encoding (X.690 8 and 10) of the parts that the encoder does not support.

pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OID: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
pub(crate) const UTF8_STRING: u8 = 0x0c;

/// Tag, definite length, and the concatenated parts.
pub(crate) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(len + 6);
    out.push(tag);
    if len < 0x80 {
        out.extend(u8::try_from(len));
    } else {
        let bytes = len.to_be_bytes();
        let significant: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
        out.extend(u8::try_from(significant.len()).map(|n| 0x80 | n));
        out.extend(significant);
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// A non-negative INTEGER of minimal length (X.690 8.3).
pub(crate) fn unsigned(magnitude: &[u8]) -> Vec<u8> {
    let start = magnitude.iter().position(|byte| *byte != 0).unwrap_or(magnitude.len());
    match &magnitude[start..] {
        [] => tlv(INTEGER, &[&[0]]),
        rest @ [first, ..] if first & 0x80 != 0 => tlv(INTEGER, &[&[0], rest]),
        rest => tlv(INTEGER, &[rest]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        assert_eq!(tlv(SEQUENCE, &[]), [0x30, 0]);
        assert_eq!(tlv(SEQUENCE, &[&[1], &[2, 3]]), [0x30, 3, 1, 2, 3]);
        assert_eq!(tlv(4, &[&[0; 0x80]])[..3], [4, 0x81, 0x80]);
        assert_eq!(tlv(4, &[&[0; 0x1234]])[..4], [4, 0x82, 0x12, 0x34]);
    }

    #[test]
    fn integers() {
        assert_eq!(unsigned(&[]), [2, 1, 0]);
        assert_eq!(unsigned(&[0, 0]), [2, 1, 0]);
        assert_eq!(unsigned(&[0, 0x7f]), [2, 1, 0x7f]);
        assert_eq!(unsigned(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(unsigned(&[1, 0, 1]), [2, 3, 1, 0, 1]);
    }
}
