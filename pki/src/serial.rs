//! Certificate serial numbers: 127 random bits, always positive.

use std::fmt;

use thiserror::Error;

/// Why a text is not the hexadecimal form of a fixed number of bytes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum BadHex {
    #[error("expected {want} hexadecimal digits and found {found}")]
    Length { want: usize, found: usize },
    #[error("the byte at position {at} is not a hexadecimal digit")]
    Digit {
        /// Offset, from zero.
        at: usize,
    },
    #[error("the serial is zero or has its top bit set; serials are positive")]
    NotPositive,
}

/// Exactly `2 * N` digits of either case.
pub(crate) fn read_hex<const N: usize>(text: &str) -> Result<[u8; N], BadHex> {
    if text.len() != 2 * N {
        return Err(BadHex::Length { want: 2 * N, found: text.len() });
    }
    let mut out = [0; N];
    for (at, (byte, pair)) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)).enumerate() {
        for (offset, digit) in pair.iter().enumerate() {
            let value = VALUES[usize::from(*digit)];
            if value == NO_DIGIT {
                return Err(BadHex::Digit { at: 2 * at + offset });
            }
            *byte = (*byte << 4) | value;
        }
    }
    Ok(out)
}

/// In [`VALUES`], of a byte that is no hexadecimal digit.
const NO_DIGIT: u8 = u8::MAX;

/// The value of each byte as a digit. A record has a dozen digests.
const VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut digit = 0;
    while digit < 16 {
        values[b"0123456789abcdef"[digit as usize] as usize] = digit;
        values[b"0123456789ABCDEF"[digit as usize] as usize] = digit;
        digit += 1;
    }
    values
};

/// Lower-case digits.
pub(crate) fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    // Formatting byte by byte is a dozen times slower, and every record's key contains hex.
    let mut digits = [0; 64];
    for part in bytes.chunks(digits.len() / 2) {
        for (pair, byte) in digits.chunks_exact_mut(2).zip(part) {
            pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(byte & 0x0f)];
        }
        let text = digits.get(..part.len() * 2).and_then(|digits| std::str::from_utf8(digits).ok());
        f.write_str(text.ok_or(fmt::Error)?)?;
    }
    Ok(())
}

/// A serial number: positive and at most 20 octets, as RFC 5280 4.1.2.2 demands; ours have 16.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial([u8; 16]);

impl Serial {
    /// From 16 random bytes. The top bit is cleared so that the number is positive, and zero is avoided.
    #[must_use]
    pub fn from_entropy(mut entropy: [u8; 16]) -> Self {
        entropy[0] &= 0x7f;
        if entropy == [0; 16] {
            entropy[15] = 1;
        }
        Self(entropy)
    }

    /// From the content octets of a certificate's INTEGER; `None` if it is not positive or longer than 16 bytes.
    pub(crate) fn from_integer(content: &[u8]) -> Option<Self> {
        let magnitude = match content {
            [first, ..] if first & 0x80 != 0 => return None,
            [0, rest @ ..] => rest,
            all => all,
        };
        let mut bytes = [0; 16];
        bytes.get_mut(16_usize.checked_sub(magnitude.len())?..)?.copy_from_slice(magnitude);
        Self::positive(bytes).ok()
    }

    fn positive(bytes: [u8; 16]) -> Result<Self, BadHex> {
        if bytes[0] & 0x80 != 0 || bytes == [0; 16] { Err(BadHex::NotPositive) } else { Ok(Self(bytes)) }
    }

    /// 32 lower-case hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        self.to_string()
    }

    /// The reverse of [`Serial::hex`].
    pub fn parse_hex(text: &str) -> Result<Self, BadHex> {
        Self::positive(read_hex(text)?)
    }

    /// The 16 bytes, most significant first.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(entropy: [u8; 16], want: &str) {
        let serial = Serial::from_entropy(entropy);
        assert_eq!(serial.hex(), want);
        assert_eq!(Serial::parse_hex(want), Ok(serial));
        assert_eq!(Serial::parse_hex(&want.to_uppercase()), Ok(serial));
        assert_eq!(Serial::from_integer(serial.as_bytes()), Some(serial));
    }

    #[test]
    fn always_positive() {
        check([0xff; 16], "7fffffffffffffffffffffffffffffff");
        check([0; 16], "00000000000000000000000000000001");
        check([0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "00000000000000000000000000000001");
        check([1; 16], "01010101010101010101010101010101");
    }

    #[track_caller]
    fn check_hex(text: &str, want: BadHex) {
        assert_eq!(Serial::parse_hex(text), Err(want));
    }

    #[test]
    fn bad_hex() {
        check_hex("", BadHex::Length { want: 32, found: 0 });
        check_hex("01", BadHex::Length { want: 32, found: 2 });
        check_hex(&"0".repeat(33), BadHex::Length { want: 32, found: 33 });
        check_hex(&format!("0g{}", "0".repeat(30)), BadHex::Digit { at: 1 });
        check_hex(&"0".repeat(32), BadHex::NotPositive);
        check_hex(&"f".repeat(32), BadHex::NotPositive);
        check_hex(&format!("é{}", "0".repeat(30)), BadHex::Digit { at: 0 });
    }

    #[track_caller]
    fn check_integer(content: &[u8], want: Option<&str>) {
        assert_eq!(Serial::from_integer(content).map(|s| s.hex()).as_deref(), want, "{content:02x?}");
    }

    #[test]
    fn integers_of_certificates() {
        check_integer(&[1], Some("00000000000000000000000000000001"));
        check_integer(&[0, 0x80], Some("00000000000000000000000000000080"));
        check_integer(&[0x80], None);
        check_integer(&[], None);
        check_integer(&[0], None);
        check_integer(&[1; 17], None);
        check_integer(&[0xff; 17], None);
    }
}
