//! What this host asks, what it can, and what it did.

use std::collections::BTreeMap;

use super::super::schema::{objects, words, words_of};
use super::Error;
use crate::pki::Dates;
use crate::policy::{BindingRule, Checkpoint, FetchRule, Mode, Rollback, RootDriver, UpperRule, Verity};

objects! {
    /// Certificates that the kernel has now.
    pub struct AddedCertificates {
        /// Each.
        pub certificates: Vec<AddedCertificate>,
    }

    /// A certificate in the kernel's keyring.
    pub struct AddedCertificate {
        /// The key's number in the kernel.
        pub serial: i32,
        /// The certificate's subject.
        pub subject: String,
        /// SHA-256 of its DER, in hex.
        pub sha256: String,
    }

    /// The kernel's keyring for fs-verity signatures.
    pub struct Keyring {
        /// Its keys.
        pub keys: Vec<KernelKey>,
    }

    /// A key in it.
    pub struct KernelKey {
        /// Its number.
        pub serial: i32,
        /// What the kernel calls it.
        pub description: String,
    }

    /// The keyring takes no more certificates.
    pub struct RestrictedKeyring {
        /// That it does not.
        pub restricted: bool,
    }

    /// What counts for an image.
    pub struct PolicyDecision {
        /// Where the mode was decided: the rule's pattern and its file.
        pub rule: String,
        /// The same for each setting.
        pub rules: BTreeMap<&'static str, Vec<String>>,
        /// The name that decided the mode.
        pub name: Option<String>,
        /// All names, as they are compared.
        pub names: Vec<String>,
        /// The Kubernetes namespace that was asked for.
        pub namespace: Option<String>,
        /// Whether a seal is needed.
        pub mode: Mode,
        /// The trust stores.
        pub trust: Vec<String>,
        /// Their certificates.
        pub certificates: Vec<TrustedCertificate>,
        /// Their anchors (`ca/`).
        pub anchors: Vec<Anchor>,
        /// Whether a statement is needed.
        pub binding: BindingRule,
        /// Whether the image's name must be in the seal.
        pub identity: bool,
        /// Whether the kernel must check every byte.
        pub verity: Verity,
        /// What the upper directory may hold at the first mount.
        pub upper: UpperRule,
        /// Whether a certificate outside its dates counts.
        pub dates: Dates,
        /// Whether a seal may be older than one that was accepted before.
        pub rollback: Rollback,
        /// Whether a container may come back from a checkpoint.
        pub checkpoint: Checkpoint,
        /// Whether seals may be fetched when a container starts.
        pub fetch: FetchRule,
        /// The system paths that containers may cover.
        pub cover: Vec<String>,
        /// How images are mounted.
        pub mount: MountSettings,
        /// How much is denied.
        pub denied: Denied,
    }

    /// A certificate of a trust store.
    pub struct TrustedCertificate {
        /// Its subject.
        pub subject: String,
        /// SHA-256 of its DER, in hex.
        pub sha256: String,
        /// Whether it is denied.
        pub denied: bool,
    }

    /// An anchor of a trust store.
    pub struct Anchor {
        /// SHA-256 of its certificate.
        pub sha256: String,
    }

    /// How images are mounted.
    pub struct MountSettings {
        /// Device files do not work.
        pub nodev: bool,
        /// Set-user-ID bits and file capabilities do not work.
        pub nosuid: bool,
        /// What lies on top.
        pub top: RootDriver,
    }

    /// How many entries `deny.d/` has.
    pub struct Denied {
        /// Certificates and keys.
        pub certificates: usize,
        /// Digests.
        pub digests: usize,
    }

    /// What an exit code, or the ID of a case, means.
    pub struct Explanation {
        /// The exit code.
        pub code: u8,
        /// What all cases with it have in common.
        pub what: String,
        /// The cases.
        pub cases: Vec<ExplainedCase>,
        /// The last calls of a hook on this host that ended so.
        pub last: Vec<HookCall>,
        /// How to find all in the journal.
        pub journal: String,
    }

    /// A case.
    pub struct ExplainedCase {
        /// Its ID.
        pub id: String,
        /// What is wrong.
        pub what: String,
        /// What can be done; empty where nothing can be said in general.
        pub remedy: String,
    }

    /// The last calls of a hook since the host was started.
    pub struct LastCalls {
        /// The last that was refused.
        pub refused: Option<HookCall>,
        /// The last that `audit` let pass.
        pub audit: Option<HookCall>,
        /// All that were asked for, the newest first: with `--last N` or a container, and else these two.
        pub calls: Vec<HookCall>,
    }

    /// A call of a hook.
    pub struct HookCall {
        /// When, in seconds since 1970.
        pub time: i64,
        /// For which container; empty where that is not known.
        pub container: String,
        /// What it is called; empty where that is not known.
        pub name: String,
        /// Whose container it is, as its annotations say.
        pub manager: String,
        /// What came of it: `allowed`, `refused`, `audit` or `off`.
        pub decision: String,
        /// The ID of the case, where one was refused.
        pub case: String,
        /// What the journal was told.
        pub message: String,
    }

    /// What this host can enforce.
    pub struct Diagnosis {
        /// Whether sealed images can be enforced; the exit code is 6 where not, and where only root can tell.
        pub enforces: bool,
        /// What was looked at.
        pub checks: Vec<Check>,
        /// The container store, as it is configured.
        pub store: Store,
    }

    /// One thing that was looked at.
    pub struct Check {
        /// What.
        pub check: String,
        /// Whether it is there; what is `missing` keeps sealed images from being enforced.
        pub state: CheckState,
        /// What was found.
        pub found: String,
        /// What can be done; may be empty.
        pub remedy: String,
    }

    /// The container store, in the words of storage.conf.
    pub struct Store {
        /// The version of podman, where there is one.
        pub podman: Option<String>,
        /// The version of podman since which its files are read so.
        pub read_as_since: Option<String>,
        /// The files that were read, in that order.
        pub files: Vec<String>,
        /// The driver.
        pub driver: Option<String>,
        /// The graph root.
        pub graphroot: Option<String>,
        /// The run root.
        pub runroot: Option<String>,
        /// Where images are pulled to, if not into the graph root.
        pub imagestore: Option<String>,
        /// Stores that images are taken from as well.
        pub additionalimagestores: Vec<String>,
        /// The mount program.
        pub mount_program: Option<String>,
        /// Containers are forgotten with this boot.
        pub transient_store: bool,
        /// podman mounts images of its own making.
        pub use_composefs: bool,
        /// Why it cannot be read.
        pub error: Option<Error>,
    }
}

words! {
    /// Whether something is there.
    pub enum CheckState {
        /// It is.
        Ok = "ok",
        /// It is not, and sealed mounts work without it.
        Optional = "optional",
        /// It is not, and the policy does without it.
        Weak = "weak",
        /// Only root can tell.
        Unknown = "unknown",
        /// It is not, and no sealed mount is possible.
        Missing = "missing",
    }
}

words_of! {
    BindingRule: "required" | "local";
    Verity: "require" | "off";
    UpperRule: "empty" | "any";
    Dates: "enforce" | "ignore";
    Rollback: "refuse" | "allow";
    Checkpoint: "refuse" | "allow";
    FetchRule: "never" | "on-mount";
    RootDriver: "kernel" | "fuse-overlayfs";
}
