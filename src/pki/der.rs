//! A strict reader of DER (X.690), for the few structures that a seal is made of.
//!
//! What BER leaves open is refused: indefinite and non-minimal lengths, non-minimal integers and
//! object identifiers. Tag numbers above 30 are refused because nothing here uses them. The reader
//! walks one level at a time and never recurses, so depth and size are bounded by the calling code
//! and by the input, and it indexes nothing: every access can fail.

use std::fmt::Write;

/// The tags that seals and certificates use, as whole identifier octets.
pub mod tag {
    /// BOOLEAN.
    pub const BOOLEAN: u8 = 0x01;
    /// INTEGER.
    pub const INTEGER: u8 = 0x02;
    /// BIT STRING.
    pub const BIT_STRING: u8 = 0x03;
    /// OCTET STRING, primitive.
    pub const OCTET_STRING: u8 = 0x04;
    /// NULL.
    pub const NULL: u8 = 0x05;
    /// OBJECT IDENTIFIER.
    pub const OID: u8 = 0x06;
    /// SEQUENCE and SEQUENCE OF.
    pub const SEQUENCE: u8 = 0x30;
    /// SET and SET OF.
    pub const SET: u8 = 0x31;
    /// `[0]`, constructed.
    pub const CONTEXT_0: u8 = 0xa0;
    /// `[1]`, constructed.
    pub const CONTEXT_1: u8 = 0xa1;
    /// `[2]`, constructed.
    pub const CONTEXT_2: u8 = 0xa2;
    /// `[3]`, constructed.
    pub const CONTEXT_3: u8 = 0xa3;
}

/// The low five bits of an identifier octet that announce a tag number in further octets.
const HIGH_TAG: u8 = 0x1f;

/// Why bytes are not the DER that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DerError {
    /// The input ends within an element.
    #[error("the input ends within an element")]
    Truncated,
    /// A length of the indefinite form (X.690 section 8.1.3.6).
    #[error("a length is of the indefinite form")]
    IndefiniteLength,
    /// A length in more octets than it needs (X.690 section 10.1).
    #[error("a length takes more bytes than it needs")]
    NonMinimalLength,
    /// A length of more than four octets.
    #[error("a length is beyond 32 bits")]
    HugeLength,
    /// A tag number above 30.
    #[error("a tag number above 30")]
    HighTag,
    /// Another element than the one that belongs there.
    #[error("tag {found:#04x} where {expected:#04x} belongs")]
    Tag {
        /// The identifier octet that belongs there.
        expected: u8,
        /// The identifier octet that is there.
        found: u8,
    },
    /// Bytes after the last element that belongs there.
    #[error("bytes after the end of an element")]
    Trailing,
    /// An INTEGER without content, with superfluous octets, or negative where it must not be.
    #[error("an INTEGER is not minimal, or negative")]
    Integer,
    /// An OBJECT IDENTIFIER without content, with superfluous octets or without its end.
    #[error("an OBJECT IDENTIFIER is not minimal or not complete")]
    Oid,
    /// A BIT STRING whose unused bits are missing, too many or not zero.
    #[error("a BIT STRING has wrong unused bits")]
    BitString,
    /// A distinguished name of another shape than X.501 gives it, or text in the wrong encoding.
    #[error("a distinguished name is malformed")]
    Name,
}

/// What reading DER returns.
pub type Result<T> = std::result::Result<T, DerError>;

/// One element: identifier octet, length and content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    /// The identifier octet, class and constructed bit included.
    pub tag: u8,
    /// The content octets.
    pub content: &'a [u8],
    /// Identifier, length and content as they stand in the input.
    pub encoded: &'a [u8],
}

impl<'a> Element<'a> {
    /// Makes a reader over the content.
    pub fn reader(&self) -> Reader<'a> {
        Reader::new(self.content)
    }
}

