//! The servers on which makers keep the certificates of their TPMs' endorsement keys: how a key is named there, and what they answer. The
//! firmware TPMs of AMD, and those of Intel before its 11th generation, hold none themselves.

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use serde::Deserialize;
use tpm::{HashAlgorithm, PublicKey};

/// The exponent of every RSA key of an EK, 65537.
const EXPONENT: [u8; 3] = [1, 0, 1];

/// Bytes of a digest that AMD uses.
const AMD_NAME_LEN: usize = 16;

/// A maker that keeps certificates on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// AMD.
    Amd,
    /// Intel.
    Intel,
}

impl Maker {
    /// By the name that the TPM gives its maker (TCG Vendor ID Registry).
    #[must_use]
    pub fn of_tpm(maker: &str) -> Option<Self> {
        match maker {
            "AMD" => Some(Self::Amd),
            "INTC" => Some(Self::Intel),
            _ => None,
        }
    }

    /// What the name of a key is appended to.
    #[must_use]
    pub const fn server(self) -> &'static str {
        match self {
            Self::Amd => "https://ftpm.amd.com/pki/aia/",
            Self::Intel => "https://ekop.intel.com/ekcertservice/",
        }
    }

    /// How a key is named in the URL: AMD, the first half of SHA-256 over a tag for the type, the exponent and the modulus or the
    /// coordinates, hex; Intel, SHA-256 over the modulus and the exponent or the coordinates, base64url.
    #[must_use]
    pub fn name(self, key: &PublicKey) -> String {
        let digest = |parts: &[&[u8]]| HashAlgorithm::Sha256.digest(parts);
        match (self, key) {
            (Self::Amd, PublicKey::Rsa { modulus, .. }) => amd(&digest(&[&[0, 0, 0x22, 0x22, 0], &EXPONENT, modulus])),
            (Self::Amd, PublicKey::Ecc { x, y, .. }) => amd(&digest(&[&[0, 0, 0x44, 0x44], x, y])),
            (Self::Intel, PublicKey::Rsa { modulus, .. }) => intel(&digest(&[modulus, &EXPONENT])),
            (Self::Intel, PublicKey::Ecc { x, y, .. }) => intel(&digest(&[x, y])),
        }
    }

    /// The certificate in an answer, DER.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn certificate(self, answer: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Amd => Ok(certificate(answer)),
            Self::Intel => {
                let answer: IntelAnswer = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
                let text = answer.certificate.replace("%3D", "=").replace("%3d", "=");
                let text = text.trim_end_matches('=');
                let der = URL_SAFE_NO_PAD.decode(text).map_err(|_| "its `certificate` is no base64url".to_owned())?;
                Ok(certificate(&der))
            }
        }
    }
}

/// What Intel's server answers. There is more in it.
#[derive(Deserialize)]
struct IntelAnswer {
    certificate: String,
}

fn amd(digest: &[u8]) -> String {
    hex::encode_upper(digest.get(..AMD_NAME_LEN).unwrap_or(digest))
}

fn intel(digest: &[u8]) -> String {
    URL_SAFE.encode(digest).replace('=', "%3D")
}

/// DER, also of what is PEM.
#[must_use]
pub fn certificate(bytes: &[u8]) -> Vec<u8> {
    let pem = std::str::from_utf8(bytes).ok().and_then(|text| pki::parse_pem("CERTIFICATE", text).ok());
    pem.and_then(|ders| ders.into_iter().next()).unwrap_or_else(|| bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys of real TPMs whose certificates are at these names.
    #[test]
    fn keys_have_the_names_that_the_servers_know() {
        let spki = |base64: &str| {
            let der = base64::engine::general_purpose::STANDARD.decode(base64).unwrap();
            PublicKey::from_spki_der(&der).unwrap()
        };
        let intel = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAwyDi8kSoYBqs8+AdJsZlJJk1Vi3h2hl+nn8HbEaWE8+2U+mOwsOG/B0TPyyMbMM4\
                     tzLwsgi9g4qHej5bvD4dQIToNcfIkGocBbTS0w/b68HbrZUPprFlvUtqhkYDFGFkwMT1nUiQEe8fko3upukAYfPTdeVkYnMVHvYiJSCYvhpK\
                     sB3AoSInxgn9rOsRWvQI1Gk6b0mRl3RpWwwSvBih/3EgpzN7L7XxlR2Lt/CU1bVUwRyVI7MHKf5keH0KE7nmMEiNq039hmNKUnDscvzFpE3G\
                     eajzKTjdgZfina6Dn1tMoPXeJ8lSLCPFThws5XhZUlEYvURwsYGA7veK5CZ7zQIDAQAB";
        assert_eq!(Maker::Intel.name(&spki(intel)), "WVEG2rRwkQ7m3RpXlUphgo6Y2HLxl18h6ZZkkOAdnBE%3D");
        let amd = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAo8ID3MRLZQWgq2WIK1qTe2HQxzZgiDWn6Tzw6uQOoXI1iyO9pxIailRxll2NeK1l\
                   RVP/dEKCV+mGwv75T+y2MmzpFhUY/O5RtEG8TiocDw6WkHRAJ9A9h1OMP+vD3mPClNoA9/ssB36/0ScmVtYR0gRkL+cZkAT6qro7xz4eRKLt\
                   8KfX6OG/Y9kCfJsKDCtYbc4OavHSf11VgbBLtxm7jSVE+pnO+x/om6qwACjZbU4qrq4PUbAxD1S9dJ2cZzKaYSsCA8wMIho0umYa3jGveptu\
                   nXDcE993BlsUGjLNbXC4aWVEtgo9yu98gKqhYGFEx7Mtk5NYOvWoNvcUBe2L2QIDAQAB";
        assert_eq!(Maker::Amd.name(&spki(amd)), "D027B3CE6A9B6B56846D2B9935884A88");
    }

    #[test]
    fn coordinates_have_names_too() {
        let key = PublicKey::Ecc { curve: tpm::Curve::P256, x: vec![7; 32], y: vec![9; 32] };
        let both = [[7; 32], [9; 32]].concat();
        let digest = HashAlgorithm::Sha256.digest(&[&both]);
        assert_eq!(Maker::Intel.name(&key), URL_SAFE_NO_PAD.encode(digest) + "%3D");
        let digest = HashAlgorithm::Sha256.digest(&[&[0, 0, 0x44, 0x44], &both]);
        assert_eq!(Maker::Amd.name(&key), hex::encode_upper(&digest[..16]));
    }

    #[test]
    fn answers_are_read_as_each_server_writes_them() {
        let der = vec![0x30, 3, 2, 1, 0xfb];
        assert_eq!(Maker::Amd.certificate(&der), Ok(der.clone()));
        assert_eq!(Maker::Amd.certificate(pki::to_pem("CERTIFICATE", &der).as_bytes()), Ok(der.clone()));
        for text in ["MAMCAfs", "MAMCAfs=", "MAMCAfs%3D"] {
            let answer = format!(r#"{{"pubhash":"x","certificate":"{text}"}}"#);
            assert_eq!(Maker::Intel.certificate(answer.as_bytes()), Ok(der.clone()), "{text}");
        }
        for answer in ["", "<html>", "{}", r#"{"certificate":"no base64!"}"#] {
            assert!(Maker::Intel.certificate(answer.as_bytes()).is_err(), "{answer}");
        }
        assert_eq!(
            (Maker::of_tpm("AMD"), Maker::of_tpm("INTC"), Maker::of_tpm("IFX")),
            (Some(Maker::Amd), Some(Maker::Intel), None)
        );
    }
}
