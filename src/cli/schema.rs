//! Types of JSON documents that describe themselves: docs/json.md is made from them, and a test compares them with what
//! the verbs print.

use std::collections::BTreeMap;

/// The version of all documents. A new version removes a field or changes the meaning of one; an added field does not
/// change the version.
pub const VERSION: u32 = 1;

/// What a value may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer,
    /// A text.
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Any number of these.
    List(Box<Shape>),
    /// One of each of these.
    Tuple(Vec<Shape>),
    /// Values by names that are not known beforehand.
    Map(Box<Shape>),
    /// `null`, or this.
    Optional(Box<Shape>),
    /// An object with its name.
    Object(Object),
}

/// What an object holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What it is called.
    pub name: &'static str,
    /// What it is.
    pub doc: String,
    /// Its fields.
    pub fields: Vec<Field>,
}

/// A field of an object; each is always there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its key.
    pub name: &'static str,
    /// What it is.
    pub doc: String,
    /// What its value may be.
    pub shape: Shape,
}

/// A type whose shape is known.
pub trait Described {
    /// Returns what its values may be.
    fn shape() -> Shape;
}

impl Described for bool {
    fn shape() -> Shape {
        Shape::Boolean
    }
}

impl Described for String {
    fn shape() -> Shape {
        Shape::Text
    }
}

impl Described for &str {
    fn shape() -> Shape {
        Shape::Text
    }
}

macro_rules! integers {
    ($($type:ty)*) => { $(
        impl Described for $type {
            fn shape() -> Shape {
                Shape::Integer
            }
        }
    )* };
}

integers!(u8 u32 i32 u64 i64 usize);

impl<T: Described> Described for Option<T> {
    fn shape() -> Shape {
        Shape::Optional(Box::new(T::shape()))
    }
}

impl<T: Described> Described for Vec<T> {
    fn shape() -> Shape {
        Shape::List(Box::new(T::shape()))
    }
}

impl<A: Described, B: Described> Described for (A, B) {
    fn shape() -> Shape {
        Shape::Tuple(vec![A::shape(), B::shape()])
    }
}

impl<K, T: Described> Described for BTreeMap<K, T> {
    fn shape() -> Shape {
        Shape::Map(Box::new(T::shape()))
    }
}

