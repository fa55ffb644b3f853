use std::process::ExitCode;

use crate::cli::{args, json, output};
use crate::error::Result;
use crate::ops::{CheckRequest, CheckedContainer, CheckedImage, Checks, Context, ImageSelection, check};
use crate::start::{Expected, StartVerdict};

/// How many digits of an ID tell the containers of one host apart.
const SHORT: usize = 12;

/// Runs `layerseal check`.
pub(super) fn run(context: &Context, args: args::Check) -> Result<ExitCode> {
    let everything = args.images.is_empty() && !args.all && !args.containers;
    let images = match args.images.is_empty() {
        true => (args.all || everything).then_some(ImageSelection::All),
        false => Some(ImageSelection::Named(args.images)),
    };
    let containers = args.containers || everything;
    let checks = check(context, &CheckRequest { images, containers, namespace: args.namespace })?;
    match args.json {
        true => output::document(document(&checks)),
        false => tell(&checks),
    }
    let code = |worst: &crate::error::Refusal| ExitCode::from(worst.case().class().exit_code());
    Ok(checks.worst().map_or(ExitCode::SUCCESS, code))
}

/// Prints a line for each, and a sum.
fn tell(checks: &Checks) {
    for CheckedImage { name, id, expected } in &checks.images {
        line(name.as_deref().unwrap_or_else(|| short(id)), expected);
    }
    for CheckedContainer { id, names, expected } in &checks.containers {
        line(&format!("container {}", names.first().map_or_else(|| short(id), String::as_str)), expected);
    }
    output::line(sum(checks));
}

/// Prints a line for each of those that do not start, or only because of `audit`.
pub(super) fn tell_red(checks: &Checks) {
    let red = |expected: &Expected| expected.verdict.refusal().is_some();
    for CheckedImage { name, id, expected } in checks.images.iter().filter(|image| red(&image.expected)) {
        line(name.as_deref().unwrap_or_else(|| short(id)), expected);
    }
    for CheckedContainer { id, names, expected } in checks.containers.iter().filter(|c| red(&c.expected)) {
        line(&format!("container {}", names.first().map_or_else(|| short(id), String::as_str)), expected);
    }
    output::line(sum(checks));
}

/// Returns how many there are of each kind.
fn sum(checks: &Checks) -> String {
    let count = |n: usize, what: &str| match n {
        0 => None,
        1 => Some(format!("1 {what}")),
        n => Some(format!("{n} {what}s")),
    };
    let looked: Vec<String> = [count(checks.images.len(), "image name"), count(checks.containers.len(), "container")]
        .into_iter()
        .flatten()
        .collect();
    let [sealed, unasked, audit, refused] = checks.sum();
    let words = [
        (sealed, "sealed"),
        (unasked, "of which nothing is asked"),
        (audit, "that only audit lets pass"),
        (refused, "refused"),
    ];
    let words: Vec<String> = words.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    match looked.is_empty() {
        true => "nothing to check".to_owned(),
        false => format!("{}: {}", looked.join(", "), words.join(", ")),
    }
}

fn short(id: &str) -> &str {
    id.get(..SHORT).unwrap_or(id)
}

fn line(name: &str, expected: &Expected) {
    let rule = &expected.decision.source;
    let text = match &expected.verdict {
        StartVerdict::Sealed(vouched) => {
            let by =
                vouched.signer.as_ref().map_or_else(String::new, |signer| format!(", sealed by {}", signer.subject));
            let first = if expected.ready { "" } else { "; its first start reads its layers" };
            format!("starts: {name}{by} (rule {rule}){first}")
        }
        StartVerdict::Unasked => format!("starts: {name}, nothing is asked of it (rule {rule})"),
        StartVerdict::Audit(refusal) => {
            format!("audit: {name} starts, enforce would refuse it (rule {rule}): {refusal}")
        }
        StartVerdict::Refused(refusal) => format!("refused: {name} (rule {rule}): {refusal}"),
    };
    output::line(text);
}

pub(super) fn document(checks: &Checks) -> json::Expectations {
    let image = |i: &CheckedImage| json::ExpectedImage {
        name: i.name.clone(),
        id: i.id.clone(),
        expected: (&i.expected).into(),
    };
    let container = |c: &CheckedContainer| json::ExpectedContainer {
        id: c.id.clone(),
        names: c.names.clone(),
        expected: (&c.expected).into(),
    };
    let [sealed, unasked, audit, refused] = checks.sum();
    json::Expectations {
        images: checks.images.iter().map(image).collect(),
        containers: checks.containers.iter().map(container).collect(),
        sum: json::ExpectedSum { sealed, unasked, audit, refused },
    }
}

impl From<&Expected> for json::Expected {
    fn from(expected: &Expected) -> Self {
        let vouched = if let StartVerdict::Sealed(vouched) = &expected.verdict { Some(vouched) } else { None };
        Self {
            verdict: match &expected.verdict {
                StartVerdict::Sealed(_) => json::ExpectedVerdict::Sealed,
                StartVerdict::Unasked => json::ExpectedVerdict::Unasked,
                StartVerdict::Audit(_) => json::ExpectedVerdict::Audit,
                StartVerdict::Refused(_) => json::ExpectedVerdict::Refused,
            },
            mode: expected.decision.mode,
            rule: expected.decision.source.clone(),
            manifest: expected.manifest.map(|digest| digest.to_string()),
            seal: vouched.and_then(|v| v.seal).map(|seal| seal.to_string()),
            signer: vouched.and_then(|v| v.signer.as_ref()).map(|signer| signer.subject.clone()),
            ready: expected.ready,
            error: expected.verdict.refusal().map(Into::into),
        }
    }
}
