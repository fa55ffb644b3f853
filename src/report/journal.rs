//! Records for the administrator: one for each refusal of the mount program and the hooks, and one for
//! each that `audit` let pass. The caller may drop what is written to the standard error; the journal
//! keeps it.

use std::os::unix::net::UnixDatagram;

use super::Refusal;

/// Where journald listens (systemd.io, "Native Journal Protocol"), and any syslog.
const JOURNAL: &str = "/run/systemd/journal/socket";
const SYSLOG: &str = "/dev/log";

/// How grave (syslog(3)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Refused.
    Error = 3,
    /// Let pass, and would have been refused.
    Warning = 4,
    /// Worth knowing.
    Info = 6,
}

/// Sends a record. Without anybody who listens it is lost: no container depends on a log.
pub fn record(priority: Priority, message: &str, fields: &[(&str, &str)]) {
    let Ok(socket) = UnixDatagram::unbound() else { return };
    // A journal that hangs must not keep a container from starting, or from being refused.
    let _ = socket.set_nonblocking(true);
    let mut text = format!("PRIORITY={}\nSYSLOG_IDENTIFIER=layerseal\nMESSAGE={}\n", priority as u8, line(message));
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("LAYERSEAL_{name}={}\n", line(value)));
    }
    if socket.send_to(text.as_bytes(), JOURNAL).is_err() {
        // LOG_AUTHPRIV is 10 (RFC 5424, "Severity and facility").
        let syslog = format!("<{}>layerseal: {}", 10 * 8 + priority as u8, line(message));
        let _ = socket.send_to(syslog.as_bytes(), SYSLOG);
    }
}

/// The record of a refusal.
pub fn refused(refusal: &Refusal, target: &str) {
    let case = refusal.case().id();
    record(Priority::Error, &refusal.to_string(), &[("CASE", case), ("TARGET", target)]);
}

/// A field is one line: a line break in it would begin another field.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(4000).collect()
}
