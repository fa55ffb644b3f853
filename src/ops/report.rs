//! What was refused, and what would have been.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::str::FromStr;

use serde_json::Value;

use crate::error::journal::JournalDecision;
use crate::error::{Case, Refusal, Result};
use crate::state::{Event, StateDir, Totals, events};
use crate::sys::process;

/// Where journald keeps the journal (systemd-journald(8)); if neither exists there is none to read.
const JOURNALS: [&str; 2] = ["/var/log/journal", "/run/log/journal"];

/// When a period begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// So many seconds ago.
    Ago(i64),
    /// This time, in seconds since 1970.
    At(i64),
}

impl Period {
    /// Returns its start, in seconds since 1970.
    pub fn start(self) -> i64 {
        match self {
            Self::Ago(seconds) => process::now().saturating_sub(seconds),
            Self::At(time) => time,
        }
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let bad = || {
            format!("{text}: not 30m, 12h, 7d, 2w, a date (2026-11-28) or a date and a time in UTC (2026-11-28T06:00)")
        };
        if let Some(unit) = text.chars().last().filter(char::is_ascii_alphabetic)
            && let Ok(number) = text[..text.len() - 1].parse::<u32>()
        {
            let seconds = match unit {
                's' => 1,
                'm' => 60,
                'h' => 3600,
                'd' => 86_400,
                'w' => 604_800,
                _ => return Err(bad()),
            };
            return Ok(Self::Ago(i64::from(number) * seconds));
        }
        date(text.trim_end_matches('Z')).map(Self::At).ok_or_else(bad)
    }
}

/// Parses `2026-11-28`, `2026-11-28T06:00`, `2026-11-28T06:00:00`, in UTC.
fn date(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let number = |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<i64>().ok())?;
    let [year, month, day] = date.split('-').map(number).collect::<Option<Vec<_>>>()?.try_into().ok()?;
    let mut clock = time.split(':').map(number).collect::<Option<Vec<_>>>()?;
    clock.resize(3, 0);
    let [hour, minute, second] = clock.try_into().ok()?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let in_range = (1970..10_000).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days[usize::try_from(month - 1).ok()?]).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..60).contains(&second);
    let leaps = |year: i64| year / 4 - year / 100 + year / 400;
    let before = (year - 1970) * 365 + leaps(year - 1) - leaps(1969);
    let months: i64 = days[..usize::try_from(month - 1).ok()?].iter().sum();
    in_range.then(|| (before + months + day - 1) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Where starts are on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportSource {
    /// journald.
    Journal,
    /// Our own log.
    Log,
}

/// An image that was refused, or would have been, in one case.
#[derive(Clone, Debug, Default)]
pub struct ReportedGroup {
    /// How many calls there were.
    pub calls: u64,
    /// The containers.
    pub containers: BTreeSet<String>,
    /// When the first one was.
    pub first: i64,
    /// The last one, with image and case.
    pub last: Event,
}

/// What is on record.
#[derive(Debug)]
pub struct Report {
    /// Where it was read.
    pub source: ReportSource,
    /// How many calls ended in each way.
    pub calls: BTreeMap<String, u64>,
    /// Those that were refused or let pass: the refused first, and within both the most frequent first.
    pub groups: Vec<ReportedGroup>,
    /// Everything since the host was started; only with our own log.
    pub totals: Totals,
}

/// Sums up what is on record since a given time, or all of it.
///
/// # Errors
/// [`Case::Io`] if neither the journal nor our own log can be read, [`Case::NeedsRoot`] if that is only because of who
/// asks.
pub fn report(since: Option<i64>) -> Result<Report> {
    let own = events();
    // One need not be root to read the journal.
    let is_kept_from_us = own.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied);
    let (log, totals) = match own {
        Err(_) if is_kept_from_us && !rustix::process::geteuid().is_root() => Default::default(),
        own => own.map_err(|e| Refusal::io(StateDir::Log.to_string(), e))?,
    };
    let (source, events) = match journal(since) {
        None if is_kept_from_us => return Err(not_for_all()),
        Some(events) if events.is_empty() && is_kept_from_us => return Err(not_for_all()),
        // A journal without any of the starts that we know of is another host's, or nobody wrote it.
        Some(events) if !events.is_empty() || log.is_empty() => (ReportSource::Journal, events),
        _ => (ReportSource::Log, log),
    };
    let mut calls: BTreeMap<String, u64> = BTreeMap::new();
    let mut groups: BTreeMap<(String, String, String), ReportedGroup> = BTreeMap::new();
    for event in events.into_iter().filter(|event| since.is_none_or(|since| event.time >= since)) {
        *calls.entry(event.decision.clone()).or_default() += 1;
        if ![JournalDecision::Refused.word(), JournalDecision::Audit.word()].contains(&event.decision.as_str()) {
            continue;
        }
        let key = (event.decision.clone(), event.image.clone(), event.case.clone());
        let group = groups.entry(key).or_default();
        if group.calls == 0 {
            group.first = event.time;
        }
        group.calls += 1;
        if !event.container.is_empty() {
            group.containers.insert(event.container.clone());
        }
        group.last = event;
    }
    let mut groups: Vec<ReportedGroup> = groups.into_values().collect();
    let rank = |group: &ReportedGroup| {
        (group.last.decision != JournalDecision::Refused.word(), std::cmp::Reverse(group.calls))
    };
    groups.sort_by_key(rank);
    Ok(Report { source, calls, groups, totals })
}

