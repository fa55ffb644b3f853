//! Records for the administrator: one for each refusal of the mount program and the hooks, and one for
//! each that `audit` let pass. The caller may drop what is written to the standard error; the journal
//! keeps it.

use std::os::unix::net::UnixDatagram;

use super::Refusal;

/// Where journald listens (systemd.io, "Native Journal Protocol"), and any syslog.
const JOURNAL: &str = "/run/systemd/journal/socket";
const SYSLOG: &str = "/dev/log";

/// What was decided. Each decision has its own number, `MESSAGE_ID` (systemd.journal-fields(7)), which never changes:
/// `journalctl _UID=0 MESSAGE_ID=…` shows all of one kind. Without `_UID=0` it also shows what other users write: the
/// journal accepts every field from everybody, except those that begin with `_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalDecision {
    /// Refused: there is no container.
    Refused,
    /// Let pass, although it would have been refused.
    Audit,
    /// Everything that was asked is there.
    Allowed,
    /// Nothing is asked.
    Off,
}

impl JournalDecision {
    /// All of them, for documentation.
    pub const ALL: [Self; 4] = [Self::Refused, Self::Audit, Self::Allowed, Self::Off];

    /// Returns the word in the field `LAYERSEAL_DECISION`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Audit => "audit",
            Self::Allowed => "allowed",
            Self::Off => "off",
        }
    }

    /// Returns the `MESSAGE_ID`.
    pub const fn message_id(self) -> &'static str {
        match self {
            Self::Refused => "508f57f1a9d04668a6d5faaa35c7f67e",
            Self::Audit => "14c6638e22eb48e28db25fc3cfd09c0f",
            Self::Allowed | Self::Off => "2cea94d830cc473c98bce2808006f042",
        }
    }

    /// Returns the severity (syslog(3)): an error, a warning, or information.
    const fn priority(self) -> u8 {
        match self {
            Self::Refused => 3,
            Self::Audit => 4,
            Self::Allowed | Self::Off => 6,
        }
    }
}

/// Sends a record; fields are named `LAYERSEAL_NAME`, and one without a value is left out. If nobody listens, the
/// record is lost: no container depends on a log.
pub fn record(decision: JournalDecision, message: &str, fields: &[(&str, &str)]) {
    let Ok(socket) = UnixDatagram::unbound() else { return };
    // A journal that hangs must not keep a container from starting, or from being refused.
    let _ = socket.set_nonblocking(true);
    let priority = decision.priority();
    let mut text = format!(
        "PRIORITY={priority}\nSYSLOG_IDENTIFIER=layerseal\nMESSAGE_ID={}\nMESSAGE={}\nLAYERSEAL_DECISION={}\n",
        decision.message_id(),
        line(message),
        decision.word()
    );
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("LAYERSEAL_{name}={}\n", line(value)));
    }
    if socket.send_to(text.as_bytes(), JOURNAL).is_err() {
        // LOG_AUTHPRIV is 10 (RFC 5424, "Severity and facility").
        let syslog = format!("<{}>layerseal: {}", 10 * 8 + priority, line(message));
        let _ = socket.send_to(syslog.as_bytes(), SYSLOG);
    }
}

/// Records a refusal of the mount program.
pub fn refused(refusal: &Refusal, target: &str, stage: &str) {
    let fields = [
        ("CASE", refusal.case().id()),
        ("SUBJECT", &refusal.subject()),
        ("REMEDY", refusal.case().remedy()),
        ("STAGE", stage),
        ("TARGET", target),
    ];
    record(JournalDecision::Refused, &refusal.to_string(), &fields);
}

/// Turns a field into one line: a line break in it would begin another field.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(4000).collect()
}
