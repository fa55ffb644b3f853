//! What podman goes by in place of storage.conf: its database, which is in the graph root, so that whoever writes there
//! chooses it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{CheckState, HostCheck, check};
use crate::container_store::{Configured, check_database, database_paths};

const NAME: &str = "podman's database";

/// What podman uses, as it says itself: it has two forms of database, and compares what they say with its configuration.
const FORMAT: &str = "{{.Store.GraphRoot}}\n{{.Store.RunRoot}}\n{{.Store.GraphDriverName}}";

/// Checks that the database does what podman says, and compares what podman uses with what is configured,
/// if podman may be asked; `None` where it has no database yet.
pub(super) fn look(found: &Configured, ask: bool) -> Option<HostCheck> {
    let roots = [&found.graph_root, &found.run_root].into_iter();
    let database = roots.flat_map(|root| database_paths(root)).find(|path| path.symlink_metadata().is_ok())?;
    found.podman?;
    if let Err(refusal) = check_database(None) {
        let found = format!("{}: {}", refusal.subject(), refusal.what_and_detail());
        return Some(check(NAME, CheckState::Missing, found, refusal.case().remedy()));
    }
    let shown = database.display();
    if !ask {
        let why = format!("{shown}: podman was not asked what it uses, because of what is in its store");
        return Some(check(NAME, CheckState::Unknown, why, ""));
    }
    let output = Command::new("podman").args(["info", "--format", FORMAT]).output();
    let said = output.ok().filter(|output| output.status.success());
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let mut lines = said.lines();
    let (Some(graph_root), Some(run_root), Some(driver)) = (lines.next(), lines.next(), lines.next()) else {
        return Some(check(
            NAME,
            CheckState::Optional,
            format!("{shown}: podman info says nothing"),
            "run it yourself",
        ));
    };
    let here = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| PathBuf::from(path));
    let another = |used: &str, configured: &Path| here(Path::new(used)) != here(configured);
    let mut other = Vec::new();
    if another(graph_root, &found.graph_root) {
        other.push(format!("graph root {graph_root} instead of {}", found.graph_root.display()));
    }
    if another(run_root, &found.run_root) {
        other.push(format!("run root {run_root} instead of {}", found.run_root.display()));
    }
    if let Some(configured) = found.driver().filter(|configured| configured != driver) {
        other.push(format!("driver {driver} instead of {configured}"));
    }
    Some(match other.is_empty() {
        true => check(NAME, CheckState::Ok, format!("{shown}, as configured"), ""),
        false => check(
            NAME,
            CheckState::Optional,
            format!("{shown}: podman uses {}", other.join(", ")),
            "podman goes by its database, and whoever can write to the graph root chooses what that says; if these are \
             yours, let storage.conf say the same, otherwise `podman system reset`",
        ),
    })
}
