//! The trust stores that rules name, and what a rule amounts to with them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::config_dirs::load;
use super::file::{BindingRule, Checkpoint, FetchRule, Mode, Rollback, RuleSettings, UpperRule, Verity};
use super::{Decision, Directories, Sources, refuse};
use crate::error::Result;
use crate::oci::Budget;
use crate::pki::{Anchor, Certificate};

/// For how many seconds a registry that did not answer is not asked again, unless the policy says otherwise.
const RETRY: u16 = 60;

/// Trust stores, each read once.
pub(super) struct TrustStores<'a> {
    /// Where they are; `None` if they are not read, and nobody is trusted.
    pub(super) directories: Option<&'a Directories>,
    pub(super) loaded: BTreeMap<String, (Vec<Certificate>, Vec<Anchor>)>,
}

impl TrustStores<'_> {
    pub(super) fn resolve(&mut self, settings: &RuleSettings, source: String) -> Result<Decision> {
        let mode = settings.mode.unwrap_or(Mode::Enforce);
        let stores = settings.trust.clone().unwrap_or_default();
        let (mut certificates, mut anchors) = (Vec::new(), Vec::new());
        for store in stores.iter().filter(|_| self.directories.is_some()) {
            if let Some(directories) = self.directories
                && !self.loaded.contains_key(store)
            {
                let paths = directories.trust(store).map_err(|r| r.within(&source))?;
                self.loaded.insert(store.clone(), load(&paths.0, &paths.1)?);
            }
            if let Some((signers, authorities)) = self.loaded.get(store) {
                certificates.extend(signers.iter().cloned());
                anchors.extend(authorities.iter().cloned());
            }
        }
        let is_read = self.directories.is_some();
        if is_read && certificates.is_empty() && anchors.is_empty() && mode == Mode::Enforce && settings.trust.is_some()
        {
            return Err(refuse(&source, "trust names no store"));
        }
        Ok(Decision {
            mode,
            certificates,
            anchors,
            stores,
            binding: settings.binding.unwrap_or(BindingRule::Required),
            identity: settings.identity.unwrap_or(true),
            verity: settings.verity.unwrap_or(Verity::Require),
            upper: settings.upper.unwrap_or(UpperRule::Any),
            dates: settings.dates.unwrap_or_default(),
            fetch: settings.fetch.unwrap_or(FetchRule::Never),
            cover: settings.cover.clone().unwrap_or_default(),
            rollback: settings.rollback.unwrap_or(Rollback::Allow),
            checkpoint: settings.checkpoint.unwrap_or(Checkpoint::Refuse),
            fetch_timeout: settings
                .fetch_timeout
                .map_or(Budget::STANDARD.on_mount, |seconds| Duration::from_secs(u64::from(seconds.get()))),
            fetch_retry: Duration::from_secs(settings.fetch_retry.unwrap_or(RETRY).into()),
            source,
            sources: Sources::new(),
            names: Vec::new(),
            name: None,
        })
    }
}
