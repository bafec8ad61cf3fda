//! Values of other crates in records: as the text that is shown for them.

use pki::{Assurance, KeyDigest, Role, Serial};
use serde::{Deserialize, Deserializer, Serializer};

pub mod role {
    use super::{Deserialize, Deserializer, Role, Serializer, parsed};

    pub fn serialize<S: Serializer>(role: &Role, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(role.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Role, D::Error> {
        parsed(&String::deserialize(from)?, |text| Role::parse(text).ok())
    }
}

pub mod digest {
    use super::{Deserialize, Deserializer, KeyDigest, Serializer, parsed};

    pub fn serialize<S: Serializer>(digest: &KeyDigest, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&digest.hex())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<KeyDigest, D::Error> {
        parsed(&String::deserialize(from)?, |text| KeyDigest::parse_hex(text).ok())
    }
}

pub mod serial {
    use super::{Deserialize, Deserializer, Serial, Serializer, parsed};

    pub fn serialize<S: Serializer>(serial: &Serial, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&serial.hex())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Serial, D::Error> {
        parsed(&String::deserialize(from)?, |text| Serial::parse_hex(text).ok())
    }
}

/// Of a key of which nothing else was proven.
pub const fn of_a_key() -> Assurance {
    Assurance::SOFTWARE
}

pub mod assurance {
    use super::{Assurance, Deserialize, Deserializer, Serializer, parsed};

    pub fn serialize<S: Serializer>(assurance: &Assurance, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(assurance)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Assurance, D::Error> {
        parsed(&String::deserialize(from)?, |text| Assurance::parse(text).ok())
    }
}

pub mod nonce {
    use super::{Deserialize, Deserializer, Serializer, parsed};

    pub fn serialize<S: Serializer>(nonce: &[u8; 16], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(nonce))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 16], D::Error> {
        parsed(&String::deserialize(from)?, |text| hex::decode(text).ok()?.try_into().ok())
    }
}

pub mod base64_bytes {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::{Deserialize, Deserializer, Serializer, parsed};

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        parsed(&String::deserialize(from)?, |text| STANDARD.decode(text).ok())
    }
}

fn parsed<T, E: serde::de::Error>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, E> {
    parse(text).ok_or_else(|| E::custom(format!("`{text}` is not a {}", std::any::type_name::<T>())))
}
