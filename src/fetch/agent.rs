//! What speaks HTTP for us to one registry, with the certificates that the containers tools are configured to use.

use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider};

use super::FetchContext;
use super::certs_d::certificates;
use super::registries::Endpoint;
use crate::error::{Case, Refusal, Result};
use crate::sys::files;

/// Bytes of a certificate or key file.
const MAX_FILE: u64 = 1 << 20;

/// Where systems keep the certificates that they trust, in one file (Go looks at the same ones).
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Makes the agent for an endpoint: it follows no redirect by itself, and uses no proxy that it is not told of.
pub(super) fn agent(endpoint: &Endpoint, context: &FetchContext<'_>) -> Result<Agent> {
    let certificates = certificates(&endpoint.host, context.options);
    let read = |path: &std::path::Path| {
        let refuse = |e: &dyn std::fmt::Display| Refusal::new(Case::C10Tls, path.display().to_string(), e);
        let file = std::fs::File::open(path).map_err(|e| refuse(&e))?;
        files::read_all(file, MAX_FILE).map_err(|e| refuse(&e))
    };
    let pem = |path: &std::path::Path| -> Result<Vec<Certificate<'static>>> {
        let stack = openssl::x509::X509::stack_from_pem(&read(path)?)
            .map_err(|e| Refusal::new(Case::C10Tls, path.display().to_string(), e))?;
        Ok(stack.iter().filter_map(|c| c.to_der().ok()).map(|der| Certificate::from_der(&der).to_owned()).collect())
    };
    let roots = if endpoint.insecure {
        // No certificate is checked; reading all that the system trusts takes longer than the question.
        RootCerts::new_with_certs(&[])
    } else if certificates.authorities.is_empty() {
        RootCerts::PlatformVerifier
    } else {
        let mut all: Vec<Certificate<'static>> = Vec::new();
        // In addition to the system's, as containers/image does.
        if let Some(system) = SYSTEM_ROOTS.iter().map(std::path::Path::new).find(|path| path.exists()) {
            all.extend(pem(system)?);
        }
        for path in &certificates.authorities {
            all.extend(pem(path)?);
        }
        RootCerts::new_with_certs(&all)
    };
    let client = match &certificates.client {
        None => None,
        Some((cert, key)) => {
            let refuse = |e: &dyn std::fmt::Display| Refusal::new(Case::C10Tls, key.display().to_string(), e);
            let parsed = openssl::pkey::PKey::private_key_from_pem(&read(key)?).map_err(|e| refuse(&e))?;
            let text = parsed.private_key_to_pem_pkcs8().map_err(|e| refuse(&e))?;
            Some(ClientCert::new_with_certs(&pem(cert)?, PrivateKey::from_pem(&text).map_err(|e| refuse(&e))?))
        }
    };
    let tls = TlsConfig::builder()
        .provider(TlsProvider::NativeTls)
        .root_certs(roots)
        .client_cert(client)
        .disable_verification(endpoint.insecure)
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("layerseal/", env!("CARGO_PKG_VERSION")))
        .build();
    Ok(config.into())
}
