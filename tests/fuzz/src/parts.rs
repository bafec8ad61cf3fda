//! How inputs are cut into pieces, and the little DER that is written here.

/// A first byte that says what the rest is.
#[must_use]
pub fn mode(data: &[u8]) -> Option<(u8, &[u8])> {
    let (first, rest) = data.split_first()?;
    Some((*first, rest))
}

/// An input of that mode.
#[must_use]
pub fn with_mode(mode: u8, rest: &[u8]) -> Vec<u8> {
    [&[mode], rest].concat()
}

/// The mode of [`jwt`] in which header and claims are given, with a line feed between, and signed there.
pub const SIGN: u8 = 1;

/// A JWT: the text as it is, or signed here. `None` for no input.
#[must_use]
pub fn jwt(data: &[u8], sign: impl FnOnce(&[u8], &[u8]) -> String) -> Option<String> {
    let (mode, rest) = mode(data)?;
    if mode & SIGN == 0 {
        return Some(String::from_utf8_lossy(rest).into_owned());
    }
    let at = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    Some(sign(&rest[..at], rest.get(at + 1..).unwrap_or_default()))
}

/// Pieces with their length in two bytes before each; the last takes what is left.
#[must_use]
pub fn pieces(mut data: &[u8], most: usize) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while found.len() < most && !data.is_empty() {
        let Some((length, rest)) = data.split_first_chunk::<2>() else { break };
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (piece, after) = rest.split_at(length);
        found.push(piece);
        data = after;
    }
    found
}

/// The reverse of [`pieces`].
#[must_use]
pub fn join(pieces: &[&[u8]]) -> Vec<u8> {
    let mut joined = Vec::new();
    for piece in pieces {
        let length = u16::try_from(piece.len()).expect("seeds are short");
        joined.extend_from_slice(&length.to_be_bytes());
        joined.extend_from_slice(piece);
    }
    joined
}

/// One value in DER.
#[must_use]
pub fn tlv(tag: u8, content: &[&[u8]]) -> Vec<u8> {
    let length: usize = content.iter().map(|part| part.len()).sum();
    let mut der = vec![tag];
    if length < 0x80 {
        der.push(u8::try_from(length).unwrap_or_default());
    } else {
        let bytes = length.to_be_bytes();
        let significant = &bytes[bytes.iter().position(|byte| *byte != 0).unwrap_or(0)..];
        der.push(0x80 | u8::try_from(significant.len()).unwrap_or_default());
        der.extend_from_slice(significant);
    }
    content.iter().for_each(|part| der.extend_from_slice(part));
    der
}

/// AlgorithmIdentifier of Ed25519 (RFC 8410 3).
const ED25519: &[u8] = &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];

/// A signed structure, as certificates and requests are: what is signed, the algorithm, the signature.
#[must_use]
pub fn signed(content: &[u8], key: &dyn pki::CaKey) -> Vec<u8> {
    let signature = key.sign(content).expect("a key in memory signs");
    tlv(0x30, &[content, ED25519, &tlv(0x03, &[&[0], &signature])])
}

/// What is signed of a signed structure: the first value inside the outer one.
#[must_use]
pub fn inner(signed: &[u8]) -> &[u8] {
    let header = |der: &[u8]| match der[1] {
        short @ 0..0x80 => (2, usize::from(short)),
        long => {
            let count = usize::from(long & 0x7f);
            (2 + count, der[2..2 + count].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
        }
    };
    let content = &signed[header(signed).0..];
    let (head, length) = header(content);
    &content[..head + length]
}
