//! layerseal as the OCI runtime, of podman and of CRI-O, and what CRI-O is configured to do besides.

use std::path::Path;

use super::hooks;
use super::{Check, State, check};
use crate::hook::{self, Caller, CriO, Stage};
use crate::identify::mount_program;
use crate::policy::{Directories, Policy, Top, real_runtime};

/// What there is to say; nothing where layerseal is nobody's runtime and there is no CRI-O.
pub(super) fn checks() -> Vec<Check> {
    let crio = hook::crio(Path::new("/"));
    let asked = hooks::podman_has_it() || crio.as_ref().is_some_and(CriO::runs_by_layerseal);
    let behind = asked.then(behind);
    behind.into_iter().chain(crio.iter().flat_map(of_crio)).collect()
}

/// The runtime that it stands before.
fn behind() -> Check {
    const NAME: &str = "the runtime behind layerseal";
    match real_runtime(&Directories::system()) {
        Ok(path) => check(NAME, State::Ok, path.display().to_string(), ""),
        Err(refusal) => {
            let found =
                format!("{}: {}; no container starts, and none can be stopped", refusal.subject(), refusal.detail());
            check(NAME, State::Missing, found, refusal.case().remedy())
        }
    }
}

/// CRI-O, where there is one: by what its configuration says.
fn of_crio(crio: &CriO) -> Vec<Check> {
    const NAME: &str = "CRI-O's mount_program";
    let mut checks = Vec::new();
    let others = crio.others().join(", ");
    checks.push(match (crio.runs_by_layerseal(), others.is_empty()) {
        (true, true) => {
            check("CRI-O's runtime", State::Ok, format!("{}, which is layerseal", crio.default_runtime), "")
        }
        (true, false) => check(
            "CRI-O's runtime",
            State::Optional,
            format!(
                "{}, which is layerseal; pods that name another handler run without: {others}",
                crio.default_runtime
            ),
            "give each handler's runtime_path to layerseal-runtime, or take the handler out",
        ),
        (false, _) => check(
            "CRI-O's runtime",
            State::Optional,
            format!("{}, which is not layerseal", crio.default_runtime),
            "contrib/crio has the handler; docs/kubernetes.md says why it is better than a mount_program",
        ),
    });
    let program = crio.mount_program.clone().or_else(mount_program);
    let ours = program.filter(|program| program.ends_with("/layerseal"));
    let fuse = Policy::load(&Directories::system()).is_ok_and(|policy| policy.mount().top == Top::FuseOverlayfs);
    checks.extend(ours.map(|program| match crio.internal_repair && !fuse {
        true => check(
            NAME,
            State::Missing,
            format!("{program}, and internal_repair is on: after an unclean end CRI-O removes the whole graph root"),
            "take layerseal as the runtime and no mount_program; or internal_repair = false in [crio] of crio.conf, or \
             top = \"fuse-overlayfs\" in the policy's [mount]",
        ),
        false => check(NAME, State::Ok, program, ""),
    }));
    if !crio.runs_by_layerseal() {
        checks.push(hooks::one("CRI-O's hook createRuntime", Caller::CriO, Stage::CreateRuntime));
    }
    checks
}
