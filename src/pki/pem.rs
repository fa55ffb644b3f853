//! Certificates in text (RFC 7468), as tools write them and people keep them: with explanations around the blocks
//! (section 5.2), a byte order mark, line ends of any system.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What may stand beside certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// Text only: whoever put another block into a trust store means something by it, and a private key there is a
    /// leak.
    Text,
    /// Keys too: people who sign often have both in one file.
    Blocks,
}

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// What tools call a certificate (RFC 7468, section 5.1).
const LABELS: [&[u8]; 3] = [b"CERTIFICATE", b"X509 CERTIFICATE", b"X.509 CERTIFICATE"];

/// Returns whether there is a block in `bytes` at all.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    bytes.windows(BEGIN.len()).any(|window| window == BEGIN)
}

/// Returns the DER of every certificate in `bytes`, in their order; or what is wrong.
///
/// Text around the blocks is ignored, but a line that is nearly the begin or the end of a block is not: a certificate
/// would be lost with it, and the store be smaller than it looks.
pub(super) fn certificates(bytes: &[u8], beside: Beside) -> Result<Vec<Vec<u8>>, String> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err("it is UTF-16; save it as UTF-8 or ASCII".into());
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut found = Vec::new();
    // The label of the block that is open, and what is in it so far.
    let mut open: Option<(Vec<u8>, Vec<u8>)> = None;
    for (number, line) in lines(bytes) {
        let line = line.trim_ascii();
        open = match open.take() {
            None => match label(line, BEGIN) {
                Some(label) => {
                    check(label, beside).map_err(|why| format!("line {number}: {why}"))?;
                    Some((label.to_vec(), Vec::new()))
                }
                None if looks_like_boundary(line) => {
                    return Err(format!("line {number}: neither text nor the begin of a block"));
                }
                None => None,
            },
            Some((of, body)) => match label(line, END) {
                Some(label) if label == of => {
                    if LABELS.contains(&label) {
                        found.push(decode(&body).ok_or(format!("the base64 before line {number} is damaged"))?);
                    }
                    None
                }
                _ if looks_like_boundary(line) => {
                    let of = String::from_utf8_lossy(&of).into_owned();
                    return Err(format!("line {number}: not the end of the {of} before it"));
                }
                _ => {
                    let digits = line.iter().copied().filter(|b| !b.is_ascii_whitespace());
                    Some((of, body.into_iter().chain(digits).collect()))
                }
            },
        };
    }
    match open {
        None => Ok(found),
        Some((of, _)) => Err(format!("the last {} has no end", String::from_utf8_lossy(&of))),
    }
}

/// Splits `bytes` into lines, with their numbers: they end with LF, CR LF or CR (RFC 7468, section 3, "eol").
fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut rest = Some(bytes);
    let next = move || {
        let text = rest?;
        let Some(at) = text.iter().position(|b| b"\r\n".contains(b)) else {
            rest = None;
            return Some(text);
        };
        let (line, after) = text.split_at(at);
        rest = after.strip_prefix(b"\r\n").or_else(|| after.get(1..));
        Some(line)
    };
    (1..).zip(std::iter::from_fn(next))
}

/// Returns what stands between `begin` and the dashes at the end of a boundary.
fn label<'a>(line: &'a [u8], begin: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(begin)?.strip_suffix(DASHES)
}

/// Returns whether somebody who reads the line would take it for a boundary.
fn looks_like_boundary(line: &[u8]) -> bool {
    let has = |word: &[u8]| line.windows(word.len()).any(|window| window == word);
    let words = || [&b"BEGIN "[..], b"END "].iter().any(|word| has(word));
    words() && (has(b"--") || LABELS.iter().any(|label| has(label)))
}

/// Checks that a block of this kind may stand here; the error says what is wrong with it.
fn check(label: &[u8], beside: Beside) -> Result<(), String> {
    let shown = String::from_utf8_lossy(label);
    if LABELS.contains(&label) {
        Ok(())
    } else if label == b"TRUSTED CERTIFICATE" {
        // OpenSSL's own format, which says after the certificate what it is trusted for.
        Err(format!("a {shown}; write it with `openssl x509 -in FILE`"))
    } else if beside == Beside::Blocks {
        Ok(())
    } else if label.ends_with(b"PRIVATE KEY") {
        Err(format!("a {shown}, which does not belong here: remove it"))
    } else {
        Err(format!("a {shown}, and not a CERTIFICATE"))
    }
}

/// Decodes base64 with its padding, and nothing else.
fn decode(body: &[u8]) -> Option<Vec<u8>> {
    STANDARD.decode(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f02_lines_end_as_they_do_anywhere() {
        let all: Vec<_> = lines(b"a\nb\r\nc\rd\n\re").map(|(number, line)| (number, line.to_vec())).collect();
        let text: Vec<_> = all.iter().map(|(_, line)| String::from_utf8_lossy(line).into_owned()).collect();
        assert_eq!(text, ["a", "b", "c", "d", "", "e"]);
        assert_eq!(all.last().unwrap().0, 6);
        assert_eq!(lines(b"").count(), 1);
    }

    #[test]
    fn f02_a_boundary_that_is_not_quite_one_is_no_text() {
        for line in ["----BEGIN CERTIFICATE----", "# -----BEGIN CERTIFICATE-----", "- END CERTIFICATE", "--END X--"] {
            assert!(looks_like_boundary(line.as_bytes()), "{line}");
        }
        for line in
            ["subject=CN = release", "    friendlyName: THE END of it", "-----", "--- BEGINNER ---", "=======BEGIN"]
        {
            assert!(!looks_like_boundary(line.as_bytes()), "{line}");
        }
    }
}