/// Reads one element after the other.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Makes a reader over `bytes`, which are a sequence of elements.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Returns the identifier octet of the next element; `None` at the end.
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Returns whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Reads the next element, whatever it is.
    ///
    /// # Errors
    /// Any of the reasons of [`DerError`] that concern identifier and length.
    pub fn any(&mut self) -> Result<Element<'a>> {
        let input = self.rest;
        let (&tag, after_tag) = input.split_first().ok_or(DerError::Truncated)?;
        if tag & HIGH_TAG == HIGH_TAG {
            return Err(DerError::HighTag);
        }
        let (length, after_length) = length(after_tag)?;
        let (content, rest) = after_length.split_at_checked(length).ok_or(DerError::Truncated)?;
        let encoded = input.len().checked_sub(rest.len()).and_then(|n| input.get(..n)).ok_or(DerError::Truncated)?;
        self.rest = rest;
        Ok(Element { tag, content, encoded })
    }

    /// Reads the next element, which must carry `expected`.
    ///
    /// # Errors
    /// [`DerError::Tag`] for another element, and the reasons of [`Reader::any`].
    pub fn expect(&mut self, expected: u8) -> Result<Element<'a>> {
        match self.peek() {
            Some(found) if found != expected => Err(DerError::Tag { expected, found }),
            _ => self.any(),
        }
    }

    /// Reads the next element if it carries `wanted`; otherwise nothing is read.
    ///
    /// # Errors
    /// The reasons of [`Reader::any`].
    pub fn optional(&mut self, wanted: u8) -> Result<Option<Element<'a>>> {
        if self.peek() == Some(wanted) { self.any().map(Some) } else { Ok(None) }
    }

    /// Makes a reader over the content of the next element, which must carry `expected`.
    ///
    /// # Errors
    /// The reasons of [`Reader::expect`].
    pub fn enter(&mut self, expected: u8) -> Result<Self> {
        Ok(self.expect(expected)?.reader())
    }

    /// Reads the content of the next element, an INTEGER in minimal two's complement (X.690 section 8.3.2).
    ///
    /// # Errors
    /// [`DerError::Integer`], and the reasons of [`Reader::expect`].
    pub fn integer(&mut self) -> Result<&'a [u8]> {
        let content = self.expect(tag::INTEGER)?.content;
        match content {
            [] => Err(DerError::Integer),
            [0x00, next, ..] if next & 0x80 == 0 => Err(DerError::Integer),
            [0xff, next, ..] if next & 0x80 != 0 => Err(DerError::Integer),
            _ => Ok(content),
        }
    }

    /// Reads the content of the next element, an INTEGER above zero.
    ///
    /// # Errors
    /// [`DerError::Integer`] for zero and below too, and the reasons of [`Reader::expect`].
    pub fn positive_integer(&mut self) -> Result<&'a [u8]> {
        match self.integer()? {
            [0x00] => Err(DerError::Integer),
            [first, ..] if first & 0x80 != 0 => Err(DerError::Integer),
            content => Ok(content),
        }
    }

    /// Reads the content of the next element, an OBJECT IDENTIFIER (X.690 section 8.19).
    ///
    /// # Errors
    /// [`DerError::Oid`], and the reasons of [`Reader::expect`].
    pub fn oid(&mut self) -> Result<&'a [u8]> {
        let content = self.expect(tag::OID)?.content;
        let mut starts = true;
        for byte in content {
            // An arc must not begin with a group of seven zero bits.
            if starts && *byte == 0x80 {
                return Err(DerError::Oid);
            }
            starts = byte & 0x80 == 0;
        }
        if content.is_empty() || !starts {
            return Err(DerError::Oid);
        }
        Ok(content)
    }

    /// Reads the octets of the next element, a BIT STRING of whole octets.
    ///
    /// # Errors
    /// [`DerError::BitString`], and the reasons of [`Reader::expect`].
    pub fn octet_aligned_bits(&mut self) -> Result<&'a [u8]> {
        match self.expect(tag::BIT_STRING)?.content {
            [0, octets @ ..] => Ok(octets),
            _ => Err(DerError::BitString),
        }
    }

    /// Checks that nothing follows.
    ///
    /// # Errors
    /// [`DerError::Trailing`] if something does.
    pub fn finish(self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(DerError::Trailing) }
    }
}

/// Reads the only element of `bytes`, which must carry `expected`.
///
/// # Errors
/// [`DerError::Trailing`] when something follows, and the reasons of [`Reader::expect`].
pub fn only(bytes: &[u8], expected: u8) -> Result<Element<'_>> {
    let mut reader = Reader::new(bytes);
    let element = reader.expect(expected)?;
    reader.finish()?;
    Ok(element)
}

