//! Proxies of the environment, by the rules that skopeo's language has for them (golang.org/x/net/http/httpproxy).
//! ureq's own differ: there `example.com` does not cover `a.example.com`, and a space after a comma is part of a name.

use ureq::Proxy;
use ureq::http::Uri;

/// Finds the proxy for an address, where there is one.
pub(super) fn proxy(url: &str) -> Option<Proxy> {
    let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    choose(url, &variable)
        .and_then(|text| Proxy::new(&text).inspect_err(|e| log::warn!("a proxy is no address: {e}")).ok())
}

fn choose(url: &str, variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let host = uri.host()?.trim_matches(['[', ']']).to_ascii_lowercase();
    let local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if local || excepted(&host, &variable("NO_PROXY").or_else(|| variable("no_proxy")).unwrap_or_default()) {
        return None;
    }
    match uri.scheme_str() {
        Some("https") => variable("HTTPS_PROXY").or_else(|| variable("https_proxy")),
        _ => variable("HTTP_PROXY").or_else(|| variable("http_proxy")),
    }
}

/// Returns whether a host needs no proxy: `example.com` and `.example.com` are for the domain, `*` for everything.
/// Ranges of addresses are not understood here: then the proxy is asked.
fn excepted(host: &str, list: &str) -> bool {
    list.split(',').map(|e| e.trim().to_ascii_lowercase()).filter(|e| !e.is_empty()).any(|entry| {
        let entry = entry.split_once(':').map_or(entry.as_str(), |(front, _)| front);
        let domain = entry.strip_prefix("*.").or_else(|| entry.strip_prefix('.')).unwrap_or(entry);
        entry == "*" || host == domain || host.strip_suffix(domain).is_some_and(|front| front.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_chosen_by_scheme_and_host() {
        let variable = |name: &str| match name {
            "https_proxy" => Some("http://p:1".to_owned()),
            "NO_PROXY" => Some("q.io, .corp.example".to_owned()),
            _ => None,
        };
        let chosen = |url: &str| choose(url, &variable);
        assert_eq!(chosen("https://r.io/v2/"), Some("http://p:1".into()));
        let without = [
            "http://r.io/",
            "https://127.0.0.1:5/",
            "https://[::1]:5/",
            "https://localhost/",
            "https://q.io/",
            "https://a.q.io/",
            "https://x.corp.example/",
        ];
        for url in without {
            assert_eq!(chosen(url), None, "{url}");
        }
        assert!(chosen("https://notq.io/").is_some());
    }
}