/// Objects: structures in which every field has a description, which becomes the documentation of the JSON.
macro_rules! objects {
    ($(
        $(#[doc = $doc:literal])+
        pub struct $name:ident {
            $($(#[doc = $field_doc:literal])+ pub $field:ident: $type:ty,)*
        }
    )*) => { $(
        $(#[doc = $doc])+
        #[derive(Debug, serde::Serialize)]
        pub struct $name {
            $($(#[doc = $field_doc])+ pub $field: $type,)*
        }

        impl $crate::cli::schema::Described for $name {
            fn shape() -> $crate::cli::schema::Shape {
                use $crate::cli::schema::{Field, Object, Shape, text};
                let fields = vec![$(Field {
                    name: stringify!($field),
                    doc: text(&[$($field_doc),+]),
                    shape: <$type as $crate::cli::schema::Described>::shape(),
                },)*];
                Shape::Object(Object { name: stringify!($name), doc: text(&[$($doc),+]), fields })
            }
        }
    )* };
}

/// Words: enumerations whose values are one of a few texts.
macro_rules! words {
    ($(
        $(#[doc = $doc:literal])+
        pub enum $name:ident {
            $($(#[doc = $word_doc:literal])+ $variant:ident = $word:literal,)*
        }
    )*) => { $(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
        pub enum $name {
            $($(#[doc = $word_doc])+ #[serde(rename = $word)] $variant,)*
        }

        impl $crate::cli::schema::Described for $name {
            fn shape() -> $crate::cli::schema::Shape {
                $crate::cli::schema::Shape::Word(&[$($word),*])
            }
        }
    )* };
}

/// The shape of enumerations that are defined elsewhere, by the words that serde gives them.
macro_rules! words_of {
    ($($type:ty: $($word:literal)|+;)*) => { $(
        impl $crate::cli::schema::Described for $type {
            fn shape() -> $crate::cli::schema::Shape {
                $crate::cli::schema::Shape::Word(&[$($word),+])
            }
        }
    )* };
}

pub(super) use {objects, words, words_of};

/// Joins the lines of a doc comment into one text.
pub(super) fn text(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

impl Shape {
    /// Describes the shape in words, for a table; objects by their names.
    fn words(&self) -> String {
        match self {
            Self::Boolean => "boolean".into(),
            Self::Integer => "integer".into(),
            Self::Text => "string".into(),
            Self::Word(words) => words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", "),
            Self::List(of) => format!("array of {}", of.words()),
            Self::Tuple(of) => format!("[{}]", of.iter().map(Self::words).collect::<Vec<_>>().join(", ")),
            Self::Map(of) => format!("object, each value {}", of.words()),
            Self::Optional(of) => format!("{}, or null", of.words()),
            Self::Object(object) => format!("[{}](#{})", object.name, object.name.to_lowercase()),
        }
    }

    /// Returns the object that it is, or that it holds.
    fn object(&self) -> Option<&Object> {
        match self {
            Self::Object(object) => Some(object),
            Self::List(of) | Self::Map(of) | Self::Optional(of) => of.object(),
            _ => None,
        }
    }

    /// Lists every value in it, one per line, with its place and what it may be: comparing these lists shows whether a
    /// document needs a new version.
    pub fn flat(&self, at: &str, out: &mut Vec<String>) {
        match self {
            Self::List(of) => of.flat(&format!("{at}[]"), out),
            Self::Map(of) => of.flat(&format!("{at}{{}}"), out),
            Self::Optional(of) => of.flat(&format!("{at}?"), out),
            Self::Object(object) => {
                object.fields.iter().for_each(|field| field.shape.flat(&format!("{at}.{}", field.name), out));
            }
            Self::Word(words) => out.push(format!("{at} {}", words.join("|"))),
            other => out.push(format!("{at} {}", other.words())),
        }
    }

    /// Compares `value` with the description, and returns each difference with its place; nothing if there is none.
    pub fn differences(&self, value: &serde_json::Value, at: &str) -> Vec<String> {
        use serde_json::Value;
        let each = |of: &Self, values: &mut dyn Iterator<Item = (String, &Value)>| {
            values.flat_map(|(key, value)| of.differences(value, &format!("{at}.{key}"))).collect()
        };
        match (self, value) {
            (Self::Boolean, Value::Bool(_)) | (Self::Text, Value::String(_)) | (Self::Optional(_), Value::Null) => {
                vec![]
            }
            (Self::Integer, Value::Number(number)) if !number.is_f64() => vec![],
            (Self::Word(words), Value::String(word)) if words.contains(&word.as_str()) => vec![],
            (Self::Optional(of), value) => of.differences(value, at),
            (Self::List(of), Value::Array(list)) => {
                each(of, &mut list.iter().enumerate().map(|(n, v)| (n.to_string(), v)))
            }
            (Self::Map(of), Value::Object(map)) => each(of, &mut map.iter().map(|(k, v)| (k.clone(), v))),
            (Self::Tuple(of), Value::Array(list)) if of.len() == list.len() => {
                of.iter().zip(list).flat_map(|(of, value)| of.differences(value, at)).collect()
            }
            (Self::Object(object), Value::Object(map)) => {
                let known = |key: &&String| !object.fields.iter().any(|field| field.name == **key);
                let more = map.keys().filter(known).map(|key| format!("{at}.{key}: not described"));
                let fields = object.fields.iter().flat_map(|field| match map.get(field.name) {
                    Some(value) => field.shape.differences(value, &format!("{at}.{}", field.name)),
                    None => vec![format!("{at}.{}: missing", field.name)],
                });
                fields.chain(more).collect()
            }
            _ => vec![format!("{at}: {value} is no {}", self.words())],
        }
    }
}

/// What a verb prints.
pub struct Page {
    /// The verb, as it is typed.
    pub verb: &'static str,
    /// The document.
    pub shape: Shape,
}

/// Writes the page about all documents.
pub(super) fn markdown(head: &str, failure: &Shape, pages: &[Page]) -> String {
    let mut out = head.to_owned();
    let mut objects: Vec<&Object> = failure.object().into_iter().collect();
    for page in pages {
        let Some(object) = page.shape.object() else { continue };
        out.push_str(&format!("\n## `layerseal {}`\n\n{}\n\n", page.verb, object.doc));
        table(&mut out, object, &mut objects);
    }
    out.push_str("\n## Objects\n");
    let mut done = 0;
    while let Some(object) = objects.get(done).copied() {
        done += 1;
        out.push_str(&format!("\n### {}\n\n{}\n\n", object.name, object.doc));
        table(&mut out, object, &mut objects);
    }
    out
}

fn table<'a>(out: &mut String, object: &'a Object, objects: &mut Vec<&'a Object>) {
    out.push_str("| field | value | |\n|---|---|---|\n");
    for field in &object.fields {
        out.push_str(&format!("| `{}` | {} | {} |\n", field.name, field.shape.words(), field.doc));
        if let Some(object) = field.shape.object()
            && !objects.iter().any(|known| known.name == object.name)
        {
            objects.push(object);
        }
    }
}
