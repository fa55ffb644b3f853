//! What all rules for an image's names ask together: each setting in its strictest form.

use crate::digest::Fingerprint;
use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::file::RuleSettings;
use super::{Cover, Decision, Mode};

/// What is asked under one of an image's names.
#[derive(Clone, Copy)]
pub(super) struct NamedDecision<'a> {
    /// Everything that is asked.
    pub decision: &'a Decision,
    /// What the rule itself says; everything else comes from the default.
    pub said: &'a RuleSettings,
}

/// The rules that contributed to each setting.
pub type Sources = BTreeMap<&'static str, Vec<String>>;

/// Combines the parts, at least one; `first` decides what is left.
///
/// A rule with `mode = "off"` asks for nothing. If another name asks for more, only what the rule itself says counts,
/// and not what it has from the default.
pub(super) fn combine(first: &Decision, parts: &[NamedDecision<'_>]) -> Decision {
    let mode = parts.iter().map(|p| p.decision.mode).min().unwrap_or(first.mode);
    let mut all = Combined { mode, parts, sources: Sources::new() };
    let deciding: Vec<&Decision> = parts.iter().map(|p| p.decision).filter(|d| d.mode == mode).collect();
    all.set("mode", &deciding);
    let (certificates, anchors, stores) = all.trust();
    Decision {
        mode,
        certificates,
        anchors,
        stores,
        binding: all.strictest("binding", first.binding, |s| s.binding.is_some(), |d| d.binding),
        // True is stricter.
        identity: !all.strictest("identity", !first.identity, |s| s.identity.is_some(), |d| !d.identity),
        verity: all.strictest("verity", first.verity, |s| s.verity.is_some(), |d| d.verity),
        upper: all.strictest("upper", first.upper, |s| s.upper.is_some(), |d| d.upper),
        dates: all.strictest("dates", first.dates, |s| s.dates.is_some(), |d| d.dates),
        fetch: all.strictest("fetch", first.fetch, |s| s.fetch.is_some(), |d| d.fetch),
        fetch_timeout: all.strictest(
            "fetch_timeout",
            first.fetch_timeout,
            |s| s.fetch_timeout.is_some(),
            |d| d.fetch_timeout,
        ),
        // Whoever waits longest asks for least.
        fetch_retry: all
            .strictest(
                "fetch_retry",
                Reverse(first.fetch_retry),
                |s| s.fetch_retry.is_some(),
                |d| Reverse(d.fetch_retry),
            )
            .0,
        cover: all.cover(),
        rollback: all.strictest("rollback", first.rollback, |s| s.rollback.is_some(), |d| d.rollback),
        checkpoint: all.strictest("checkpoint", first.checkpoint, |s| s.checkpoint.is_some(), |d| d.checkpoint),
        source: first.source.clone(),
        sources: all.sources,
        names: Vec::new(),
        name: None,
    }
}

struct Combined<'a> {
    mode: Mode,
    parts: &'a [NamedDecision<'a>],
    sources: Sources,
}

impl<'a> Combined<'a> {
    /// Lists the parts that contribute to a setting.
    fn asking(&self, says: impl Fn(&RuleSettings) -> bool) -> Vec<&'a Decision> {
        let counts = |p: &&NamedDecision<'_>| p.decision.mode != Mode::Off || self.mode == Mode::Off || says(p.said);
        self.parts.iter().filter(counts).map(|p| p.decision).collect()
    }

    /// Picks the strictest value: values are in the order of strictness, the strictest first.
    fn strictest<T: Ord + Copy>(
        &mut self,
        setting: &'static str,
        default: T,
        says: impl Fn(&RuleSettings) -> bool,
        value: impl Fn(&Decision) -> T,
    ) -> T {
        let asking = self.asking(says);
        let strictest = asking.iter().map(|d| value(d)).min().unwrap_or(default);
        let of = |d: &&&Decision| value(d) == strictest;
        self.set(setting, &asking.iter().filter(of).copied().collect::<Vec<_>>());
        strictest
    }

    fn set(&mut self, setting: &'static str, from: &[&Decision]) {
        let mut sources: Vec<String> = from.iter().map(|d| d.source.clone()).collect();
        sources.sort_unstable();
        sources.dedup();
        self.sources.insert(setting, sources);
    }

    /// Returns whom all of them trust.
    fn trust(&mut self) -> (Vec<crate::pki::Certificate>, Vec<crate::pki::Anchor>, Vec<String>) {
        let asking = self.asking(|s| s.trust.is_some());
        self.set("trust", &asking);
        let Some((first, rest)) = asking.split_first() else { return (Vec::new(), Vec::new(), Vec::new()) };
        let signer = |f: Fingerprint| rest.iter().all(|d| d.certificates.iter().any(|c| c.fingerprint() == f));
        let anchor = |f: Fingerprint| rest.iter().all(|d| d.anchors.iter().any(|a| a.fingerprint() == f));
        let mut stores: Vec<String> = asking.iter().flat_map(|d| d.stores.iter().cloned()).collect();
        if !rest.is_empty() {
            let by_all = |s: &String| asking.iter().all(|d| d.stores.contains(s));
            stores.retain(by_all);
            stores.sort_unstable();
        }
        stores.dedup();
        (
            first.certificates.iter().filter(|c| signer(c.fingerprint())).cloned().collect(),
            first.anchors.iter().filter(|a| anchor(a.fingerprint())).cloned().collect(),
            stores,
        )
    }

    /// Returns what all of them allow to be covered: if one place contains another, the inner one.
    fn cover(&mut self) -> Vec<Cover> {
        let asking = self.asking(|s| s.cover.is_some());
        self.set("cover", &asking);
        let Some((first, rest)) = asking.split_first() else { return Vec::new() };
        rest.iter().fold(first.cover.clone(), |both, other| {
            let within = |one: &Cover, all: &[Cover]| all.iter().any(|c| c.holds(one.path()));
            let mut left: Vec<Cover> = both.iter().filter(|c| within(c, &other.cover)).cloned().collect();
            left.extend(other.cover.iter().filter(|c| within(c, &both) && !both.contains(c)).cloned());
            left
        })
    }
}
