use serde::Serialize;

use super::{LastCall, last_of};
use crate::error::journal::JournalDecision;
use crate::error::{Case, Class};

/// The meaning of a hook's exit code, or of a case's ID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The exit code.
    pub code: u8,
    /// What all cases with it have in common.
    pub what: &'static str,
    /// The cases: all with this exit code, or those with the ID that was asked for.
    pub cases: Vec<CaseExplanation>,
    /// The last calls of a hook on this host that were refused or let pass by `audit`, if they had this code.
    pub last: Vec<LastCall>,
    /// How to find its record in the journal.
    pub journal: String,
}

/// One case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CaseExplanation {
    /// Its ID.
    pub id: &'static str,
    /// What is wrong.
    pub what: &'static str,
    /// What can be done; empty if nothing can be said in general.
    pub remedy: &'static str,
}

/// Explains `asked`: an exit code (`4`), or the ID of a case (`O03`, `R-O03`). `None` for anything else.
pub fn explain(asked: &str) -> Option<Explanation> {
    let of = |code: u8, cases: Vec<Case>, what: &'static str, filter: &str| Explanation {
        code,
        what,
        cases: cases.iter().map(|c| CaseExplanation { id: c.id(), what: c.what(), remedy: c.remedy() }).collect(),
        last: last(&cases, code),
        journal: format!("journalctl -t layerseal _UID=0 MESSAGE_ID={}{filter}", JournalDecision::Refused.message_id()),
    };
    if asked == "0" {
        return Some(of(0, Vec::new(), "the container may start", ""));
    }
    if let Some(class) = asked.parse().ok().and_then(|code: u8| Class::ALL.into_iter().find(|c| c.exit_code() == code))
    {
        let cases = Case::ALL.iter().copied().filter(|c| c.class() == class && in_a_hook(*c)).collect();
        return Some(of(class.exit_code(), cases, class.describe(), ""));
    }
    let id = asked.strip_prefix("R-").unwrap_or(asked).to_ascii_uppercase();
    let cases: Vec<Case> = Case::ALL.iter().copied().filter(|c| c.id() == id).collect();
    let class = cases.first()?.class();
    Some(of(class.exit_code(), cases, class.describe(), &format!(" LAYERSEAL_CASE={id}")))
}

fn last(cases: &[Case], code: u8) -> Vec<LastCall> {
    let calls = [JournalDecision::Refused, JournalDecision::Audit].into_iter().filter_map(last_of);
    let of = |called: &LastCall, case: &Case| case.id() == called.case && case.class().exit_code() == code;
    calls.filter(|called| cases.iter().any(|case| of(called, case))).collect()
}

/// Returns whether a case can occur in a hook. Signing, and registries that a person asks for, are not a hook's
/// business.
fn in_a_hook(case: Case) -> bool {
    !matches!(case.id().as_bytes().first(), Some(b'N'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_and_every_case_is_explained() {
        for class in Class::ALL {
            let explained = explain(&class.exit_code().to_string()).unwrap();
            assert!(!explained.cases.is_empty() && explained.what == class.describe());
        }
        for case in Case::ALL {
            let explained = explain(&format!("R-{}", case.id())).unwrap();
            assert!(explained.cases.iter().any(|c| c.what == case.what()), "{}", case.id());
        }
        assert_eq!(explain("o03").unwrap().code, 4);
        assert_eq!(explain("0").unwrap().cases, []);
        for none in ["", "10", "-1", "256", "R-", "Z99", "126"] {
            assert_eq!(explain(none), None, "{none}");
        }
    }
}
