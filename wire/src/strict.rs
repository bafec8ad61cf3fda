//! Reads JSON as serde does, with two exceptions. A struct is never read from an array of its field values: readers that know
//! different fields would disagree about such a text, and an empty array would be a request with every default. And no member of an
//! object is given twice, of a map no more than of a struct: readers disagree about which of the two counts (RFC 8259 4).

use std::{collections::BTreeSet, fmt, marker::PhantomData};

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};

/// Reads all of `bytes`.
///
/// # Errors
/// Invalid JSON, a type mismatch, a repeated member, or an array instead of an object; with line and column.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = T::deserialize(Strict(&mut reader))?;
    reader.end()?;
    Ok(value)
}

/// Wraps a deserializer, seed or access at every level, and refuses a struct in array form.
struct Strict<T>(T);

/// Refuses what `takes` excludes, and passes the rest to `visitor`.
struct Strictly<V> {
    visitor: V,
    takes: Takes,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Takes {
    Anything,
    /// Anything but an array: the target is a struct.
    NoArray,
}

const fn any<V>(visitor: V) -> Strictly<V> {
    Strictly { visitor, takes: Takes::Anything }
}

const fn object<V>(visitor: V) -> Strictly<V> {
    Strictly { visitor, takes: Takes::NoArray }
}

macro_rules! forward {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method(any(visitor))
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<D> {
    type Error = D::Error;

    forward! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64
        deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf deserialize_option
        deserialize_unit deserialize_seq deserialize_map deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_unit_struct(name, any(visitor))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_newtype_struct(name, any(visitor))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple(len, any(visitor))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple_struct(name, len, any(visitor))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_struct(name, fields, object(visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_enum(name, variants, any(visitor))
    }
}

macro_rules! visit {
    ($($method:ident: $kind:ty),* $(,)?) => {
        $(fn $method<E: Error>(self, value: $kind) -> Result<V::Value, E> {
            self.visitor.$method(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Strictly<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    visit! {
        visit_bool: bool, visit_i8: i8, visit_i16: i16, visit_i32: i32, visit_i64: i64, visit_i128: i128,
        visit_u8: u8, visit_u16: u16, visit_u32: u32, visit_u64: u64, visit_u128: u128, visit_f32: f32, visit_f64: f64,
        visit_char: char, visit_str: &str, visit_borrowed_str: &'de str, visit_string: String,
        visit_bytes: &[u8], visit_borrowed_bytes: &'de [u8], visit_byte_buf: Vec<u8>,
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_some(Strict(inner))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_newtype_struct(Strict(inner))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        match self.takes {
            Takes::Anything => self.visitor.visit_seq(Strict(access)),
            Takes::NoArray => Err(A::Error::invalid_type(Unexpected::Seq, &"an object")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        match self.takes {
            Takes::Anything => self.visitor.visit_map(Members { access, seen: BTreeSet::new() }),
            // Its fields are known, and serde refuses one that is repeated.
            Takes::NoArray => self.visitor.visit_map(Strict(access)),
        }
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_enum(Strict(access))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Strict<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Strict(inner))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Strict(seed))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(Strict(seed))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(Strict(seed))
    }
}

/// The members of a map, each name once.
struct Members<A> {
    access: A,
    seen: BTreeSet<String>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Members<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let Some(name) = self.access.next_key_seed(PhantomData::<String>)? else { return Ok(None) };
        if !self.seen.insert(name.clone()) {
            return Err(A::Error::custom(format_args!("duplicate member `{}`", name.escape_debug())));
        }
        seed.deserialize(name.into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.access.next_value_seed(Strict(seed))
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for Strict<A> {
    type Error = A::Error;
    type Variant = Strict<A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        self.0.variant_seed(Strict(seed)).map(|(value, variant)| (value, Strict(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.0.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.0.newtype_variant_seed(Strict(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.0.tuple_variant(len, any(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.0.struct_variant(fields, object(visitor))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fmt::Debug};

    use serde::{Deserialize, Serialize};
    use serde_json::{Value, json};

    use super::*;
    use crate::{admin, enroll, evidence, manage, ssh};

    /// An object is accepted; an array of its values, in any order, or an empty array is refused.
    #[track_caller]
    fn check<T: DeserializeOwned + Debug>(sample: &Value) {
        let name = std::any::type_name::<T>();
        from_slice::<T>(sample.to_string().as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let values: Vec<Value> = sample.as_object().unwrap().values().cloned().collect();
        for array in [json!([]), Value::Array(values), json!([null]), json!(["a", "b", "c"])] {
            let says = from_slice::<T>(array.to_string().as_bytes()).unwrap_err().to_string();
            assert!(says.contains("invalid type: sequence, expected an object"), "{name}: {says}");
        }
        for with_another in with_unknown_member(sample) {
            let says = from_slice::<T>(with_another.to_string().as_bytes()).unwrap_err().to_string();
            assert!(says.contains("unknown field `another`"), "{name}: {says}");
        }
    }

    /// The value with an unknown member in each of its objects, one at a time.
    fn with_unknown_member(value: &Value) -> Vec<Value> {
        match value {
            Value::Object(object) => {
                let mut here = object.clone();
                here.insert("another".to_owned(), json!(1));
                let within = object.iter().flat_map(|(name, member)| {
                    with_unknown_member(member).into_iter().map(|changed| {
                        let mut copy = object.clone();
                        copy.insert(name.clone(), changed);
                        Value::Object(copy)
                    })
                });
                [Value::Object(here)].into_iter().chain(within).collect()
            }
            Value::Array(items) => {
                let changed = items.iter().enumerate().flat_map(|(at, item)| {
                    with_unknown_member(item).into_iter().map(move |changed| {
                        let mut copy = items.clone();
                        copy[at] = changed;
                        Value::Array(copy)
                    })
                });
                changed.collect()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => vec![],
        }
    }

    macro_rules! requests {
        ($($kind:ty: $sample:tt),* $(,)?) => {{
            $(check::<$kind>(&json!($sample));)*
            [$(stringify!($kind)),*]
        }};
    }

    #[test]
    fn no_request_is_read_from_an_array() {
        let known = requests! {
            enroll::EnrollRequest: { "csr": "x", "evidence": [{ "kind": "k", "body": "b" }] },
            enroll::Evidence: { "kind": "k", "body": "b" },
            evidence::PriorCertificate: { "certificate": "c", "signature": "s" },
            manage::RenewRequest: { "csr": "x", "evidence": [{ "kind": "k", "body": "b" }] },
            manage::SealedRequest: { "csr": "x" },
            ssh::SshRequest: { "public_key": "k", "signature": "s" },
            admin::ApproveRequest: { "unchecked": true },
            admin::ReasonRequest: { "reason": "r" },
            admin::RenewalsRequest: { "all": true },
            admin::ReportRequest: { "tool": "t", "started": 1, "finished": 2, "ok": 0, "changed": 0, "failed": 0,
                "unreachable": 0, "skipped": 0 },
            admin::LockRequest: { "kind": "machine", "target": "m", "reason": "r" },
            admin::TokenRequest: {},
            admin::CanIRequest: { "action": "read" },
            admin::OffboardRequest: { "to": "p" },
            admin::MachineChange: {},
            admin::PersonChange: {},
        };
        // Every type that refuses unknown fields is a request, and must be in the list above.
        let sources = [
            include_str!("enroll.rs"),
            include_str!("evidence.rs"),
            include_str!("manage.rs"),
            include_str!("ssh.rs"),
            include_str!("admin/locks.rs"),
            include_str!("admin/record.rs"),
            include_str!("admin/requests.rs"),
            include_str!("admin/sessions.rs"),
            include_str!("admin/subjects.rs"),
            include_str!("admin/tokens.rs"),
        ];
        for source in sources {
            for rest in source.split("#[serde(deny_unknown_fields)]").skip(1) {
                let name = rest.split("pub struct ").nth(1).and_then(|rest| rest.split([' ', '<']).next()).unwrap();
                assert!(
                    known
                        .iter()
                        .any(|known| known.ends_with(&format!(":: {name}")) || known.ends_with(&format!("::{name}"))),
                    "{name}"
                );
            }
        }
        let nested = r#"{"csr":"x","evidence":[["join-token","x"]]}"#;
        assert!(from_slice::<enroll::EnrollRequest>(nested.as_bytes()).is_err());
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Kind {
        Unit,
        New(u8),
        Two(u8, bool),
        Named { a: u8 },
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Everything {
        text: String,
        numbers: (i64, u64, f64),
        list: Vec<Kind>,
        map: BTreeMap<String, Option<bool>>,
        any: Value,
        unit: (),
    }

    #[test]
    fn everything_else_is_read_as_serde_reads_it() {
        let value = Everything {
            text: "\u{e4}\n".to_owned(),
            numbers: (-1, u64::MAX, 1.5),
            list: vec![Kind::Unit, Kind::New(1), Kind::Two(2, true), Kind::Named { a: 3 }],
            map: BTreeMap::from([("x".to_owned(), None), ("y".to_owned(), Some(true))]),
            any: json!([[], {}, null]),
            unit: (),
        };
        let text = serde_json::to_vec(&value).unwrap();
        assert_eq!(from_slice::<Everything>(&text).unwrap(), value);
        assert!(from_slice::<Kind>(br#"{"Named":[3]}"#).is_err());
        assert!(from_slice::<Kind>(br#"{"Named":{"a":3}} x"#).is_err());
        assert!(from_slice::<Value>(br"{").is_err());
    }

    #[test]
    fn no_member_of_a_map_is_given_twice() {
        for text in [
            r#"{"csr":"x","attributes":{"a":"1","a":"2"}}"#,
            r#"{"csr":"x","attributes":{"a":"1","\u0061":"1"}}"#,
            r#"{"csr":"x","attributes":{},"attributes":{}}"#,
        ] {
            let says = from_slice::<enroll::EnrollRequest>(text.as_bytes()).unwrap_err().to_string();
            assert!(says.starts_with("duplicate "), "{text}: {says}");
        }
        let says = from_slice::<Value>(br#"[{"a":{"b":1,"b":1}}]"#).unwrap_err().to_string();
        assert!(says.starts_with("duplicate member `b`"), "{says}");
        let once = from_slice::<enroll::EnrollRequest>(br#"{"csr":"x","attributes":{"a":"1","b":"1"}}"#).unwrap();
        assert_eq!(once.attributes.len(), 2);
    }
}
