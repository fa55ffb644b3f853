//! Distinguished names: their shape, and how messages show them.

use super::der::{self, DerError, Element, Reader, Result, tag};

/// The most characters of a name that a message shows.
const SHOWN: usize = 200;

/// Attribute types that have a short name (RFC 4514 section 3, and the usual emailAddress).
const SHORT_NAMES: [(&[u8], &str); 9] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 6], "C"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "email"),
];

/// Shows the name `encoded` as text, in the order of the encoding: `C=DE, O=Example, CN=seals`.
///
/// The text is for people only: certificates are compared by the bytes of their names. Characters
/// that could make one name look like two, or reorder the line, are escaped or replaced.
///
/// # Errors
/// [`DerError::Name`] when a relative name is empty, a value is not of a string type that
/// distinguished names use or is wrongly encoded, and every error of reading strict DER.
pub fn text(encoded: &[u8]) -> Result<String> {
    let mut parts = Vec::new();
    let mut name = der::only(encoded, tag::SEQUENCE)?.reader();
    while !name.is_empty() {
        let mut relative = name.enter(tag::SET)?;
        if relative.is_empty() {
            return Err(DerError::Name);
        }
        while !relative.is_empty() {
            let mut attribute = relative.enter(tag::SEQUENCE)?;
            let kind = attribute.oid()?;
            let value = attribute.any()?;
            attribute.finish()?;
            let kind = SHORT_NAMES
                .iter()
                .find(|(oid, _)| *oid == kind)
                .map_or_else(|| der::oid_text(kind), |(_, short)| (*short).to_owned());
            parts.push(format!("{kind}={}", escape(&value_text(&value)?)));
        }
    }
    if parts.is_empty() {
        return Ok("(empty name)".into());
    }
    let text = parts.join(", ");
    Ok(match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    })
}

/// Decodes the text of an attribute's value. The types are those that OpenSSL takes in a name, so that what is read
/// here can be read there.
fn value_text(value: &Element<'_>) -> Result<String> {
    let bytes = value.content;
    match value.tag {
        // UTF8String
        0x0c => std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| DerError::Name),
        // NumericString, PrintableString, TeletexString, IA5String: one byte for one character.
        0x12 | 0x13 | 0x14 | 0x16 => Ok(bytes.iter().copied().map(char::from).collect()),
        // UniversalString
        0x1c => wide_text(bytes.chunks(4), 4),
        // BMPString; characters beyond the basic plane do not exist in it.
        0x1e => wide_text(bytes.chunks(2), 2),
        // BIT STRING, as in x500UniqueIdentifier
        tag::BIT_STRING => {
            let bits = Reader::new(value.encoded).octet_aligned_bits()?;
            Ok(format!("#{}", hex::encode(bits)))
        }
        _ => Err(DerError::Name),
    }
}

/// Decodes big-endian characters of `width` bytes each.
fn wide_text<'a>(chunks: impl Iterator<Item = &'a [u8]>, width: usize) -> Result<String> {
    chunks
        .map(|chunk| {
            let value = chunk.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
            char::from_u32(value).filter(|_| chunk.len() == width).ok_or(DerError::Name)
        })
        .collect()
}

/// Escapes what separates the parts of a name, and replaces what a terminal would act on.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ',' | '=' | '+' | '"' | '\\' | '<' | '>' | ';' => escaped.extend(['\\', c]),
            // Directional marks, embeddings, overrides and isolates.
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                escaped.push('\u{fffd}')
            }
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
    }

    fn name(kind: &[u8], value_tag: u8, value: &[u8]) -> Vec<u8> {
        let attribute = [tlv(tag::OID, kind), tlv(value_tag, value)].concat();
        tlv(tag::SEQUENCE, &tlv(tag::SET, &tlv(tag::SEQUENCE, &attribute)))
    }

    #[test]
    fn names_read_as_text() {
        let cn = &[0x55, 4, 3];
        for (encoded, shown) in [
            (name(cn, 0x0c, "Bär".as_bytes()), "CN=Bär"),
            (name(cn, 0x1e, &[0, b'a', 0, b'b']), "CN=ab"),
            (name(cn, 0x1c, &[0, 0, 0, b'a']), "CN=a"),
            (name(&[0x2a, 3], 0x13, b"x, O=y\n"), "1.2.3=x\\, O\\=y\u{fffd}"),
            (name(cn, 0x03, &[0, 0xca]), "CN=#ca"),
            (tlv(tag::SEQUENCE, &[]), "(empty name)"),
        ] {
            assert_eq!(text(&encoded).as_deref(), Ok(shown));
        }
    }

    #[test]
    fn malformed_names_are_refused() {
        let cn = &[0x55, 4, 3];
        for encoded in [
            name(cn, 0x0c, &[0xff]),
            name(cn, 0x1e, &[0]),
            name(cn, 0x1e, &[0xd8, 0]),
            name(cn, 0x1c, &[0, 0x11, 0, 0]),
            name(cn, 0x02, &[1]),
            name(cn, 0x2c, &[0x0c, 0]),
            tlv(tag::SEQUENCE, &tlv(tag::SET, &[])),
        ] {
            assert_eq!(text(&encoded), Err(DerError::Name), "{encoded:x?}");
        }
    }
}
