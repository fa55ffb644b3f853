//! JSON that a program in Go, such as podman, reads too: if its reader and ours could take two keys for one, or one for
//! two, the document is refused.
//!
//! Go finds the field of a struct by its name, or, if no field has that name, by one that folds to it; and of several
//! such keys the last one counts. `encoding/json`, which reads manifests and configs, folds as Unicode does
//! (`foldName`: `ſ` is an s, `K` a k); the reader of containers-storage's records (json-iterator) converts a whole key
//! to lower case, which makes `İ` an i. All of that is folded here, whichever program reads: whoever writes such a key
//! wants to be read in two ways. Keys of maps are taken as they are. A list in the place of a struct, which serde would
//! fill from it in order, is refused too.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::error::{Case, Refusal, Result};

/// What a program in Go reads from a value.
#[derive(Debug)]
pub enum GoShape {
    /// A value whose keys do not matter.
    Any,
    /// A struct with these fields.
    Struct(&'static [(&'static str, &'static GoShape)]),
    /// A list of such values, or a map to them with any keys.
    Each(&'static GoShape),
}

/// The platform of a descriptor (image-spec, image-index.md).
const PLATFORM: GoShape = GoShape::Struct(&[
    ("architecture", &GoShape::Any),
    ("os", &GoShape::Any),
    ("os.version", &GoShape::Any),
    ("os.features", &GoShape::Any),
    ("variant", &GoShape::Any),
]);

/// A descriptor (image-spec, descriptor.md).
const DESCRIPTOR: GoShape = GoShape::Struct(&[
    ("mediaType", &GoShape::Any),
    ("digest", &GoShape::Any),
    ("size", &GoShape::Any),
    ("urls", &GoShape::Any),
    ("annotations", &GoShape::Any),
    ("data", &GoShape::Any),
    ("platform", &PLATFORM),
    ("artifactType", &GoShape::Any),
]);

/// A manifest or an index, of OCI and of Docker.
pub const MANIFEST: GoShape = GoShape::Struct(&[
    ("schemaVersion", &GoShape::Any),
    ("mediaType", &GoShape::Any),
    ("artifactType", &GoShape::Any),
    ("config", &DESCRIPTOR),
    ("layers", &GoShape::Each(&DESCRIPTOR)),
    ("manifests", &GoShape::Each(&DESCRIPTOR)),
    ("subject", &DESCRIPTOR),
    ("annotations", &GoShape::Any),
]);

/// An image's config (image-spec, config.md). The content of `config` itself is for podman to read, and is signed.
pub const CONFIG: GoShape = GoShape::Struct(&[
    ("created", &GoShape::Any),
    ("author", &GoShape::Any),
    ("architecture", &GoShape::Any),
    ("variant", &GoShape::Any),
    ("os", &GoShape::Any),
    ("os.version", &GoShape::Any),
    ("os.features", &GoShape::Any),
    ("config", &GoShape::Any),
    ("rootfs", &GoShape::Struct(&[("type", &GoShape::Any), ("diff_ids", &GoShape::Any)])),
    ("history", &GoShape::Any),
]);

/// Looks for keys that Go takes for others, in a document as it was received.
///
/// # Errors
/// [`Case::B13Folded`], [`Case::B01Records`] for a list in the place of a struct. What is not JSON at all is no error
/// here: whoever parses it afterwards reports that.
pub fn check(bytes: &[u8], shape: &GoShape, subject: &str) -> Result<()> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    run(shape, (subject, Case::B01Records), |seed| seed.deserialize(&mut reader).is_ok())
}

/// Looks for such keys in a document that was parsed.
///
/// # Errors
/// [`Case::B13Folded`], [`Case::D14Json`] for a list in the place of a struct.
pub fn check_value(value: &Value, shape: &GoShape, subject: &str) -> Result<()> {
    run(shape, (subject, Case::D14Json), |seed| seed.deserialize(value).is_ok())
}

fn run(shape: &GoShape, (subject, case): (&str, Case), read: impl FnOnce(Keys<'_>) -> bool) -> Result<()> {
    let found = Cell::new(None);
    read(Keys { shape, found: &found });
    match found.take() {
        Some(GoMismatch::Key(key, known)) => {
            Err(Refusal::new(Case::B13Folded, subject, format!("{key:?} is read as {known:?}")))
        }
        Some(GoMismatch::List) => Err(Refusal::new(case, subject, "a list in the place of an object")),
        None => Ok(()),
    }
}

/// What is wrong with a document.
enum GoMismatch {
    /// This key is read as that one.
    Key(String, &'static str),
    /// A list in the place of a struct.
    List,
}

#[derive(Clone, Copy)]
struct Keys<'a> {
    shape: &'a GoShape,
    found: &'a Cell<Option<GoMismatch>>,
}

impl<'de> DeserializeSeed<'de> for Keys<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> std::result::Result<(), D::Error> {
        match self.shape {
            GoShape::Any => reader.deserialize_ignored_any(IgnoredAny).map(|_| ()),
            _ => reader.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Keys<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    // A value of a different kind than Go expects is an error there, and is found elsewhere here.
    fn visit_bool<E>(self, _: bool) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<(), A::Error> {
        let shape = match self.shape {
            // serde fills the fields of a struct from a list in order, but Go does not.
            GoShape::Struct(_) => {
                self.found.set(Some(GoMismatch::List));
                return Err(A::Error::custom("a list in the place of an object"));
            }
            GoShape::Each(shape) => *shape,
            GoShape::Any => &GoShape::Any,
        };
        while seq.next_element_seed(Keys { shape, ..self })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let shape = match self.shape {
                GoShape::Struct(fields) => {
                    let exact = fields.iter().find(|(known, _)| *known == key);
                    let folded = || fields.iter().find(|(known, _)| folds(&key, known));
                    if let (None, Some((known, _))) = (exact, folded()) {
                        self.found.set(Some(GoMismatch::Key(key, known)));
                        return Err(A::Error::custom("a key that is read as another"));
                    }
                    exact.map_or(&GoShape::Any, |(_, shape)| *shape)
                }
                GoShape::Each(shape) => *shape,
                GoShape::Any => &GoShape::Any,
            };
            map.next_value_seed(Keys { shape, ..self })?;
        }
        Ok(())
    }
}

/// Returns whether Go takes one for the other. The names of fields are ASCII.
pub fn folds(key: &str, known: &str) -> bool {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        '\u{130}' => 'i',
        other => other.to_ascii_lowercase(),
    };
    key.chars().map(fold).eq(known.chars().map(fold))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b13_keys_that_go_takes_for_others_are_refused() {
        let case = |text: &str, shape: &GoShape| {
            let read = check(text.as_bytes(), shape, "x").map_err(|r| r.case());
            if let Ok(value) = serde_json::from_str::<Value>(text) {
                let of_value = check_value(&value, shape, "x").map_err(|r| r.case());
                assert_eq!(of_value.map_err(|c| if c == Case::D14Json { Case::B01Records } else { c }), read, "{text}");
            }
            read
        };
        for good in [
            r#"{"config":{"digest":"x","annotations":{"Digest":"y","digest":"z"}},"layers":[{"size":1}]}"#,
            r#"{"unheard":{"Config":1},"configs":1}"#,
            r#"{"config":"Digest"}"#,
            "7",
            "not JSON",
        ] {
            assert_eq!(case(good, &MANIFEST), Ok(()), "{good}");
        }
        for bad in [
            r#"{"config":{},"Config":{}}"#,
            r#"{"CONFIG":{}}"#,
            r#"{"mediatype":""}"#,
            "{\"\\u0043onfig\":{}}",
            r#"{"config":{"digest":"x","digeſt":"y"}}"#,
            "{\"config\":{\"dige\\u017ft\":\"y\"}}",
            r#"{"layers":[{"digest":"x"},{"diGest":"x"}]}"#,
            r#"{"manifests":[{"platform":{"OS":"x"}}]}"#,
            r#"{"ſubject":{}}"#,
            // Reported before what is wrong with the rest.
            r#"{"Layers":[] ... "#,
        ] {
            assert_eq!(case(bad, &MANIFEST), Err(Case::B13Folded), "{bad}");
        }
        // serde accepts a list as a struct.
        for list in ["[]", r#"{"config":["application/vnd.oci.image.config.v1+json","sha256:00",1]}"#] {
            assert_eq!(case(list, &MANIFEST), Err(Case::B01Records), "{list}");
        }
        const KEYS: GoShape = GoShape::Each(&GoShape::Struct(&[("key", &GoShape::Any), ("id", &GoShape::Any)]));
        assert_eq!(case(r#"[{"Key":1}]"#, &KEYS), Err(Case::B13Folded));
        assert_eq!(case(r#"[{"İd":1}]"#, &KEYS), Err(Case::B13Folded));
        // Capital letters that do not fold to one of ours.
        assert_eq!(case(r#"[{"Κey":1,"ıd":1,"ķey":1}]"#, &KEYS), Ok(()));
    }
}
