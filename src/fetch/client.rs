//! Our own client of the distribution API, for `GET /v2/NAME/referrers/DIGEST`, which neither skopeo nor its proxy knows,
//! and for what is small. It reads and never writes.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ureq::http::{HeaderMap, Uri};
use ureq::{Agent, Error};

use super::agent::agent;
use super::challenge::Challenge;
use super::registries::Endpoint;
use super::registries_conf::Registry;
use super::{FetchContext, auth, environment};
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::Repository;

/// The most redirects that are followed: within the registry, where there is hardly ever one.
const REDIRECTS: usize = 5;

/// The longest that we wait because a registry asks us to (429, `Retry-After`).
const LONGEST_WAIT: u64 = 5;

/// The answers that are of use: lists of referrers, and manifests of every kind, as the containers tools ask for them. A
/// registry may answer with another one, or with one that it makes, if one is not named.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.v1+prettyjws, application/vnd.docker.distribution.manifest.v1+json, \
    application/json;q=0.5";

/// The largest blob, in bytes, of which the slowest sender that is put up with has sent all when the answer is given up.
const SMALL: u64 = 64 << 10;

/// One endpoint, and who asks it.
pub(super) struct Client<'a> {
    context: &'a FetchContext<'a>,
    known: Rc<Known>,
}

/// An endpoint, and what has been learned about it: how to log in, and whether there is TLS. Its connection is kept.
struct Known {
    /// The name under which credentials are looked up.
    repository: Repository,
    endpoint: Endpoint,
    agent: Agent,
    /// Whether it is talked to without TLS.
    plain: Cell<bool>,
    /// What became of what it was asked.
    contact: Cell<Contact>,
    authorization: RefCell<Option<String>>,
    /// Whether a blob could not be had like this: the next one would not either.
    needs_proxy: Cell<bool>,
}

/// What became of the questions to a registry about one repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contact {
    /// There were none.
    #[default]
    NotAsked,
    /// Nobody answered any.
    Silent,
    /// One was answered, whatever was said.
    Answered,
}

/// What a session has read of the containers tools' configuration, once, and the endpoints that it has asked.
#[derive(Default)]
pub(super) struct SessionCache {
    pub(super) registries: OnceCell<Vec<Registry>>,
    /// Whether policy.json lets pass whatever there is.
    pub(super) unchecked: OnceCell<bool>,
    endpoints: RefCell<Vec<Rc<Known>>>,
}

/// What a registry answered.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// The address that was asked in the end, for relative links.
    pub(super) url: String,
}

impl Response {
    /// Returns a header's first value.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl<'a> Client<'a> {
    pub(super) fn new(context: &'a FetchContext<'a>, endpoint: Endpoint) -> Result<Self> {
        let mut all = context.cache.endpoints.borrow_mut();
        if let Some(known) = all.iter().find(|known| known.endpoint == endpoint) {
            return Ok(Self { context, known: Rc::clone(known) });
        }
        let repository = Repository::parse(&endpoint.name)?.repository;
        let agent = agent(&endpoint, context)?;
        let (plain, contact, authorization) = (Cell::default(), Cell::default(), RefCell::default());
        let needs_proxy = Cell::default();
        let known = Rc::new(Known { repository, endpoint, agent, plain, contact, authorization, needs_proxy });
        all.push(Rc::clone(&known));
        Ok(Self { context, known })
    }

    /// Returns what became of the questions of this session that went to an endpoint.
    pub(super) fn contact(context: &FetchContext<'_>, endpoint: &Endpoint) -> Contact {
        let all = context.cache.endpoints.borrow();
        all.iter().find(|known| known.endpoint == *endpoint).map_or(Contact::NotAsked, |known| known.contact.get())
    }

    /// Returns the endpoint's name, for messages.
    pub(super) fn name(&self) -> &str {
        &self.known.endpoint.name
    }

