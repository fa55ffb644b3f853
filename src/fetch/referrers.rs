//! Which artifacts claim to be about an image: the referrers API of every endpoint, and the index of the fallback tag
//! (distribution-spec, "Listing Referrers" and "Referrers Tag Schema"). All of it is claims.

use std::collections::BTreeSet;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::FetchContext;
use super::client::{Client, words};
use super::clients::Clients;
use super::link;
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::{Budget, strict_json};
use crate::seal::ARTIFACT_TYPES;

/// Digests of the candidates, each once, in the order in which they were met.
#[derive(Debug, Default)]
pub(super) struct ReferrerCandidates {
    seen: BTreeSet<BlobDigest>,
    pub(super) digests: Vec<BlobDigest>,
    entries: usize,
}

impl ReferrerCandidates {
    /// Adds the candidates that others found.
    ///
    /// # Errors
    /// [`Case::C02TooMany`].
    pub(super) fn join(&mut self, others: Self, budget: &Budget) -> Result<()> {
        self.digests.extend(others.digests.into_iter().filter(|digest| self.seen.insert(*digest)));
        if self.digests.len() > budget.seals {
            return Err(Refusal::new(Case::C02TooMany, "", format!("more than {} seals", budget.seals)));
        }
        Ok(())
    }

    /// Adds the entries of one list: seals, and entries that do not say what they are. Lists may say anything about an
    /// artifact; its own bytes say what it is and what it is about. An entry that makes no sense does not hide the
    /// others.
    ///
    /// # Errors
    /// [`Case::C02TooMany`]; [`Case::D14Json`] for what is not a list.
    pub(super) fn add(&mut self, raw: &[u8], name: &str, budget: &Budget) -> Result<()> {
        let refuse = |why: String| Err(Refusal::new(Case::C02TooMany, name, why));
        let value = strict_json::value(raw, name)?;
        let entries = value.get("manifests").and_then(Value::as_array);
        let entries = entries.ok_or_else(|| Refusal::new(Case::D14Json, name, "it is no index"))?;
        self.entries += entries.len();
        if self.entries > budget.index_entries {
            return refuse(format!("more than {} referrers", budget.index_entries));
        }
        for entry in entries.iter().filter(|entry| may_be_seal(entry)) {
            let Some(digest) = entry.get("digest").and_then(Value::as_str).and_then(|d| d.parse().ok()) else {
                continue;
            };
            if self.seen.insert(digest) {
                self.digests.push(digest);
            }
        }
        if self.digests.len() > budget.seals {
            return refuse(format!("more than {} seals", budget.seals));
        }
        Ok(())
    }
}

fn may_be_seal(entry: &Value) -> bool {
    let kind = entry.get("artifactType").and_then(Value::as_str).unwrap_or_default();
    kind.is_empty() || ARTIFACT_TYPES.contains(&kind)
}

/// Asks the API of the repository's endpoints, mirrors first, until one lists a seal, or all of them. What one of them
/// sends does not keep the others from being asked, and a page that is missing does not keep those that came from being
/// used. Returns the first error too.
pub(super) fn from_api(clients: &Clients<'_>, image: &BlobDigest, all: bool) -> (ReferrerCandidates, Option<Refusal>) {
    let context = clients.context;
    let mut first: Option<Refusal> = None;
    let mut found = ReferrerCandidates::default();
    for client in clients.all() {
        let mut here = ReferrerCandidates::default();
        let asked = client.and_then(|client| of_endpoint(client, context, image, &mut here).map(|_| ()));
        // Not from a list that exceeds the budget: it cannot be known what the rest of it holds.
        let came = !matches!(&asked, Err(refusal) if refusal.case() == Case::C02TooMany);
        let joined = if came { found.join(here, context.budget) } else { Ok(()) };
        if let Err(refusal) = asked.and(joined) {
            log::info!("{refusal}");
            first.get_or_insert(refusal);
        }
        if !all && !found.digests.is_empty() {
            break;
        }
    }
    (found, first)
}

/// Asks one endpoint: with the filter, once for each type of artifact, unless it does not filter.
pub(super) fn of_endpoint(
    client: &Client<'_>,
    context: &FetchContext<'_>,
    image: &BlobDigest,
    found: &mut ReferrerCandidates,
) -> Result<bool> {
    for kind in ARTIFACT_TYPES {
        let kind = utf8_percent_encode(kind, NON_ALPHANUMERIC);
        let mut answer = client.get(&format!("referrers/{image}?artifactType={kind}"))?;
        let filters = answer.header("oci-filters-applied").is_some_and(|f| f.contains("artifactType"));
        let mut pages = 0;
        loop {
            match answer.status {
                200 => {}
                // "A registry that does not support it answers 404"; some say that they cannot.
                404 | 405 | 501 if pages == 0 => return Ok(false),
                status => {
                    let why = format!("status {status} {}", words(&answer.body));
                    return Err(Refusal::new(Case::C17Network, client.name(), why.trim_end()));
                }
            }
            let name = format!("referrers of {image} in {}", client.name());
            found.add(&answer.body, &name, context.budget)?;
            let next = link::next(&answer.headers).map_err(|why| Refusal::new(Case::C17Network, &name, why))?;
            let Some(next) = next else { break };
            pages += 1;
            if pages >= context.budget.pages {
                return Err(Refusal::new(Case::C02TooMany, name, format!("more than {} pages", context.budget.pages)));
            }
            answer = client.link(&answer.url, &next)?;
        }
        if !filters {
            break;
        }
    }
    Ok(true)
}
