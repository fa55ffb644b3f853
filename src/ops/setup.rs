//! A host's way from nothing to `audit`, on to `enforce`, and back.

use std::path::{Path, PathBuf};

use super::check::{CheckRequest, Checks, check_by};
use super::doctor::{self, HostCheck};
use super::{Context, ImageSelection};
use crate::error::{Case, Refusal, Result};
use crate::hook;
use crate::policy::{ConfigWriter, Directories, Mode, ModeChange, Policy};

/// What was found, and what was done.
#[derive(Debug)]
pub struct Setup {
    /// The policy that was written; `None` if there already was one.
    pub written: Option<PathBuf>,
    /// The trust stores that it names.
    pub stores: Vec<String>,
    /// The mode for names that no rule is for.
    pub mode: Mode,
    /// Everything that was checked.
    pub checks: Vec<HostCheck>,
}

/// Makes this host begin in `audit`: writes a policy if there is none, and checks what calls layerseal. Whatever exists
/// is left as it is, so this can be run again.
///
/// # Errors
/// F01 to F03 for an existing policy that cannot be used, and errors of writing.
pub fn setup(context: &Context) -> Result<Setup> {
    let directories = Directories::system();
    let mut written = None;
    if !directories.has_policy() {
        let stores = directories.trust_stores()?;
        // An empty store could not be used.
        let stores: Vec<String> = stores.into_iter().filter(|name| directories.store(name).is_ok()).collect();
        let writer = ConfigWriter::of("")?;
        written = Some(writer.write("policy.toml", first_policy(&stores).as_bytes())?);
    }
    let policy = Policy::load(&directories)?;
    Ok(Setup {
        written,
        stores: policy.stores().into_iter().map(str::to_owned).collect(),
        mode: policy.default_mode(),
        checks: doctor::examine(context).checks,
    })
}

/// Returns the text of the first policy: everything starts, and what `enforce` would refuse is reported.
fn first_policy(stores: &[String]) -> String {
    let trust: Vec<String> = stores.iter().map(|store| format!("{store:?}")).collect();
    format!(
        "# Written by `layerseal setup`. layerseal-policy.toml(5) has every setting.\n\
         version = 1\n\n[default]\n\
         # Everything starts; `layerseal report` says what would be refused. `layerseal enforce` changes it.\n\
         mode = \"audit\"\n\
         # Directories of trust.d/ with the certificates of those who sign; `layerseal trust add` fills them.\n\
         trust = [{}]\n",
        trust.join(", ")
    )
}

/// A new mode for names that no rule is for.
#[derive(Clone, Copy, Debug)]
pub struct ModeRequest {
    /// The mode.
    pub mode: Mode,
    /// Whether to change it even if something would be refused.
    pub force: bool,
}

/// The outcome of changing the mode.
#[derive(Debug)]
pub struct ModeResult {
    /// The file with `[default]`.
    pub file: PathBuf,
    /// The mode before.
    pub before: Mode,
    /// Whether it was changed.
    pub changed: bool,
    /// What would start under the new policy, if that demands more.
    pub checks: Option<Checks>,
    /// Rules that still say `audit` themselves.
    pub audit_rules: Vec<String>,
}

/// Changes the mode in `[default]`: to `enforce` only if everything that is here would still start, unless forced.
///
/// # Errors
/// [`Case::F03Policy`] for a policy that cannot be used or changed, the errors of [`super::check()`], and of writing;
/// [`Case::OtherStore`] where CRI-O has another store than the one that is checked.
pub fn set_mode(context: &Context, request: ModeRequest) -> Result<ModeResult> {
    let directories = Directories::system();
    let change = ModeChange::new(&directories, request.mode)?;
    let policy = change.policy(&directories)?;
    let checks = match request.mode {
        Mode::Enforce => {
            if let Some(found) = hook::crio(Path::new("/")).and_then(|crio| crio.store_elsewhere())
                && !request.force
            {
                return Err(Refusal::new(Case::OtherStore, "CRI-O's store", found));
            }
            let all = CheckRequest { images: Some(ImageSelection::All), containers: true, namespace: None };
            Some(check_by(context, &all, &policy)?)
        }
        Mode::Audit | Mode::Off => None,
    };
    let red = checks.as_ref().is_some_and(|checks| checks.worst().is_some());
    let changed = change.before != request.mode && (request.force || !red);
    if changed {
        change.write()?;
    }
    let audit_rules = policy.rules_with_mode(Mode::Audit);
    Ok(ModeResult { file: change.path, before: change.before, changed, checks, audit_rules })
}