    /// Asks for `path` beneath the repository.
    ///
    /// # Errors
    /// C03, C09, C10, C11, C17. A status other than success is not an error, except for 401, 403 and 429.
    pub(super) fn get(&self, path: &str) -> Result<Response> {
        let url =
            |scheme: &str| format!("{scheme}://{}/v2/{}/{path}", self.known.endpoint.host, self.known.endpoint.path);
        if self.known.plain.get() {
            return self.follow(&url("http"));
        }
        match self.follow(&url("https")) {
            // As containers tools do with a registry that is called insecure. One that has answered does have TLS.
            Err(refusal)
                if self.known.endpoint.insecure
                    && self.known.contact.get() != Contact::Answered
                    && matches!(refusal.case(), Case::C10Tls | Case::C17Network) =>
            {
                self.known.plain.set(true);
                self.follow(&url("http"))
            }
            other => other,
        }
    }

    /// Reads the raw manifest that a tag or digest stands for, where there is one.
    ///
    /// # Errors
    /// As [`Self::get`]; C17 for any other answer.
    pub(super) fn manifest(&self, reference: &str) -> Result<Option<Vec<u8>>> {
        let answer = self.get(&format!("manifests/{reference}"))?;
        match answer.status {
            200 => Ok(Some(answer.body)),
            404 => Ok(None),
            status => {
                let why = format!("status {status} {}", words(&answer.body));
                Err(Refusal::new(Case::C17Network, self.name(), why.trim_end()))
            }
        }
    }

    /// Reads a blob of at most the size of a manifest. `None` if this one or one before it cannot be had from here: the
    /// proxy may be led elsewhere by the registry, reads from slow ones piece by piece, and says what is wrong.
    ///
    /// # Errors
    /// [`Case::C03Slow`] for a small one: who has waited as long as is allowed does not wait again.
    pub(super) fn blob(&self, digest: &BlobDigest, size: u64) -> Result<Option<Vec<u8>>> {
        if size > self.context.budget.manifest || self.known.needs_proxy.get() {
            return Ok(None);
        }
        let found = match self.get(&format!("blobs/{digest}")) {
            Ok(answer) => {
                let right = answer.status == 200 && answer.body.len() as u64 == size;
                Some(answer.body).filter(|body| right && BlobDigest::of(body) == *digest)
            }
            Err(refusal) if refusal.case() == Case::C03Slow && size <= SMALL => return Err(refusal),
            Err(_) => None,
        };
        self.known.needs_proxy.set(found.is_none());
        Ok(found)
    }

    /// Asks for a link that the registry gave, relative to `from`.
    ///
    /// # Errors
    /// As [`Self::get`]; C09 for one that leads elsewhere.
    pub(super) fn link(&self, from: &str, link: &str) -> Result<Response> {
        self.follow(&self.within(from, link)?)
    }

    /// Resolves the address that `link` leads to, if it is the same registry's by the same scheme.
    fn within(&self, from: &str, link: &str) -> Result<String> {
        let refuse = |why: &str| Refusal::new(Case::C09Redirect, self.name(), format!("{why}: {link}"));
        let base: Uri = from.parse().map_err(|_| refuse("no address"))?;
        let (scheme, host) = (base.scheme_str().unwrap_or_default(), base.authority().map_or("", |a| a.as_str()));
        let address = match link {
            l if l.starts_with("//") => format!("{scheme}:{l}"),
            l if l.starts_with('/') => format!("{scheme}://{host}{l}"),
            l if l.starts_with('?') => format!("{scheme}://{host}{}{l}", base.path()),
            l if l.contains("://") => l.to_owned(),
            l => format!("{scheme}://{host}{}/{l}", base.path().rsplit_once('/').map_or("", |(front, _)| front)),
        };
        let to: Uri = address.parse().map_err(|_| refuse("no address"))?;
        let same =
            to.scheme_str() == Some(scheme) && to.authority().is_some_and(|a| a.as_str().eq_ignore_ascii_case(host));
        // Credentials are sent along, and a host inside our network could be meant.
        if same { Ok(address) } else { Err(refuse("another host or scheme")) }
    }

