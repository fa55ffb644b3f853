//! Which images a list lists: read as podman reads it (Go, `encoding/json`), and not as we want documents to be. Anybody
//! can push a document that is no list and that we would refuse; it must say nothing about other images.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Returns those of the `wanted` digests that a document lists, if it is one of which podman finds images (image/manifest,
/// `OCI1Index`, `Schema2List`). Memory is needed for what is wanted only.
///
/// A key can be there several times and be written in other letters or escapes. Go takes the last one, and with `null` it
/// forgets what it has read; a second list is read over the first, of which something can remain: both count here. What is
/// no JSON, or has a value of another type in such a place, podman cannot read either, and finds nothing by it.
pub(super) fn instances(raw: &[u8], wanted: &dyn Fn(&str) -> bool) -> HashSet<String> {
    let mut found = HashSet::new();
    // Strings that are taken as bytes may hold anything, in the reader below, but no control characters in Go's.
    if serde_json::from_slice::<IgnoredAny>(raw).is_err() {
        return found;
    }
    let mut reader = serde_json::Deserializer::from_slice(raw);
    let read = Document { wanted, found: &mut found }.deserialize(&mut reader).and_then(|()| reader.end());
    if read.is_ok() { found } else { HashSet::new() }
}

/// Returns all digests that a document lists, for tests that compare readers.
pub fn recorded_instances(raw: &[u8]) -> BTreeSet<String> {
    instances(raw, &|_| true).into_iter().collect()
}

/// Returns whether Go takes a key for this field: letters fold as Unicode's simple folding does (`foldName`).
fn is_field(key: &[u8], field: &str) -> bool {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    String::from_utf8_lossy(key).chars().map(fold).eq(field.chars())
}

/// A string as bytes: Go takes also what is no UTF-8, and half a surrogate pair.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, [u8]>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_bytes(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, [u8]>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(bytes))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Cow::Owned(bytes.to_owned()))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text.as_bytes()))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        self.visit_bytes(text.as_bytes())
    }
}

/// The same, or `null`.
struct TextOrNull;

impl<'de> DeserializeSeed<'de> for TextOrNull {
    type Value = Option<Cow<'de, [u8]>>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for TextOrNull {
    type Value = Option<Cow<'de, [u8]>>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string or null")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        Text.deserialize(reader).map(Some)
    }
}

/// A seed that is its own visitor and takes `null` for nothing.
macro_rules! read {
    ($part:ident: $what:literal, $null:expr, $($visit:tt)*) => {
        struct $part<'a> {
            wanted: &'a dyn Fn(&str) -> bool,
            found: &'a mut HashSet<String>,
        }

        impl<'de> DeserializeSeed<'de> for $part<'_> {
            type Value = ();

            fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
                reader.deserialize_any(self)
            }
        }

        impl<'de> Visitor<'de> for $part<'_> {
            type Value = ();

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str($what)
            }

            fn visit_unit<E>(self) -> Result<(), E> {
                let forget: fn(Self) = $null;
                forget(self);
                Ok(())
            }

            $($visit)*
        }
    };
}

read! { Document: "a list of images", |_| (),
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Text)? {
            if is_field(&key, "manifests") {
                map.next_value_seed(Manifests { wanted: self.wanted, found: &mut *self.found })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

read! { Manifests: "descriptors", |list| list.found.clear(),
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Descriptor { wanted: self.wanted, found: &mut *self.found })?.is_some() {}
        Ok(())
    }
}

read! { Descriptor: "a descriptor", |_| (),
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Text)? {
            if !is_field(&key, "digest") {
                map.next_value::<IgnoredAny>()?;
            } else if let Some(digest) = map.next_value_seed(TextOrNull)?
                && let Ok(digest) = std::str::from_utf8(&digest)
                && (self.wanted)(digest)
            {
                self.found.insert(digest.to_owned());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d18_a_list_is_read_as_go_reads_it() {
        let listed = |text: &[u8]| instances(text, &|digest| digest.len() == 1).into_iter().collect::<Vec<_>>();
        let text = |text: &str| listed(text.as_bytes());
        for good in [
            r#"{"manifests":[{"digest":"a"}]}"#,
            r#" {"MANIFESTS" : [null, {"size":1,"Digest":"a"}]} "#,
            r#"{"manifeſtſ":[{"dige\u017ft":"\u0061"}]}"#,
            "{\"\\u006danifests\":[{\"digest\":\"a\",\"digest\":null}]}",
            r#"{"manifests":null,"manifests":[{"digest":"a"}]}"#,
            r#"{"manifests":[{"digest":"a"}],"SUBJECT":null,"SUBJECT":{"x":1,"x":2}}"#,
            // What serde takes for no string, and Go does.
            r#"{"x":"\ud800","\ud800":1,"manifests":[{"x":"\udfff","digest":"a"}]}"#,
            r#"{"x":1e999,"manifests":[{"size":1e999,"digest":"a"}]}"#,
        ] {
            assert_eq!(text(good), ["a"], "{good}");
        }
        assert_eq!(listed(b"{\"\xff\":\"\xff\",\"manifests\":[{\"digest\":\"a\"}]}"), ["a"]);
        let deep = format!("{{\"x\":{}{},\"manifests\":[{{\"digest\":\"a\"}}]}}", "[".repeat(5000), "]".repeat(5000));
        assert_eq!(text(&deep), ["a"]);
        for none in [
            "",
            "null",
            "[]",
            "not JSON",
            r#"{"manifests":[{"digest":"a"}]} x"#,
            r#"{"manifests":[{"digest":"a"}],"manifests":null}"#,
            r#"{"manifests":[{"digest":"a"}],"manifestS":null}"#,
            "{\"manifests\":[{\"digest\":\"a\"}],\"a\nb\":1}",
            "{\"manifests\":[{\"digest\":\"a\"},{\"digest\":\"a\0\"}]}",
            // Other keys for Go, and other digests.
            r#"{"manİfests":[{"digest":"a"}],"manıfests":[{"digest":"a"}]}"#,
            r#"{"manifests":[{"dİgest":"a","annotations":{"digest":"a"},"digest":"ab"}]}"#,
            r#"{"x":{"manifests":[{"digest":"a"}]},"config":{"digest":"a"},"layers":[{"digest":"a"}]}"#,
            // Not what podman can read.
            r#"{"manifests":[7,{"digest":"a"}]}"#,
            r#"{"manifests":[{"digest":"a"},{"digest":7}]}"#,
            r#"{"manifests":[{"digest":"a"}],"Manifests":"\ud800"}"#,
            r#"{"manifests":{"digest":"a"}}"#,
            r#"{"manifests":[["a"],{"digest":"a"}]}"#,
        ] {
            assert_eq!(text(none), [""; 0], "{none}");
        }
    }
}
