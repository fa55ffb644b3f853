//! The option string of mount(8) and overlayfs, as bytes: commas between options, colons between lower directories, a
//! backslash before a byte that stands for itself.

use crate::error::{Case, Refusal, Result};

/// One option: `key`, or `key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MountOption {
    pub key: Vec<u8>,
    /// With its backslashes, which mean something different in a list than in a single path.
    pub value: Option<OptionValue>,
}

/// A value, and whether it was in double quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OptionValue {
    pub raw: Vec<u8>,
    pub quoted: bool,
}

/// Unescaped names.
pub type UnescapedNames = Vec<Vec<u8>>;

/// Splits at commas. A quote opens only directly after `=`, which is where go-selinux writes one around a label with
/// commas (`FormatMountLabel`); elsewhere it is a byte like any other, because containers-storage does not escape its
/// paths. Empty items are skipped: containers-storage has written leading and doubled commas.
///
/// # Errors
/// [`Case::A02Escape`].
pub(super) fn items(text: &[u8]) -> Result<Vec<MountOption>> {
    let mut items = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (item, after) = item(rest)?;
        rest = after;
        if !item.key.is_empty() || item.value.is_some() {
            items.push(item);
        }
    }
    Ok(items)
}

fn item(text: &[u8]) -> Result<(MountOption, &[u8])> {
    let key_end = text.iter().position(|b| matches!(b, b'=' | b',')).unwrap_or(text.len());
    let (key, rest) = text.split_at(key_end);
    let key = key.to_vec();
    let Some((b'=', rest)) = rest.split_first() else {
        return Ok((MountOption { key, value: None }, rest.get(1..).unwrap_or_default()));
    };
    let (raw, quoted, rest) = match rest.split_first() {
        Some((b'"', inner)) => {
            let end = unescaped(inner, b'"')?.ok_or_else(|| bad("a double quote is not closed"))?;
            (&inner[..end], true, &inner[end + 1..])
        }
        _ => {
            let end = unescaped(rest, b',')?.unwrap_or(rest.len());
            (&rest[..end], false, &rest[end..])
        }
    };
    let rest = match rest.split_first() {
        None => rest,
        Some((b',', rest)) => rest,
        Some(_) => return Err(bad("bytes after a closing double quote")),
    };
    Ok((MountOption { key, value: Some(OptionValue { raw: raw.to_vec(), quoted }) }, rest))
}

/// Finds the first `wanted` without a backslash before it.
fn unescaped(text: &[u8], wanted: u8) -> Result<Option<usize>> {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        if byte == wanted {
            return Ok(Some(at));
        }
        at += if byte == b'\\' { 2 } else { 1 };
    }
    if at > text.len() { Err(bad("a backslash at the end")) } else { Ok(None) }
}

/// Removes the backslashes, as overlayfs does (fs/overlayfs/params.c, `ovl_unescape`).
///
/// # Errors
/// [`Case::A02Escape`] for a backslash with nothing behind it.
pub(super) fn unescape(text: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        out.push(match byte {
            b'\\' => *bytes.next().ok_or_else(|| bad("a backslash at the end"))?,
            byte => byte,
        });
    }
    Ok(out)
}

/// Parses the lower directories of `lowerdir=`, uppermost first, and the data-only ones that follow `::`
/// (Documentation/filesystems/overlayfs.rst, "Data-only lower layers").
///
/// # Errors
/// [`Case::A02Escape`].
pub fn lowers(text: &[u8]) -> Result<(UnescapedNames, UnescapedNames)> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(end) = unescaped(rest, b':')? {
        parts.push(&rest[..end]);
        rest = &rest[end + 1..];
    }
    parts.push(rest);
    // fuse-overlayfs skips an empty element at either end; two would be a data-only layer with nothing above it.
    let Some(first) = parts.iter().position(|p| !p.is_empty()) else { return Ok((Vec::new(), Vec::new())) };
    let last = parts.iter().rposition(|p| !p.is_empty()).map_or(first, |at| at + 1);
    if first > 1 || parts.len() - last > 1 {
        return Err(bad("empty lower directories at an end"));
    }
    let (mut lowers, mut data) = (Vec::new(), Vec::new());
    let mut empty = 0;
    for part in &parts[first..last] {
        match (part.is_empty(), empty) {
            (true, _) => empty += 1,
            (false, 0) if data.is_empty() => lowers.push(unescape(part)?),
            (false, 0) => return Err(bad("a lower directory after a data-only one")),
            (false, 1) => data.push(unescape(part)?),
            (false, _) => return Err(bad("more than two colons in a row")),
        }
        if !part.is_empty() {
            empty = 0;
        }
    }
    Ok((lowers, data))
}

fn bad(why: &str) -> Refusal {
    Refusal::new(Case::A02Escape, "-o", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(text: &[u8]) -> Vec<(String, Option<String>)> {
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        items(text).unwrap().iter().map(|i| (lossy(&i.key), i.value.as_ref().map(|v| lossy(&v.raw)))).collect()
    }

    #[test]
    fn a02_commas_escapes_and_quotes() {
        let some = |k: &str, v: &str| (k.to_owned(), Some(v.to_owned()));
        assert_eq!(flat(br"a=1\,2,b"), [some("a", r"1\,2"), ("b".into(), None)]);
        assert_eq!(flat(br#"context="s0:c1,c2",x=1"#), [some("context", "s0:c1,c2"), some("x", "1")]);
        assert_eq!(flat(br#"context="a\"b,c""#), [some("context", r#"a\"b,c"#)]);
        assert_eq!(flat(br#"upperdir=/a"b,x"#), [some("upperdir", "/a\"b"), ("x".into(), None)]);
        assert_eq!(flat(b",a,,b=,"), [("a".into(), None), some("b", "")]);
        assert_eq!(flat(b"a=b=c"), [some("a", "b=c")]);
        for broken in [&br"a=\"[..], br#"a="b"#, br#"a="b"c"#, br#"a="b\"#] {
            assert_eq!(items(broken).unwrap_err().case(), Case::A02Escape, "{broken:?}");
        }
    }

    #[test]
    fn a02_lists_of_lower_directories() {
        let split = |text: &[u8]| lowers(text).unwrap();
        let list = |names: &[&[u8]]| names.iter().map(|n| n.to_vec()).collect::<Vec<_>>();
        assert_eq!(split(b"/a:/b"), (list(&[b"/a", b"/b"]), vec![]));
        assert_eq!(split(br"/a\:b:/c\\d:/e\,f"), (list(&[b"/a:b", br"/c\d", b"/e,f"]), vec![]));
        assert_eq!(split(b"/a:/b::/c::/d"), (list(&[b"/a", b"/b"]), list(&[b"/c", b"/d"])));
        assert_eq!(split(b":/a:"), (list(&[b"/a"]), vec![]));
        assert_eq!(split(b"/\xff\xfe"), (list(&[b"/\xff\xfe"]), vec![]));
        assert_eq!(split(b"").0, list(&[]));
        assert_eq!(split(b":::").0, list(&[]));
        for broken in [&b"/a::/b:/c"[..], b"/a:::/b", br"/a:\", b"::/a", b"/a::"] {
            assert_eq!(lowers(broken).unwrap_err().case(), Case::A02Escape, "{broken:?}");
        }
    }
}