/// Reads the length octets at the start of `bytes`; returns the length and what follows them.
fn length(bytes: &[u8]) -> Result<(usize, &[u8])> {
    let (&first, rest) = bytes.split_first().ok_or(DerError::Truncated)?;
    let octets = match first {
        short @ 0..=0x7f => return Ok((usize::from(short), rest)),
        0x80 => return Err(DerError::IndefiniteLength),
        long => usize::from(long & 0x7f),
    };
    let (digits, rest) = rest.split_at_checked(octets).ok_or(DerError::Truncated)?;
    if digits.first() == Some(&0) {
        return Err(DerError::NonMinimalLength);
    }
    if digits.len() > 4 {
        return Err(DerError::HugeLength);
    }
    let value = digits.iter().fold(0_u64, |sum, digit| sum << 8 | u64::from(*digit));
    if value < 0x80 {
        return Err(DerError::NonMinimalLength);
    }
    let value = usize::try_from(value).map_err(|_| DerError::HugeLength)?;
    Ok((value, rest))
}

/// Shows the content of an OBJECT IDENTIFIER in dotted decimal, for messages. Arcs beyond 64 bits are shown as `?`, and
/// no more than 32 arcs are shown.
pub fn oid_text(content: &[u8]) -> String {
    let mut text = String::new();
    for (position, arc) in content.split_inclusive(|byte| byte & 0x80 == 0).take(32).enumerate() {
        let value = arc.iter().try_fold(0_u64, |sum, byte| Some(sum.checked_mul(128)? | u64::from(byte & 0x7f)));
        // Writing to a String cannot fail.
        let _ = match (position, value) {
            (0, Some(value)) => {
                // X.690 section 8.19.4: the first two arcs share one number.
                let root = (value / 40).min(2);
                write!(text, "{root}.{}", value - 40 * root)
            }
            (0, None) => write!(text, "?"),
            (_, Some(value)) => write!(text, ".{value}"),
            (_, None) => write!(text, ".?"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_definite_and_minimal() {
        let long = [&[0x04, 0x81, 0x80][..], &[7; 128]].concat();
        assert_eq!(only(&long, tag::OCTET_STRING).unwrap().content, &[7; 128]);
        for (bytes, error) in [
            (&[][..], DerError::Truncated),
            (&[0x04], DerError::Truncated),
            (&[0x04, 0x80, 0, 0], DerError::IndefiniteLength),
            (&[0x04, 0x81, 0x01, 0], DerError::NonMinimalLength),
            (&[0x04, 0x82, 0x00, 0x80], DerError::NonMinimalLength),
            (&[0x04, 0x82, 0x01], DerError::Truncated),
            (&[0x04, 0xff, 1, 2], DerError::Truncated),
            (&[0x04, 0x84, 0xff, 0xff, 0xff, 0xff, 0], DerError::Truncated),
            (&[0x04, 0x85, 1, 0, 0, 0, 0, 0], DerError::HugeLength),
            (&[0x04, 0x02, 0], DerError::Truncated),
            (&[0x04, 0x00, 0x00], DerError::Trailing),
            (&[0x1f, 0x01, 0], DerError::Tag { expected: 4, found: 0x1f }),
        ] {
            assert_eq!(only(bytes, tag::OCTET_STRING), Err(error), "{bytes:x?}");
        }
        assert_eq!(Reader::new(&[0x1f, 0x01, 0]).any(), Err(DerError::HighTag));
    }

    #[test]
    fn integers_are_minimal() {
        for good in [&[0x02, 1, 0][..], &[2, 1, 0x80], &[2, 2, 0, 0x80], &[2, 2, 0xff, 0x7f]] {
            assert!(Reader::new(good).integer().is_ok(), "{good:x?}");
        }
        for bad in [&[0x02, 0][..], &[2, 2, 0, 0x7f], &[2, 2, 0xff, 0x80]] {
            assert_eq!(Reader::new(bad).integer(), Err(DerError::Integer));
        }
        for bad in [&[0x02, 1, 0][..], &[2, 1, 0x80]] {
            assert_eq!(Reader::new(bad).positive_integer(), Err(DerError::Integer));
        }
    }

    #[test]
    fn identifiers_are_minimal_and_complete() {
        let sha256 = [6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
        let content = Reader::new(&sha256).oid().unwrap();
        assert_eq!(oid_text(content), "2.16.840.1.101.3.4.2.1");
        for bad in [&[6, 0][..], &[6, 2, 0x80, 1], &[6, 3, 1, 0x80, 1], &[6, 1, 0x81]] {
            assert_eq!(Reader::new(bad).oid(), Err(DerError::Oid), "{bad:x?}");
        }
        assert_eq!(oid_text(&[0xff; 40]), "?");
    }
}
