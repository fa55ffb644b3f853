//! Records for the administrator: one for each refusal of the mount program and the hooks, and one for
//! each that `audit` let pass. The caller may drop what is written to the standard error; the journal
//! keeps it.

use std::os::unix::net::UnixDatagram;

use super::Refusal;

/// Where journald listens (systemd.io, "Native Journal Protocol"), and any syslog.
const JOURNAL: &str = "/run/systemd/journal/socket";
const SYSLOG: &str = "/dev/log";

/// What was decided. Each has a number of its own, `MESSAGE_ID` (systemd.journal-fields(7)), which never
/// changes: `journalctl _UID=0 MESSAGE_ID=…` shows all of one kind. Without `_UID=0` it shows what any user says too:
/// the journal takes every field but those that begin with `_` from whoever writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// No container.
    Refused,
    /// Let pass, and would have been refused.
    Audit,
    /// All that was asked is there.
    Allowed,
    /// Nothing is asked.
    Off,
}

impl Decision {
    /// All of them, for documentation.
    pub const ALL: [Self; 4] = [Self::Refused, Self::Audit, Self::Allowed, Self::Off];

    /// The word in the field `LAYERSEAL_DECISION`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Audit => "audit",
            Self::Allowed => "allowed",
            Self::Off => "off",
        }
    }

    /// `MESSAGE_ID`.
    pub const fn message_id(self) -> &'static str {
        match self {
            Self::Refused => "508f57f1a9d04668a6d5faaa35c7f67e",
            Self::Audit => "14c6638e22eb48e28db25fc3cfd09c0f",
            Self::Allowed | Self::Off => "2cea94d830cc473c98bce2808006f042",
        }
    }

    /// How grave (syslog(3)): an error, a warning, worth knowing.
    const fn priority(self) -> u8 {
        match self {
            Self::Refused => 3,
            Self::Audit => 4,
            Self::Allowed | Self::Off => 6,
        }
    }
}

/// Sends a record; fields are named `LAYERSEAL_NAME`, and one without value is left out. Without anybody
/// who listens it is lost: no container depends on a log.
pub fn record(decision: Decision, message: &str, fields: &[(&str, &str)]) {
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

/// The record of a refusal of the mount program.
pub fn refused(refusal: &Refusal, target: &str) {
    let case = refusal.case().id();
    record(Decision::Refused, &refusal.to_string(), &[("CASE", case), ("TARGET", target)]);
}

/// A field is one line: a line break in it would begin another field.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(4000).collect()
}
