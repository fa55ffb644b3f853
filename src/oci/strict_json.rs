//! JSON as a verifier must read it: one meaning for one byte string.

use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::error::{Case, Refusal, Result};

/// Reads `bytes` as a `T`, refusing what two readers could understand in two ways: duplicate keys,
/// byte order marks, invalid UTF-8, trailing bytes (RFC 8259 section 4; CVE-2021-41190's class).
///
/// # Errors
/// [`Case::D14Json`] if it is not strict JSON, or not of `T`'s shape.
pub fn parse<T: DeserializeOwned>(bytes: &[u8], subject: &str) -> Result<T> {
    let value = value(bytes, subject)?;
    serde_json::from_value(value).map_err(|e| Refusal::new(Case::D14Json, subject, e))
}

/// Reads `bytes` like [`parse`], as an untyped value.
///
/// # Errors
/// [`Case::D14Json`] if it is not strict JSON.
pub fn value(bytes: &[u8], subject: &str) -> Result<Value> {
    let refuse = |e: &dyn fmt::Display| Refusal::new(Case::D14Json, subject, e);
    let text = std::str::from_utf8(bytes).map_err(|e| refuse(&e))?;
    let mut de = serde_json::Deserializer::from_str(text);
    let value = Strict.deserialize(&mut de).map_err(|e| refuse(&e))?;
    de.end().map_err(|e| refuse(&e))?;
    Ok(value)
}

struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, de: D) -> std::result::Result<Value, D::Error> {
        de.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, v: bool) -> std::result::Result<Value, E> {
        Ok(v.into())
    }

    fn visit_i64<E>(self, v: i64) -> std::result::Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> std::result::Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E>(self, v: f64) -> std::result::Result<Value, E> {
        Ok(v.into())
    }

    fn visit_str<E>(self, v: &str) -> std::result::Result<Value, E> {
        Ok(v.into())
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Self)? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(Self)?;
            if object.contains_key(&key) {
                return Err(serde::de::Error::custom(format!("the key {key:?} occurs twice")));
            }
            object.insert(key, value);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d14_ambiguous_json_is_refused() {
        assert!(value(br#"{"a":1,"b":[{"c":null}]}"#, "x").is_ok());
        for bad in [
            &br#"{"a":1,"a":2}"#[..],
            br#"{"x":{"a":1,"a":1}}"#,
            br#"[{"a":1,"\u0061":1}]"#,
            b"\xef\xbb\xbf{}",
            b"{\"a\":\"\xff\"}",
            br#"{"a":NaN}"#,
            br#"{"a":1} x"#,
            br#"{"a":1e999}"#,
            b"",
        ] {
            assert_eq!(value(bad, "x").unwrap_err().case(), Case::D14Json, "{bad:?}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(value(deep.as_bytes(), "x").unwrap_err().case(), Case::D14Json);
    }
}
