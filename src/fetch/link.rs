//! `Link`: where a list goes on (RFC 8288, section 3, and its appendix B for how it is read). Strictly: a list does not
//! end where that cannot be read.

use ureq::http::HeaderMap;

/// Finds the next page that `headers` name, if there is one.
///
/// # Errors
/// What is wrong with a header.
pub(super) fn next(headers: &HeaderMap) -> Result<Option<String>, String> {
    let mut found: Option<String> = None;
    for value in headers.get_all("link") {
        let text = value.to_str().map_err(|_| "a Link header with other bytes than ASCII".to_owned())?;
        let mut reader = LinkParser { rest: text };
        while let Some(link) =
            reader.link().map_err(|why| format!("a Link header that cannot be read ({why}): {text}"))?
        {
            // A relation of something other than what was asked for says nothing about this list.
            if !link.is_next || link.has_anchor {
                continue;
            }
            if found.as_ref().is_some_and(|other| *other != link.target) {
                return Err(format!("two next pages: {text}"));
            }
            found = Some(link.target);
        }
    }
    Ok(found)
}

struct WebLink {
    target: String,
    is_next: bool,
    has_anchor: bool,
}

struct LinkParser<'a> {
    rest: &'a str,
}

impl<'a> LinkParser<'a> {
    /// Parses `<target> *( OWS ";" OWS [ name [ BWS "=" BWS ( token / quoted-string ) ] ] )`, and the comma behind it.
    fn link(&mut self) -> Result<Option<WebLink>, &'static str> {
        self.rest = self.rest.trim_start_matches([' ', '\t', ',']);
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (target, rest) =
            self.rest.strip_prefix('<').and_then(|rest| rest.split_once('>')).ok_or("no target in angle brackets")?;
        self.rest = rest;
        // The first one is used, and no other (section 3.3).
        let mut rel: Option<String> = None;
        let mut has_anchor = false;
        while self.is_next(';') {
            self.space();
            let name = self.token();
            if name.is_empty() {
                continue;
            }
            let value = if self.is_next('=') { self.value()? } else { String::new() };
            match name.to_ascii_lowercase().as_str() {
                "rel" if rel.is_none() => rel = Some(value),
                "anchor" => has_anchor = true,
                _ => {}
            }
        }
        self.space();
        if !self.rest.is_empty() && !self.rest.starts_with(',') {
            return Err("neither a parameter nor another link");
        }
        let is_next = rel.is_some_and(|rel| rel.split_ascii_whitespace().any(|kind| kind.eq_ignore_ascii_case("next")));
        Ok(Some(WebLink { target: target.trim().to_owned(), is_next, has_anchor }))
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn is_next(&mut self, wanted: char) -> bool {
        let rest = self.rest.trim_start_matches([' ', '\t']).strip_prefix(wanted);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Reads a token (RFC 9110, section 5.6.2).
    fn token(&mut self) -> &'a str {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        token
    }

    fn value(&mut self) -> Result<String, &'static str> {
        self.space();
        let Some(quoted) = self.rest.strip_prefix('"') else {
            let token = self.token();
            return if token.is_empty() { Err("a parameter without its value") } else { Ok(token.to_owned()) };
        };
        let mut value = String::new();
        let mut all = quoted.char_indices();
        while let Some((at, c)) = all.next() {
            match c {
                '"' => {
                    self.rest = &quoted[at + 1..];
                    return Ok(value);
                }
                '\\' => value.extend(all.next().map(|(_, c)| c)),
                c => value.push(c),
            }
        }
        Err("a quote that is not closed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Result<Option<String>, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("link", ureq::http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        next(&headers)
    }

    #[test]
    fn c02_links_in_every_form_lead_on() {
        let page = Ok(Some("/p?a=1,b;c=2".to_owned()));
        for one in [
            r#"</p?a=1,b;c=2>; rel="next""#,
            "</p?a=1,b;c=2>; rel=next",
            r#"</p?a=1,b;c=2>; rel="next last""#,
            r#"</p?a=1,b;c=2>; rel="last	next""#,
            r#"</p?a=1,b;c=2>; Rel="next""#,
            r#"</p?a=1,b;c=2>; rel="NEXT""#,
            r#"</p?a=1,b;c=2>;rel = "next""#,
            r#"</p?a=1,b;c=2> ; title="a \" > , ; b" ; ; x ; rel="n\ext""#,
            r#" , <first>; rel=first, </p?a=1,b;c=2>; rel="next",, "#,
            r#"</p?a=1,b;c=2>; rel="next"; rel="prev""#,
            r#"</q>; rel=next; anchor="/other", </p?a=1,b;c=2>; rel="next""#,
        ] {
            assert_eq!(of(&[one]), page, "{one}");
            assert_eq!(of(&["</first>; rel=first", one]), page, "{one}");
        }
        for none in [&[][..], &[""], &["</p>; rel=prev"], &["</p>"], &["</p>; rel=prev; rel=next"], &["</p>; x=next"]] {
            assert_eq!(of(none), Ok(None), "{none:?}");
        }
        for bad in [
            "/p; rel=next",
            "</p; rel=next",
            "</p>; rel=\"next",
            "</p>; rel=",
            "</p> rel=next",
            "</p>; rel=next </q>; rel=prev",
            "</p>; rel=next, </q>; rel=next",
            "</p\u{e9}>; rel=next",
            "</first>; rel=first, oops",
        ] {
            assert!(of(&[bad]).is_err(), "{bad}");
        }
    }
}
