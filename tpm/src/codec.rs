//! Bytes to values and back, as the TPM marshals them: numbers with the highest byte first, TPM2B buffers with their
//! size in two bytes before them. Every size is checked against what is left and against the most that is read.

use thiserror::Error;

/// Why bytes are not the structure that they should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum CodecError {
    #[error("the bytes end inside `{field}`")]
    Short { field: &'static str },
    #[error("`{field}` has {found} bytes and at most {most} are accepted")]
    TooLong { field: &'static str, found: usize, most: usize },
    #[error("`{field}` has {found} bytes and must have {want}")]
    Length { field: &'static str, found: usize, want: usize },
    #[error("{bytes} bytes follow `{field}`")]
    Trailing { field: &'static str, bytes: usize },
    #[error("`{field}` is {found:#06x}, which is not supported")]
    Unsupported { field: &'static str, found: u32 },
    #[error("`{field}` has a value that its specification does not allow")]
    Value { field: &'static str },
}

/// Reads from the front of a slice. Each method names the field for the error.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads these bytes.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What is not read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// That many bytes.
    pub fn bytes(&mut self, field: &'static str, len: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(CodecError::Short { field })?;
        self.rest = rest;
        Ok(taken)
    }

    /// As many bytes as the array has.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], CodecError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(CodecError::Short { field })?;
        self.rest = rest;
        Ok(*taken)
    }

    /// A UINT8.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, CodecError> {
        self.array(field).map(u8::from_be_bytes)
    }

    /// A UINT16.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, CodecError> {
        self.array(field).map(u16::from_be_bytes)
    }

    /// A UINT32.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, CodecError> {
        self.array(field).map(u32::from_be_bytes)
    }

    /// A UINT64.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, CodecError> {
        self.array(field).map(u64::from_be_bytes)
    }

    /// A TPM2B: its size, and that many bytes.
    pub fn sized(&mut self, field: &'static str, most: usize) -> Result<&'a [u8], CodecError> {
        let found = usize::from(self.u16(field)?);
        if found > most {
            return Err(CodecError::TooLong { field, found, most });
        }
        self.bytes(field, found)
    }

    /// That nothing is left.
    pub fn finish(self, field: &'static str) -> Result<(), CodecError> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(CodecError::Trailing { field, bytes }),
        }
    }
}

/// Appends values to bytes.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// A UINT16.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// A UINT32.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// The bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// A TPM2B: the size of the bytes, and the bytes.
    pub fn sized(&mut self, field: &'static str, bytes: &[u8]) -> Result<&mut Self, CodecError> {
        let size = u16::try_from(bytes.len());
        let size = size.map_err(|_| CodecError::TooLong { field, found: bytes.len(), most: u16::MAX.into() })?;
        Ok(self.u16(size).bytes(bytes))
    }

    /// What was written.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// The bytes in a TPM2B that is alone in these bytes.
pub fn unwrap_sized<'a>(field: &'static str, bytes: &'a [u8], most: usize) -> Result<&'a [u8], CodecError> {
    let mut reader = Reader::new(bytes);
    let inner = reader.sized(field, most)?;
    reader.finish(field)?;
    Ok(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        writer.u16(7).u32(70_000).sized("text", b"abc").unwrap().bytes(&[1, 2]);
        let bytes = writer.finish();
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.u16("a"), Ok(7));
        assert_eq!(reader.u32("b"), Ok(70_000));
        assert_eq!(reader.sized("text", 3), Ok(&b"abc"[..]));
        assert_eq!(reader.clone().finish("all"), Err(CodecError::Trailing { field: "all", bytes: 2 }));
        assert_eq!(reader.bytes("c", 2), Ok(&[1, 2][..]));
        assert_eq!(reader.finish("all"), Ok(()));
    }

    #[test]
    fn sizes_are_checked_before_bytes_are_taken() {
        assert_eq!(Reader::new(&[0, 4, 1, 2, 3]).sized("b", 9), Err(CodecError::Short { field: "b" }));
        let long = CodecError::TooLong { field: "b", found: 0xffff, most: 9 };
        assert_eq!(Reader::new(&[0xff, 0xff]).sized("b", 9), Err(long));
        assert_eq!(Reader::new(&[0]).u16("n"), Err(CodecError::Short { field: "n" }));
        assert!(Writer::default().sized("b", &vec![0; 65_536]).is_err());
        assert_eq!(unwrap_sized("b", &[0, 1, 5, 6], 9), Err(CodecError::Trailing { field: "b", bytes: 1 }));
    }
}