    fn follow(&self, url: &str) -> Result<Response> {
        let mut url = url.to_owned();
        let (mut asked_who, mut waited) = (false, false);
        for _ in 0..REDIRECTS + 2 {
            let answer = self.once(&url)?;
            match answer.status {
                301 | 302 | 303 | 307 | 308 => {
                    let missing = || Refusal::new(Case::C09Redirect, self.name(), "a redirect without a place");
                    url = self.within(&url, answer.header("location").ok_or_else(missing)?)?;
                }
                401 if !asked_who => {
                    asked_who = true;
                    let authorization = self.authorize(&answer)?;
                    *self.known.authorization.borrow_mut() = Some(authorization);
                }
                401 | 403 => {
                    let why = format!("status {} {}", answer.status, words(&answer.body));
                    return Err(Refusal::new(Case::C11Auth, self.name(), why.trim_end()));
                }
                429 if !waited => {
                    waited = true;
                    self.wait(&answer)?;
                }
                429 => return Err(Refusal::new(Case::C17Network, self.name(), "too many requests (status 429)")),
                _ => return Ok(answer),
            }
        }
        Err(Refusal::new(Case::C09Redirect, self.name(), "redirects without end"))
    }

    fn wait(&self, answer: &Response) -> Result<()> {
        let seconds = answer.header("retry-after").and_then(|s| s.parse().ok()).unwrap_or(1);
        let why = || format!("too many requests (status 429): it wants us to wait {seconds} s");
        if seconds > LONGEST_WAIT {
            return Err(Refusal::new(Case::C17Network, self.name(), why()));
        }
        let wanted = std::time::Duration::from_secs(seconds);
        if self.context.clock.left(self.name(), wanted)? < wanted {
            return Err(Refusal::new(Case::C17Network, self.name(), why()));
        }
        std::thread::sleep(wanted);
        Ok(())
    }

    fn once(&self, url: &str) -> Result<Response> {
        let mut request = self.known.agent.get(url);
        if let Some(authorization) = &*self.known.authorization.borrow() {
            request = request.header("Authorization", authorization);
        }
        self.send(request.header("Accept", ACCEPT), url)
    }

