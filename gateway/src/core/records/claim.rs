//! The value of a claim.

use serde::{Deserialize, Deserializer, Serialize};

/// A value claimed by an attestor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Claim {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Number(i64),
    /// Text.
    Text(String),
}

impl Claim {
    /// The claim as a person reads it.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Number(value) => value.to_string(),
            Self::Text(value) => value.clone(),
        }
    }
}

/// By the JSON type. (A derived implementation would try each variant in turn and make an error for each failure, and this is read on
/// every request.)
impl<'de> Deserialize<'de> for Claim {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct ClaimVisitor;
        impl serde::de::Visitor<'_> for ClaimVisitor {
            type Value = Claim;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("text, a whole number, true or false")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Claim, E> {
                Ok(Claim::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Claim, E> {
                Ok(Claim::Number(value))
            }

            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Claim, E> {
                i64::try_from(value).map(Claim::Number).map_err(E::custom)
            }

            fn visit_str<E>(self, value: &str) -> Result<Claim, E> {
                Ok(Claim::Text(value.to_owned()))
            }
        }
        from.deserialize_any(ClaimVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_read_back_as_they_were() {
        for claim in [Claim::Bool(true), Claim::Number(-7), Claim::Number(7), Claim::Text("7".into())] {
            let json = serde_json::to_string(&claim).unwrap();
            assert_eq!(serde_json::from_str::<Claim>(&json).unwrap(), claim, "{json}");
        }
        assert!(serde_json::from_str::<Claim>("[1]").is_err());
        assert!(serde_json::from_str::<Claim>("18446744073709551615").is_err());
    }
}
