//! `WWW-Authenticate`: how a registry wants us to log in (RFC 7235, section 4.1).

use http_auth::{ChallengeRef, parse_challenges};
use ureq::http::HeaderMap;

/// One challenge that we can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Name and password.
    Basic,
    /// A token from another server.
    Bearer {
        /// The address of that server.
        realm: String,
        /// The service that the token is for.
        service: Option<String>,
        /// What the token allows.
        scope: Option<String>,
    },
}

impl Challenge {
    /// Chooses the first challenge that is understood; a token before a password. A header may hold several, and so may
    /// an answer hold several headers.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let texts = headers.get_all("www-authenticate").iter().filter_map(|value| value.to_str().ok());
        let all: Vec<ChallengeRef<'_>> = texts.filter_map(|text| parse_challenges(text).ok()).flatten().collect();
        let is = |challenge: &&ChallengeRef<'_>, scheme: &str| challenge.scheme.eq_ignore_ascii_case(scheme);
        let bearer = all.iter().filter(|c| is(c, "bearer")).find_map(Self::bearer);
        bearer.or_else(|| all.iter().find(|c| is(c, "basic")).map(|_| Self::Basic))
    }

    /// Reads a challenge that asks for a token; `None` without a realm, and where something is said twice.
    fn bearer(challenge: &ChallengeRef<'_>) -> Option<Self> {
        let said = |name: &str| {
            let mut values = challenge.params.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
            let value = values.next().map(|(_, value)| value.to_unescaped());
            values.next().is_none().then_some(value)
        };
        Some(Self::Bearer { realm: said("realm")??, service: said("service")?, scope: said("scope")? })
    }
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
        assert_eq!(of(&["bearer Realm = \"https://a/t\" , error=x"]), bearer("https://a/t", None, None));
        // Two in one header, in both orders.
        let (basic, token) = ("Basic realm=\"registry\"", "Bearer realm=\"https://a/t\",service=\"r\\\"\"");
        for both in [format!("{basic}, {token}"), format!("{token}, {basic}"), format!("Negotiate, {token},{basic}")] {
            assert_eq!(of(&[both.leak()]), bearer("https://a/t", Some("r\""), None));
        }
        assert_eq!(of(&["Bearer service=\"x\", Basic realm=\"x\""]), Some(Challenge::Basic));
        assert_eq!(of(&["Basic realm=\"x\"", "Bearer realm=\"https://a\""]), bearer("https://a", None, None));
        assert_eq!(of(&["Basic realm=\"x\""]), Some(Challenge::Basic));
        for none in [
            &["Digest realm=\"x\""][..],
            &["Bearer service=\"x\""],
            &["Bearer realm=\"x"],
            &["Bearer realm=\"https://a\", realm=\"https://b\""],
            &[],
        ] {
            assert_eq!(of(none), None, "{none:?}");
        }
    }
}