    /// Finds what to put into `Authorization` after a 401 (RFC 7235; distribution, "Token Authentication").
    fn authorize(&self, answer: &Response) -> Result<String> {
        let FetchContext { clock, budget, options, runtime, .. } = *self.context;
        let challenge = Challenge::of(&answer.headers)
            .ok_or_else(|| Refusal::new(Case::C11Auth, self.name(), "it does not say how to log in (status 401)"))?;
        let known = runtime.block_on(auth::credentials(&self.known.repository, options, clock, budget))?;
        let basic =
            |name: &str, password: &str| format!("Basic {}", STANDARD.encode(format!("{name}:{password}").as_bytes()));
        let (realm, service, scope) = match challenge {
            Challenge::Basic => {
                return match known {
                    Some(auth::Credentials::Basic(name, password)) => Ok(basic(&name, &password)),
                    _ => Err(Refusal::new(Case::C11Auth, self.name(), "it wants name and password (status 401)")),
                };
            }
            Challenge::Bearer { realm, service, scope } => (realm, service, scope),
        };
        let secure = realm.starts_with("https://") || (self.known.plain.get() && realm.starts_with("http://"));
        if !secure {
            let why = format!("credentials are asked for at a place without TLS: {realm}");
            return Err(Refusal::new(Case::C09Redirect, self.name(), why));
        }
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.known.endpoint.path));
        let service = service.unwrap_or_default();
        let answer = match &known {
            Some(auth::Credentials::Identity(token)) => {
                let form = [
                    ("grant_type", "refresh_token"),
                    ("client_id", "layerseal"),
                    ("service", &service),
                    ("scope", &scope),
                    ("refresh_token", token),
                ];
                let request = self.known.agent.post(&realm);
                let left = Some(clock.left(&realm, budget.answer)?);
                let request = request.config().timeout_global(left).proxy(environment::proxy(&realm)).build();
                self.read(request.send_form(form), &realm)?
            }
            other => {
                let mut request = self.known.agent.get(&realm).query("service", &service).query("scope", &scope);
                if let Some(auth::Credentials::Basic(name, password)) = other {
                    request = request.header("Authorization", basic(name, password));
                }
                self.send(request, &realm)?
            }
        };
        if answer.status != 200 {
            let why = format!("{realm}: status {} {}", answer.status, words(&answer.body));
            return Err(Refusal::new(Case::C11Auth, self.name(), why.trim_end()));
        }
        token(&answer.body).ok_or_else(|| Refusal::new(Case::C11Auth, self.name(), format!("{realm} gives no token")))
    }

    fn send(&self, request: ureq::RequestBuilder<ureq::typestate::WithoutBody>, url: &str) -> Result<Response> {
        let left = self.context.clock.left(self.name(), self.context.budget.answer)?;
        self.read(request.config().timeout_global(Some(left)).proxy(environment::proxy(url)).build().call(), url)
    }

    fn read(
        &self,
        response: std::result::Result<ureq::http::Response<ureq::Body>, Error>,
        url: &str,
    ) -> Result<Response> {
        let max = self.context.budget.manifest;
        let said = if response.is_ok() { Contact::Answered } else { Contact::Silent };
        self.known.contact.set(self.known.contact.get().max(said));
        let mut response = response.map_err(|e| self.failed(&e, url))?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(max).read_to_vec().map_err(|e| self.failed(&e, url))?;
        Ok(Response { status, headers: response.headers().clone(), body, url: url.to_owned() })
    }

    fn failed(&self, error: &Error, url: &str) -> Refusal {
        let FetchContext { clock, budget, .. } = *self.context;
        let host = url.parse::<Uri>().ok().and_then(|u| u.authority().map(ToString::to_string)).unwrap_or_default();
        let network = |e: &dyn std::fmt::Display| Refusal::new(Case::C17Network, self.name(), format!("{host}: {e}"));
        match error {
            Error::Timeout(_) => clock.late(self.name(), budget.answer),
            Error::BodyExceedsLimit(max) => {
                Refusal::new(Case::C03Slow, self.name(), format!("an answer of more than {max} bytes"))
            }
            Error::NativeTls(e) => {
                let text = e.to_string();
                // OpenSSL's words for an answer that is not TLS.
                let plain = text.contains("wrong version number") || text.contains("packet length too long");
                let why = if plain { "it does not speak TLS" } else { text.as_str() };
                Refusal::new(Case::C10Tls, self.name(), format!("{host}: {why}"))
            }
            Error::Tls(e) => Refusal::new(Case::C10Tls, self.name(), format!("{host}: {e}")),
            Error::Io(e) if e.kind() == std::io::ErrorKind::TimedOut => clock.late(self.name(), budget.answer),
            other => network(other),
        }
    }
}

/// Reads `{"token": …}` or `{"access_token": …}`, the first that is not empty, in the form in which it is sent back.
fn token(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let said = |name| value.get(name).and_then(|token| token.as_str()).filter(|token| !token.is_empty());
    said("token").or_else(|| said("access_token")).map(|token| format!("Bearer {token}"))
}

/// Reads what a registry says about an error (distribution-spec, "Error Codes").
pub(super) fn words(body: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| value.pointer(&format!("/errors/0/{key}")).and_then(|v| v.as_str()).unwrap_or_default();
    format!("{} {}", text("code"), text("message")).trim().to_owned()
}
