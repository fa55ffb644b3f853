//! `WWW-Authenticate`: how a registry wants us to log in (RFC 7235, section 4.1).

use ureq::http::HeaderMap;

/// One challenge that we can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Name and password.
    Basic,
    /// A token from somewhere else.
    Bearer {
        /// Where.
        realm: String,
        /// For whom.
        service: Option<String>,
        /// For what.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The first one that is understood; a token before a password.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let texts: Vec<&str> =
            headers.get_all("www-authenticate").iter().filter_map(|value| value.to_str().ok()).collect();
        let bearer = texts.iter().find_map(|text| Self::bearer(text));
        let basic = || texts.iter().find(|text| scheme(text, "basic").is_some()).map(|_| Self::Basic);
        bearer.or_else(basic)
    }

    fn bearer(text: &str) -> Option<Self> {
        let mut rest = scheme(text, "bearer")?;
        let (mut realm, mut service, mut scope) = (None, None, None);
        while let Some((name, after)) = rest.split_once('=') {
            let (value, next) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            match name.trim().to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value.to_owned()),
                "service" => service = Some(value.to_owned()),
                "scope" => scope = Some(value.to_owned()),
                _ => {}
            }
            rest = next.trim_start_matches([',', ' ']);
        }
        Some(Self::Bearer { realm: realm?, service, scope })
    }
}

fn scheme<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let text = text.trim_start();
    let (front, rest) = text.split_once(' ').unwrap_or((text, ""));
    front.eq_ignore_ascii_case(name).then(|| rest.trim_start())
}

/// Percent-encoding of everything but what needs none anywhere (RFC 3986, section 2.3).
pub(super) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&'static str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("www-authenticate", ureq::http::HeaderValue::from_static(value));
        }
        Challenge::of(&headers)
    }

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            let owned = |t: Option<&str>| t.map(str::to_owned);
            Some(Challenge::Bearer { realm: realm.into(), service: owned(service), scope: owned(scope) })
        };
        assert_eq!(
            of(&["Bearer realm=\"https://a/t\",service=\"q.io\",scope=\"repository:x:pull,push\""]),
            bearer("https://a/t", Some("q.io"), Some("repository:x:pull,push"))
        );
        assert_eq!(of(&["bearer realm=https://a/t, error=x"]), bearer("https://a/t", None, None));
        assert_eq!(of(&["Basic realm=\"x\"", "Bearer realm=\"https://a\""]), bearer("https://a", None, None));
        assert_eq!(of(&["Basic realm=\"x\""]), Some(Challenge::Basic));
        for none in [&["Digest realm=\"x\""][..], &["Bearer service=\"x\""], &["Bearer realm=\"x"], &[]] {
            assert_eq!(of(none), None, "{none:?}");
        }
        assert_eq!(encode("repository:a/b:pull x"), "repository%3Aa%2Fb%3Apull%20x");
    }
}
