//! What was decided about each start, for `layerseal report`: one line of JSON each, in `/run/layerseal/log`. No start
//! waits for the log, and none fails because of it: what cannot be written is lost.
//!
//! A line is appended by one write(2), which nobody else can interrupt. When the file is full it becomes the previous
//! one, and the content of the one that it replaces is added to the totals: so the log has two files of at most
//! [`MAX_FILE`] bytes, and no count is lost. If a process is killed between these two steps, one file is counted twice.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat, renameat};
use serde::{Deserialize, Serialize};

use super::{Notes, StateDir};
use crate::sys::process;

const DIR: StateDir = StateDir::Log;
const NOW: &str = "events";
const BEFORE: &str = "events.before";
const TOTALS: &str = "totals.json";
/// Room for about two thousand starts.
const MAX_FILE: u64 = 1 << 20;
/// How many characters a field, or a message for people, may have. A line stays far below the size of one write.
const MAX_FIELD: usize = 700;
const MAX_MESSAGE: usize = 4000;
/// How large the totals may be: there are as many as there are cases and stages.
const MAX_TOTALS: u64 = 1 << 20;

/// Upper bounds of the times that are counted together, in milliseconds.
pub const BUCKETS: [u64; 8] = [5, 10, 25, 50, 100, 500, 2_500, 10_000];

/// What was decided about one start, at one of its stages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// When it happened, in seconds since 1970.
    pub time: i64,
    /// `refused`, `audit`, `allowed` or `off`.
    pub decision: String,
    /// What decided: `mount` for the mount program, the name of a hook, or `runtime`.
    pub stage: String,
    /// The ID of the case.
    pub case: String,
    /// What was looked at.
    pub subject: String,
    /// What can be done.
    pub remedy: String,
    /// Everything in one line.
    pub message: String,
    /// A name of the image.
    pub image: String,
    /// The container's ID.
    pub container: String,
    /// What the container is called; empty if that is not known.
    pub name: String,
    /// Whose container it is, as its annotations say.
    pub manager: String,
    /// How long it took, in milliseconds.
    pub took: u64,
}

/// How often something was decided, and how long that took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// By decision, case and stage.
    pub decisions: BTreeMap<String, u64>,
    /// By stage.
    pub times: BTreeMap<String, Times>,
}

/// What starts are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountedDecision<'a> {
    /// `allowed`, `refused` and so on.
    pub decision: &'a str,
    /// The case of a refusal; empty if there was none.
    pub case: &'a str,
    /// Who asked: `precreate`, `mount` and so on.
    pub stage: &'a str,
}

/// How long calls took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// How many took no longer than each of [`BUCKETS`].
    pub within: [u64; BUCKETS.len()],
    /// How many there were.
    pub count: u64,
    /// How long all of them took together, in milliseconds.
    pub sum: u64,
}

impl Totals {
    /// Splits a key of [`Self::decisions`] into its parts.
    pub fn parts(key: &str) -> CountedDecision<'_> {
        let (decision, rest) = key.split_once(' ').unwrap_or((key, ""));
        let (case, stage) = rest.split_once(' ').unwrap_or((rest, ""));
        CountedDecision { decision, case, stage }
    }

    /// Counts one more.
    pub fn add(&mut self, event: &Event) {
        let key = format!("{} {} {}", event.decision, event.case, event.stage);
        *self.decisions.entry(key).or_default() += 1;
        let times = self.times.entry(event.stage.clone()).or_default();
        times.count += 1;
        times.sum = times.sum.saturating_add(event.took);
        let longer = BUCKETS.iter().zip(&mut times.within).filter(|(most, _)| event.took <= **most);
        longer.for_each(|(_, count)| *count += 1);
    }
}

/// Appends an event, with time and how long this process has run.
pub fn append(event: Event) {
    let took = process::since_begun().as_millis().try_into().unwrap_or(u64::MAX);
    let event = Event { time: process::now(), took, ..event };
    if let Err(e) = write(&event) {
        log::debug!("{DIR}: {e}");
    }
}

