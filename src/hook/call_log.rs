//! Calls of hooks that were refused, or that `audit` let pass, from the log of this boot: for people who ask about a
//! container, and for hosts without a journal.

use super::{LastCall, Stage};
use crate::error::journal::JournalDecision;
use crate::mount::WouldRefuse;
use crate::state::{Event, StateDir, events};
use crate::sys::process;

/// Returns the newest calls in the log, at most `count`, newest first.
pub fn latest(count: usize) -> Vec<LastCall> {
    all().take(count).collect()
}

/// Returns the newest calls for a container, given its name, its ID or the beginning of its ID; at most `count`.
pub fn about(container: &str, count: usize) -> Vec<LastCall> {
    all().filter(|called| is_meant(called, container)).take(count).collect()
}

/// How long after `precreate` the other hooks of a start may be called, in seconds.
const ONE_START: i64 = 60;

/// Finds what `precreate` let pass for this container a moment ago.
pub(super) fn let_pass(container: &str) -> Option<WouldRefuse> {
    let (events, _) = events().ok()?;
    let asked = |event: &&Event| event.stage == Stage::Precreate.name() && event.container == container;
    let last = events.iter().rev().find(asked).filter(|event| process::now() - event.time <= ONE_START)?;
    let message = last.message.split_once(super::WOULD_REFUSE)?.1.to_owned();
    let Event { case, subject, remedy, .. } = last.clone();
    (last.decision == JournalDecision::Audit.word()).then_some(WouldRefuse { case, subject, message, remedy })
}

fn is_meant(called: &LastCall, container: &str) -> bool {
    if container.is_empty() {
        return false;
    }
    // Nobody means one hexadecimal digit as an ID.
    let by_id = container.len() >= 3 && called.container.starts_with(container);
    called.name == container || by_id
}

fn all() -> impl Iterator<Item = LastCall> {
    let stages = [Stage::Precreate, Stage::CreateRuntime, Stage::CreateContainer, Stage::Runtime].map(Stage::name);
    let decisions = [JournalDecision::Refused, JournalDecision::Audit].map(|decision| decision.word());
    let (events, _) = events().unwrap_or_else(|e| {
        log::warn!("{}: {e}", StateDir::Log);
        Default::default()
    });
    let asked = move |event: &Event| stages.contains(&&*event.stage) && decisions.contains(&&*event.decision);
    events.into_iter().rev().filter(asked).map(|event| {
        let Event { time, container, name, manager, decision, case, message, .. } = event;
        LastCall { time, container, name, manager, decision, case, message }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_meant_by_its_name_or_the_beginning_of_its_id() {
        let called: LastCall = serde_json::from_value(serde_json::json!({
            "time": 1, "container": "abcdef0123", "name": "web", "decision": "refused", "case": "C07", "message": ""
        }))
        .unwrap();
        for (container, meant) in
            [("web", true), ("abc", true), ("abcdef0123", true), ("ab", false), ("we", false), ("", false)]
        {
            assert_eq!(is_meant(&called, container), meant, "{container}");
        }
        // A call without a name does not match an empty name.
        assert!(!is_meant(&LastCall { name: String::new(), ..called }, ""));
    }
}
