//! IDs of container stores: 64 lower-case hex digits (storage/pkg/stringid). Each kind has its own type, so that one is
//! not taken for another, and in a path none of them is ever more than a single name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Case, Refusal};

/// Returns whether this is the text of an ID.
pub fn is_id(text: &[u8]) -> bool {
    text.len() == 64 && text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Returns whether podman may have made this ID of an image: the hex of a config's digest, which is longer with SHA-512.
/// layerseal knows no such image, but whoever pushes one must not keep others from starting.
pub fn is_image_id(text: &[u8]) -> bool {
    match text.len() {
        128 => text.chunks(64).all(is_id),
        _ => is_id(text),
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])+ $name:ident $what:literal),+ $(,)?) => {$(
        $(#[$doc])+
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the hex digits.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Refusal;

            /// Parses an ID.
            ///
            /// # Errors
            /// [`Case::B07Digest`] for anything but 64 lower-case hex digits.
            fn from_str(text: &str) -> Result<Self, Refusal> {
                if is_id(text.as_bytes()) {
                    return Ok(Self(text.to_owned()));
                }
                let shown: String = text.chars().take(100).collect();
                Err(Refusal::new(Case::B07Digest, format!("{shown:?}"), concat!("it is no ID of ", $what)))
            }
        }

        impl TryFrom<String> for $name {
            type Error = Refusal;

            fn try_from(text: String) -> Result<Self, Refusal> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl PartialEq<String> for $name {
            fn eq(&self, other: &String) -> bool {
                self.0 == *other
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

ids! {
    /// An image of a container store: usually the digest of its config.
    ImageId "an image",
    /// A layer of a container store.
    LayerId "a layer",
    /// A container of a container store.
    ContainerId "a container",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b07_ids_are_hex_and_nothing_else() {
        let good = "0123456789abcdef".repeat(4);
        assert_eq!(good.parse::<ImageId>().unwrap().as_str(), good);
        for bad in ["a".repeat(63), "a".repeat(65), "A".repeat(64), "g".repeat(64), format!("../{}", "a".repeat(61))] {
            assert_eq!(bad.parse::<ContainerId>().unwrap_err().case(), Case::B07Digest, "{bad}");
            assert!(serde_json::from_value::<LayerId>(bad.into()).is_err());
        }
    }
}