fn write(event: &Event) -> io::Result<()> {
    let dir = DIR.make()?;
    let first = |text: &String, most: usize| text.chars().take(most).collect::<String>();
    let cut = |text: &String| first(text, MAX_FIELD);
    let event = Event {
        subject: cut(&event.subject),
        remedy: cut(&event.remedy),
        message: first(&event.message, MAX_MESSAGE),
        image: cut(&event.image),
        container: cut(&event.container),
        name: cut(&event.name),
        manager: cut(&event.manager),
        ..event.clone()
    };
    let line = [serde_json::to_vec(&event)?, b"\n".to_vec()].concat();
    let mut file = open(&dir)?;
    if file.metadata()?.len() >= MAX_FILE {
        // A process that turns the log meanwhile has it open; this line can still go there.
        if let Ok(()) = turn(&dir) {
            file = open(&dir)?;
        }
    }
    match file.write(&line)? {
        n if n == line.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

fn open(dir: &Notes) -> io::Result<File> {
    let flags =
        OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(openat(dir, NOW, flags, Mode::RUSR | Mode::WUSR)?))
}

/// Turns the current file into the previous one, unless somebody else is doing it.
fn turn(dir: &Notes) -> io::Result<()> {
    let lock = File::from(openat(dir, ".", OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    if open(dir)?.metadata()?.len() < MAX_FILE {
        return Ok(());
    }
    let mut totals = folded(dir)?;
    lines(dir, BEFORE)?.iter().for_each(|event| totals.add(event));
    dir.write(TOTALS, &serde_json::to_vec(&totals)?)?;
    Ok(renameat(dir, NOW, dir, BEFORE)?)
}

/// Reads the totals of what is no longer in the log.
fn folded(dir: &Notes) -> io::Result<Totals> {
    let text = dir.read(TOTALS, MAX_TOTALS)?;
    // Totals that cannot be read begin at zero: a counter may.
    Ok(text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default())
}

/// Reads what can be read of one of the files; lines that cannot be read are left out.
fn lines(dir: &Notes, name: &str) -> io::Result<Vec<Event>> {
    // Every writer may be one line late.
    let Some(text) = dir.read(name, 2 * MAX_FILE)? else { return Ok(Vec::new()) };
    Ok(text.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

/// Reads everything in the log, oldest first, and the totals of everything since the host was started.
///
/// # Errors
/// Errors of the kernel; an error if users other than root could have written it.
pub fn events() -> io::Result<(Vec<Event>, Totals)> {
    let Some(dir) = DIR.open()? else { return Ok(Default::default()) };
    let mut all = lines(&dir, BEFORE)?;
    all.extend(lines(&dir, NOW)?);
    let mut totals = folded(&dir)?;
    all.iter().for_each(|event| totals.add(event));
    Ok((all, totals))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_count_by_decision_and_time() {
        let mut totals = Totals::default();
        for took in [0, 5, 6, 10_001] {
            let (decision, case, stage) = ("refused".into(), "C07".into(), "mount".into());
            totals.add(&Event { decision, case, stage, took, ..Event::default() });
        }
        totals.add(&Event { decision: "allowed".into(), stage: "mount".into(), ..Event::default() });
        assert_eq!(
            totals.decisions.iter().map(|(key, n)| (Totals::parts(key), *n)).collect::<Vec<_>>(),
            [
                (CountedDecision { decision: "allowed", case: "", stage: "mount" }, 1),
                (CountedDecision { decision: "refused", case: "C07", stage: "mount" }, 4),
            ]
        );
        let times = &totals.times["mount"];
        assert_eq!((times.count, times.sum), (5, 10_012));
        assert_eq!(times.within, [3, 4, 4, 4, 4, 4, 4, 4]);
    }
}
