//! PEM, the text form of certificates, lists and keys (RFC 7468).

use ::pem::{EncodeConfig, LineEnding, Pem};
use thiserror::Error;

/// Longest text read, in bytes: some hundreds of certificates, far more than any bundle of ours.
const TEXT_MAX: usize = 1024 * 1024;

/// Why a text is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum PemError {
    #[error("the text has {len} bytes and at most {TEXT_MAX} are read")]
    TooLong { len: usize },
    #[error("the text is not PEM: {0}")]
    Malformed(String),
    #[error("the text holds no `-----BEGIN {label}-----` block")]
    Missing { label: String },
}

/// One block with 64 characters a line, ending in a newline.
#[must_use]
pub fn to_pem(label: &str, der: &[u8]) -> String {
    // The hash of a bundle must not depend on the platform that wrote it.
    ::pem::encode_config(&Pem::new(label, der), EncodeConfig::new().set_line_ending(LineEnding::LF))
}

/// The blocks with this label, in order. Blocks with other labels and text between blocks are ignored (RFC 7468 2). It is an
/// error if there is no block with this label.
pub fn parse_pem(label: &str, text: &str) -> Result<Vec<Vec<u8>>, PemError> {
    if text.len() > TEXT_MAX {
        return Err(PemError::TooLong { len: text.len() });
    }
    let blocks = ::pem::parse_many(text).map_err(|e| PemError::Malformed(e.to_string()))?;
    let found: Vec<Vec<u8>> = blocks.into_iter().filter(|block| block.tag() == label).map(Pem::into_contents).collect();
    if found.is_empty() { Err(PemError::Missing { label: label.to_owned() }) } else { Ok(found) }
}

/// As [`parse_pem`], but each block by itself: one that cannot be read does not keep the others from being read.
///
/// # Errors
/// The text is too long, or has no block with this label.
pub fn parse_pem_each(label: &str, text: &str) -> Result<Vec<Result<Vec<u8>, PemError>>, PemError> {
    if text.len() > TEXT_MAX {
        return Err(PemError::TooLong { len: text.len() });
    }
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let block = |part: &str| {
        let (body, _) = part.split_once(&end).ok_or_else(|| PemError::Malformed(format!("`{end}` is missing")))?;
        let block = ::pem::parse(format!("{begin}{body}{end}")).map_err(|e| PemError::Malformed(e.to_string()))?;
        Ok(block.into_contents())
    };
    let found: Vec<Result<Vec<u8>, PemError>> = text.split(&begin).skip(1).map(block).collect();
    if found.is_empty() { Err(PemError::Missing { label: label.to_owned() }) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn round_trip() {
        let two = format!("a comment\n{}{}{}", to_pem("A", &[1; 60]), to_pem("B", &[2]), to_pem("A", &[3; 49]));
        assert_eq!(parse_pem("A", &two), Ok(vec![vec![1; 60], vec![3; 49]]));
        assert_eq!(parse_pem("B", &two), Ok(vec![vec![2]]));
        assert_eq!(parse_pem("A", &two.replace('\n', "\r\n")), Ok(vec![vec![1; 60], vec![3; 49]]));
        assert_eq!(to_pem("B", &[2]), "-----BEGIN B-----\nAg==\n-----END B-----\n");
    }

    #[test]
    fn refusals() {
        assert_eq!(parse_pem("A", ""), Err(PemError::Missing { label: "A".to_owned() }));
        assert_eq!(parse_pem("A", &to_pem("B", &[1])), Err(PemError::Missing { label: "A".to_owned() }));
        assert_eq!(parse_pem("A", &"x".repeat(TEXT_MAX + 1)), Err(PemError::TooLong { len: TEXT_MAX + 1 }));
        assert!(matches!(
            parse_pem("A", "-----BEGIN A-----\n!!!!\n-----END A-----\n"),
            Err(PemError::Malformed(_) | PemError::Missing { .. })
        ));
    }

    #[test]
    fn each_block_is_by_itself() {
        let (one, two) = (to_pem("A", &[1; 60]), to_pem("A", &[2; 60]));
        let bad = "-----BEGIN A-----\n!!!!\n-----END A-----\n";
        let open = "-----BEGIN A-----\nAg==\n";
        let text = format!("words\n{one}{bad}{}{open}{two}", to_pem("B", &[3]));
        let found = parse_pem_each("A", &text).unwrap();
        assert!(parse_pem("A", &text).is_err());
        assert_eq!((&found[0], &found[3], found.len()), (&Ok(vec![1; 60]), &Ok(vec![2; 60]), 4));
        assert!(found[1..3].iter().all(|block| matches!(block, Err(PemError::Malformed(_)))), "{found:?}");
        assert_eq!(parse_pem_each("A", "nothing"), Err(PemError::Missing { label: "A".to_owned() }));
        assert_eq!(parse_pem_each("A", &"x".repeat(TEXT_MAX + 1)), Err(PemError::TooLong { len: TEXT_MAX + 1 }));
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>()) {
            let _ = parse_pem("A", &text);
            let _ = parse_pem_each("A", &text);
        }

        #[test]
        fn whole_texts_are_read_alike(ders in proptest::collection::vec(any::<Vec<u8>>(), 1..4), between in "[ -,.-~\n]*") {
            let text: String = ders.iter().map(|der| to_pem("A", der) + &between + "\n").collect();
            let each: Result<Vec<_>, _> = parse_pem_each("A", &text).unwrap().into_iter().collect();
            assert_eq!(each, parse_pem("A", &text));
        }

        #[test]
        fn all_bytes_round_trip(der: Vec<u8>) { assert_eq!(parse_pem("A", &to_pem("A", &der)), Ok(vec![der])); }
    }
}
