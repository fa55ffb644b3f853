use super::{Mode, Policy, Rule};

impl Policy {
    /// Lists settings in which the default asks for less than a rule does: whoever can give an image a name that no
    /// rule is for makes it go by the default.
    pub fn weaker_defaults(&self) -> Vec<String> {
        let mut found = Vec::new();
        let default = &self.default;
        let can_be_missed = |r: &&Rule| r.decision.mode != Mode::Off && !r.subject.image.is_all();
        for Rule { decision: rule, .. } in self.rules.iter().filter(can_be_missed) {
            let settings = [
                ("mode", default.mode > rule.mode),
                ("binding", default.binding > rule.binding),
                ("identity", !default.identity && rule.identity),
                ("verity", default.verity > rule.verity),
                ("upper", default.upper > rule.upper),
                ("dates", default.dates > rule.dates),
                ("rollback", default.rollback > rule.rollback),
                ("checkpoint", default.checkpoint > rule.checkpoint),
            ];
            let lenient = settings.into_iter().filter(|(_, lenient)| *lenient);
            found.extend(lenient.map(|(setting, _)| format!("{setting} (stricter for {})", rule.source)));
        }
        found
    }
}