fn not_for_all() -> Refusal {
    let why = "the log of starts is root's, and the journal shows none to this user (see the group systemd-journal)";
    Refusal::new(Case::NeedsRoot, "report", why)
}

/// Reads what root's programs told the journal as `layerseal`; `None` if there is no journal, or it cannot be read.
fn journal(since: Option<i64>) -> Option<Vec<Event>> {
    if !JOURNALS.iter().any(|place| std::path::Path::new(place).is_dir()) {
        return None;
    }
    let mut command = Command::new("journalctl");
    // Anybody can write fields that do not begin with `_`.
    command.args(["--quiet", "--output=json", "--all", "-t", "layerseal", "_UID=0"]);
    if let Some(since) = since {
        command.arg(format!("--since=@{since}"));
    }
    let output = command.output().ok().filter(|output| output.status.success())?;
    let lines = output.stdout.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let events = lines.filter_map(|line| event(&serde_json::from_slice(line).ok()?));
    Some(events.collect())
}

/// Converts a record of the journal from its own JSON format (systemd.io, "Journal JSON Format"); `None` for a record
/// that is not about a start.
fn event(record: &Value) -> Option<Event> {
    let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
    let field = |name: &str| text(&format!("LAYERSEAL_{name}"));
    let time: i64 = text("__REALTIME_TIMESTAMP").parse().ok()?;
    let decision = Some(field("DECISION")).filter(|decision| !decision.is_empty())?;
    Some(Event {
        time: time / 1_000_000,
        decision,
        stage: field("STAGE"),
        case: field("CASE"),
        subject: field("SUBJECT"),
        remedy: field("REMEDY"),
        message: text("MESSAGE"),
        image: field("IMAGE"),
        container: field("CONTAINER"),
        ..Event::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_duration_or_a_date() {
        for (text, period) in [
            ("90s", Period::Ago(90)),
            ("30m", Period::Ago(1800)),
            ("7d", Period::Ago(604_800)),
            ("1970-01-01", Period::At(0)),
            ("2000-03-01", Period::At(951_868_800)),
            ("2026-11-28T06:00", Period::At(1_795_845_600)),
            ("2026-11-28 06:00:01", Period::At(1_795_845_601)),
            ("2026-11-28T06:00:00Z", Period::At(1_795_845_600)),
        ] {
            assert_eq!(text.parse(), Ok(period), "{text}");
        }
        for bad in [
            "",
            "7",
            "7y",
            "d",
            "-7d",
            "2026-02-29",
            "2026-13-01",
            "2026-00-10",
            "2026-11",
            "2026-11-28T25:00",
            "x",
            "99999999999d",
        ] {
            assert!(bad.parse::<Period>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_record_of_the_journal_is_an_event() {
        let record = serde_json::json!({"__REALTIME_TIMESTAMP": "1795845600000001", "MESSAGE": "m",
            "LAYERSEAL_DECISION": "refused", "LAYERSEAL_CASE": "C07", "LAYERSEAL_IMAGE": "app", "LAYERSEAL_STAGE": "precreate"});
        let found = event(&record).unwrap();
        assert_eq!((found.time, &*found.case, &*found.image, &*found.message), (1_795_845_600, "C07", "app", "m"));
        assert_eq!(event(&serde_json::json!({"__REALTIME_TIMESTAMP": "1", "MESSAGE": "m"})), None);
        // A field that is not UTF-8 is a list of numbers.
        let odd = serde_json::json!({"__REALTIME_TIMESTAMP": "1", "LAYERSEAL_DECISION": "audit", "MESSAGE": [255]});
        assert_eq!(event(&odd).unwrap().message, "");
    }
}
