//! layerseal as the OCI runtime, for podman and for CRI-O, and what else CRI-O is configured to do.

use std::path::Path;

use super::hooks;
use super::{CheckState, HostCheck, check};
use crate::container_store::mount_program;
use crate::hook::{self, Caller, CriO, Stage};
use crate::policy::{Directories, Policy, RootDriver, real_runtime};

/// Lists what there is to say; nothing if layerseal is nobody's runtime and there is no CRI-O.
pub(super) fn checks() -> Vec<HostCheck> {
    let crio = hook::crio(Path::new("/"));
    let asked = hooks::podman_has_it() || crio.as_ref().is_some_and(CriO::runs_by_layerseal);
    let behind = asked.then(behind);
    behind.into_iter().chain(crio.iter().flat_map(of_crio)).collect()
}

/// Checks the runtime that layerseal stands in front of.
fn behind() -> HostCheck {
    const NAME: &str = "the runtime behind layerseal";
    match real_runtime(&Directories::system()) {
        Ok(path) => check(NAME, CheckState::Ok, path.display().to_string(), ""),
        Err(refusal) => {
            let found =
                format!("{}: {}; no container starts, and none can be stopped", refusal.subject(), refusal.detail());
            check(NAME, CheckState::Missing, found, refusal.case().remedy())
        }
    }
}

/// Checks CRI-O, if there is one, by its configuration.
fn of_crio(crio: &CriO) -> Vec<HostCheck> {
    const NAME: &str = "CRI-O's mount_program";
    let program = crio.mount_program.clone().or_else(mount_program);
    let ours = program.filter(|program| program.ends_with("/layerseal"));
    let hook = hooks::one("CRI-O's hook createRuntime", Caller::CriO, Stage::CreateRuntime);
    let mut checks = vec![runtime(crio, ours.is_some(), hook.state)];
    let fuse = Policy::load(&Directories::system()).is_ok_and(|policy| policy.mount().top == RootDriver::FuseOverlayfs);
    checks.extend(ours.map(|program| match (crio.internal_repair, fuse) {
        (true, false) => check(
            NAME,
            CheckState::Missing,
            format!("{program}, and internal_repair is on: after an unclean end CRI-O removes the whole graph root"),
            "take layerseal as the runtime and no mount_program; or internal_repair = false in [crio] of crio.conf, or \
             top = \"fuse-overlayfs\" in the policy's [mount]",
        ),
        // What is refused counts as damaged, whoever mounts the rest.
        (true, true) => check(
            NAME,
            CheckState::Optional,
            format!("{program}, and internal_repair is on: after an unclean end CRI-O removes images that are refused"),
            "take layerseal as the runtime and no mount_program; or internal_repair = false in [crio] of crio.conf",
        ),
        (false, _) => check(NAME, CheckState::Ok, program, ""),
    }));
    if !crio.runs_by_layerseal() {
        checks.push(hook);
    }
    checks.extend(store(crio));
    checks
}

/// Checks that it has its images where layerseal's own verbs look for them; nothing if it has.
fn store(crio: &CriO) -> Option<HostCheck> {
    let remedy = "set graphroot and runroot in storage.conf to the same: check, prepare, fetch, status, gc and fsck go by that \
                  file. Containers are verified in either case";
    crio.store_elsewhere().map(|found| check("CRI-O's store", CheckState::Missing, found, remedy))
}

/// Checks which runtime its containers get, in addition to our mount program and the hook.
fn runtime(crio: &CriO, has_program: bool, hook: CheckState) -> HostCheck {
    const NAME: &str = "CRI-O's runtime";
    let name = &crio.default_runtime;
    let others = crio.others().join(", ");
    match (crio.runs_by_layerseal(), others.is_empty()) {
        (true, true) => check(NAME, CheckState::Ok, format!("{name}, which is layerseal"), ""),
        (true, false) => check(
            NAME,
            CheckState::Optional,
            format!("{name}, which is layerseal; pods of these handlers and platforms run without: {others}"),
            "make each runtime_path, and each of platform_runtime_paths, layerseal-runtime, or take it out",
        ),
        // The hook finds no root that was verified, whatever image it is of.
        (false, _) if !has_program && hook == CheckState::Ok => check(
            NAME,
            CheckState::Missing,
            format!("{name}, which is not layerseal: nobody verifies, so the hook refuses sealed images too"),
            "contrib/crio has the handler",
        ),
        (false, _) => check(
            NAME,
            CheckState::Optional,
            format!("{name}, which is not layerseal"),
            "contrib/crio has the handler; docs/kubernetes.md says why it is better than a mount_program",
        ),
    }
}
