use crate::cli::{args, json, output};
use crate::error::Result;
use crate::error::journal::JournalDecision;
use crate::ops::{Report, ReportSource, ReportedGroup, report};
use crate::state::{BUCKETS, CountedDecision, Totals};
use crate::sys::process;

/// Runs `layerseal report`.
pub(super) fn run(args: &args::Report) -> Result<()> {
    let since = args.since.map(crate::ops::Period::start);
    let report = report(since)?;
    match (args.prometheus, args.json) {
        (true, _) => prometheus(&report.totals),
        (_, true) => output::document(document(&report, since)),
        _ => tell(&report),
    }
    Ok(())
}

fn tell(report: &Report) {
    for ReportedGroup { calls, containers, last, .. } in &report.groups {
        let image = if last.image.is_empty() { "an unknown image" } else { &last.image };
        let ago = ago(process::now() - last.time);
        let of = match containers.len() {
            0 => String::new(),
            1 => " of 1 container".to_owned(),
            n => format!(" of {n} containers"),
        };
        let what = if last.decision == JournalDecision::Audit.word() { "enforce would refuse" } else { "refused" };
        let s = if *calls == 1 { "" } else { "s" };
        output::line(format!("{what} {image} [R-{}]: {calls} call{s}{of}, the last {ago} ago", last.case));
        output::line(format!("  {}", last.message));
    }
    let count = |decision: JournalDecision| report.calls.get(decision.word()).copied().unwrap_or_default();
    let place = match report.source {
        ReportSource::Journal => "the journal",
        ReportSource::Log => "layerseal's log of this boot",
    };
    output::line(format!(
        "{} refused, {} let pass by audit, {} allowed, {} of which nothing is asked (calls, from {place})",
        count(JournalDecision::Refused),
        count(JournalDecision::Audit),
        count(JournalDecision::Allowed),
        count(JournalDecision::Off)
    ));
}

/// Formats a time span for people.
fn ago(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{} s", seconds.max(0)),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn document(report: &Report, since: Option<i64>) -> json::Report {
    let count = |decision: JournalDecision| report.calls.get(decision.word()).copied().unwrap_or_default();
    let group = |group: &ReportedGroup| json::ReportedGroup {
        decision: group.last.decision.clone(),
        image: group.last.image.clone(),
        case: group.last.case.clone(),
        calls: group.calls,
        containers: group.containers.len(),
        first: group.first,
        last: group.last.time,
        subject: group.last.subject.clone(),
        message: group.last.message.clone(),
        remedy: group.last.remedy.clone(),
    };
    json::Report {
        source: match report.source {
            ReportSource::Journal => json::ReportSource::Journal,
            ReportSource::Log => json::ReportSource::Log,
        },
        since,
        calls: json::ReportedCalls {
            allowed: count(JournalDecision::Allowed),
            off: count(JournalDecision::Off),
            audit: count(JournalDecision::Audit),
            refused: count(JournalDecision::Refused),
        },
        groups: report.groups.iter().map(group).collect(),
    }
}

/// Prints the totals in the text format of Prometheus (prometheus.io, "Exposition formats"). All values of labels are
/// our own words.
fn prometheus(totals: &Totals) {
    output::line("# HELP layerseal_decisions_total What was decided of starts, by decision, case and stage.");
    output::line("# TYPE layerseal_decisions_total counter");
    for (key, count) in &totals.decisions {
        let CountedDecision { decision, case, stage } = Totals::parts(key);
        output::line(format!(
            "layerseal_decisions_total{{decision=\"{decision}\",case=\"{case}\",stage=\"{stage}\"}} {count}"
        ));
    }
    output::line("# HELP layerseal_call_seconds How long a call took until it was decided.");
    output::line("# TYPE layerseal_call_seconds histogram");
    for (stage, times) in &totals.times {
        let bounds = BUCKETS.iter().map(|ms| seconds(*ms)).zip(times.within);
        for (bound, count) in bounds.chain([("+Inf".to_owned(), times.count)]) {
            output::line(format!("layerseal_call_seconds_bucket{{stage=\"{stage}\",le=\"{bound}\"}} {count}"));
        }
        output::line(format!("layerseal_call_seconds_sum{{stage=\"{stage}\"}} {}", seconds(times.sum)));
        output::line(format!("layerseal_call_seconds_count{{stage=\"{stage}\"}} {}", times.count));
    }
}

fn seconds(milliseconds: u64) -> String {
    format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000)
}
