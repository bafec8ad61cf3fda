//! Values of other crates in records: as the text that is shown for them.

use std::fmt;

use pki::{Assurance, KeyDigest, Role, Serial};
use serde::{
    Deserializer, Serializer,
    de::{Error, Visitor},
};

pub mod role {
    use super::{Deserializer, Role, Serializer, parsed};

    pub fn serialize<S: Serializer>(role: &Role, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(role.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Role, D::Error> {
        parsed(from, |text| Role::parse(text).ok())
    }
}

pub mod digest {
    use super::{Deserializer, KeyDigest, Serializer, parsed};

    pub fn serialize<S: Serializer>(digest: &KeyDigest, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&digest.hex())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<KeyDigest, D::Error> {
        parsed(from, |text| KeyDigest::parse_hex(text).ok())
    }
}

pub mod serial {
    use super::{Deserializer, Serial, Serializer, parsed};

    pub fn serialize<S: Serializer>(serial: &Serial, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&serial.hex())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Serial, D::Error> {
        parsed(from, |text| Serial::parse_hex(text).ok())
    }
}

/// Of a key of which nothing else was proven.
pub const fn of_a_key() -> Assurance {
    Assurance::SOFTWARE
}

pub mod assurance {
    use super::{Assurance, Deserializer, Serializer, parsed};

    pub fn serialize<S: Serializer>(assurance: &Assurance, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(assurance)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Assurance, D::Error> {
        parsed(from, |text| Assurance::parse(text).ok())
    }
}

pub mod nonce {
    use super::{Deserializer, Serializer, parsed};

    pub fn serialize<S: Serializer>(nonce: &[u8; 16], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(nonce))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 16], D::Error> {
        parsed(from, |text| hex::decode(text).ok()?.try_into().ok())
    }
}

pub mod base64_bytes {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::{Deserializer, Serializer, parsed};

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        parsed(from, |text| STANDARD.decode(text).ok())
    }
}

/// Parses a text where it stands: a copy of each would be most of the allocations of reading a record.
fn parsed<'de, T, D: Deserializer<'de>>(from: D, parse: impl Fn(&str) -> Option<T>) -> Result<T, D::Error> {
    struct Text<P>(P);

    impl<T, P: Fn(&str) -> Option<T>> Visitor<'_> for Text<P> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            (self.0)(text).ok_or_else(|| E::custom(format!("`{text}` is not a {}", std::any::type_name::<T>())))
        }
    }

    from.deserialize_str(Text(parse))
}
