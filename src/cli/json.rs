//! What verbs print with `--json`. docs/json.md is made from this file (`make docs`), which is why every field has a
//! sentence about it.

mod change;
mod check;
mod host;
mod mounts;
mod report;
mod vault;

pub use change::*;
pub use check::*;
pub use host::*;
pub use mounts::*;
pub use report::*;
pub use vault::*;

use super::schema::{self, Described as _, Page, objects, words, words_of};
use crate::policy::Mode;

const HEAD: &str = "\
# JSON for scripts

Every verb takes `--json` and prints one document on its standard output. Made from `src/cli/json.rs` by `make docs`.

Every document is an object with `\"version\": 1`, besides what the tables below say. Every field is always there; what is
not known, or not meant, is `null`. A new version takes a field away or changes what one means; a field that is added
is no new version, so ignore what you do not know. Digests of blobs are `sha256:HEX`, as in OCI. Digests of fs-verity
are in hex, with the algorithm in a field beside them; where several algorithms may meet they are `ALGORITHM:HEX`.

The exit code is the same with and without `--json`. A run that fails prints a [Failure](#failure) instead, and the same
in one line on the standard error.
";

objects! {
    /// A run that failed.
    pub struct Failure {
        /// Why.
        pub error: Error,
    }

    /// A refusal, or a failure.
    pub struct Error {
        /// The ID of the case, such as `D04`; `layerseal hook explain ID` says more.
        pub case: String,
        /// The exit code that goes with it.
        pub exit_code: u8,
        /// What was being looked at; may be empty.
        pub subject: String,
        /// The particulars; may be empty.
        pub detail: String,
        /// All of it in one line, with what can be done.
        pub message: String,
    }

    /// An image that is in the vault now.
    pub struct Pulled {
        /// Its name in the vault.
        pub name: String,
        /// The digest of its manifest.
        pub image: String,
        /// Whether its files have fs-verity there; without it mounting needs `--verity off`.
        pub verity: bool,
    }

    /// An image that holds digests of itself now, and is another image by that.
    pub struct Sealed {
        /// The digest of its manifest.
        pub image: String,
    }

    /// What was signed. With one instance that could not be, the others were, and the exit code is not 0.
    pub struct Signed {
        /// The image, or each instance of a multi-platform one.
        pub images: Vec<SignedImage>,
    }

    /// An image that was to be sealed and signed.
    pub struct SignedImage {
        /// The digest of its manifest.
        pub image: String,
        /// Its platform, where it is an instance of a multi-platform image.
        pub platform: Option<String>,
        /// The digest of the seal's manifest; `null` with `--inline`.
        pub seal: Option<String>,
        /// With `--inline`: the digest of the image's new manifest.
        pub sealed_image: Option<String>,
        /// Why it could not be.
        pub error: Option<Error>,
    }

    /// A seal that was made from signatures.
    pub struct Attached {
        /// The digest of the image's manifest.
        pub image: String,
        /// The digest of the seal's manifest.
        pub seal: String,
    }

    /// Everything that a seal of an image signs.
    pub struct Digests {
        /// The digest of the image's manifest.
        pub image: String,
        /// The algorithm of the digests: `fsverity-sha512-12` or `fsverity-sha256-12`.
        pub algorithm: String,
        /// What is signed.
        pub roles: Vec<DigestOfRole>,
        /// The binding statement.
        pub binding: String,
    }

    /// One thing that is signed.
    pub struct DigestOfRole {
        /// `manifest`, `config`, `layer-N`, `merged`, `rootfs` or `binding`.
        pub role: String,
        /// The fs-verity digest of its file.
        pub digest: String,
        /// The size of that file.
        pub size: usize,
        /// The bytes that a signature is over, in hex.
        pub to_sign: String,
    }

    /// The digest of a directory (`--directory`).
    pub struct DirectoryDigest {
        /// The directory.
        pub directory: String,
        /// The algorithm.
        pub algorithm: String,
        /// The fs-verity digest of the merged EROFS image that it would make.
        pub merged: String,
    }

    /// What came of an image and its seals.
    pub struct Verified {
        /// The digest of the image's manifest.
        pub image: String,
        /// Its names in this host's vault.
        pub names: Vec<String>,
        /// Those that it has in the container store.
        pub store_names: Vec<String>,
        /// The digest of its config.
        pub config: String,
        /// Its layers, lowest first.
        pub layers: Vec<Layer>,
        /// Whether a seal passed.
        pub accepted: bool,
        /// Whether signatures were checked: `--trust` was given. Without it only digests are compared.
        pub signatures_checked: bool,
        /// Every seal that was looked at.
        pub seals: Vec<JudgedSeal>,
        /// Why no seal passed.
        pub error: Option<Error>,
    }

    /// A layer.
    pub struct Layer {
        /// The digest of the blob.
        pub digest: String,
        /// The digest of the tar in it.
        pub diff_id: String,
    }

    /// What became of one seal.
    pub struct JudgedSeal {
        /// The digest of the seal's manifest, or `inline`.
        pub origin: String,
        /// How it is written down.
        pub dialect: Option<String>,
        /// The algorithm of its digests.
        pub algorithm: Option<String>,
        /// What it vouches for; empty where it was not accepted.
        pub roles: Vec<CheckedRole>,
        /// Whether the layers were read, and make the EROFS images that it vouches for. Those of an image in a registry
        /// are not read without `--layers` where a signed statement names them.
        pub layers_compared: bool,
        /// Whether it passed; `ignored` is no seal.
        pub verdict: SealVerdict,
        /// Why it was rejected.
        pub error: Option<Error>,
    }

    /// One thing that a seal vouches for.
    pub struct CheckedRole {
        /// The role.
        pub role: String,
        /// The fs-verity digest.
        pub digest: String,
        /// Whether there is a signature.
        pub signed: bool,
        /// Who made it, where it was checked.
        pub signer: Option<Certificate>,
    }

    /// A certificate.
    pub struct Certificate {
        /// Its subject.
        pub subject: String,
        /// SHA-256 of its DER, in hex.
        pub sha256: String,
    }

    /// What was found of seals in registries.
    pub struct Fetched {
        /// Every image that was meant.
        pub images: Vec<FetchedImage>,
    }

    /// An image of the container store whose seals were looked for.
    pub struct FetchedImage {
        /// Its ID in the store.
        pub id: String,
        /// Its names.
        pub names: Vec<String>,
        /// The digests of the seals' manifests.
        pub seals: Vec<String>,
        /// Why there are none.
        pub error: Option<Error>,
    }

    /// What was made ready.
    pub struct Prepared {
        /// Every image that was meant.
        pub images: Vec<PreparedImage>,
    }

    /// An image of the container store that was to be made ready.
    pub struct PreparedImage {
        /// Its ID in the store.
        pub id: String,
        /// Its names.
        pub names: Vec<String>,
        /// What the policy asks of it; `null` where that was not found out.
        pub mode: Option<Mode>,
        /// Whether its first start has nothing left to read.
        pub ready: bool,
        /// The digest of the manifest that counted.
        pub manifest: Option<String>,
        /// The digest of the seal that vouches.
        pub seal: Option<String>,
        /// The manifest that was signed, where the store has the same image under another one.
        pub signed_manifest: Option<String>,
        /// The subject of the signer's certificate.
        pub signer: Option<String>,
        /// What `mode = "audit"` lets pass.
        pub would_refuse: Option<Error>,
        /// Why it would be refused.
        pub error: Option<Error>,
    }

    /// What was copied.
    pub struct Pushed {
        /// The digest of the image's manifest.
        pub image: String,
        /// The digests of the manifests of the seals that went with it.
        pub seals: Vec<String>,
        /// Where to.
        pub to: String,
    }
}

words! {
    /// What became of a seal.
    pub enum SealVerdict {
        /// It passed everything that was asked.
        Accepted = "accepted",
        /// It did not.
        Rejected = "rejected",
        /// It is no seal.
        Ignored = "ignored",
    }
}

words_of! {
    Mode: "enforce" | "audit" | "off";
}

/// Lists every verb and what it prints; the first entry is what every verb prints when it fails.
pub fn pages() -> Vec<Page> {
    macro_rules! pages {
        ($($verb:literal: $type:ty,)*) => { vec![$(Page { verb: $verb, shape: <$type>::shape() },)*] };
    }
    pages! {
        "pull": Pulled,
        "seal": Sealed,
        "sign": Signed,
        "digest": Digests,
        "digest --directory": DirectoryDigest,
        "attach": Attached,
        "verify": Verified,
        "fetch": Fetched,
        "prepare": Prepared,
        "check": Expectations,
        "mount": Mounted,
        "umount": Unmounted,
        "status": Status,
        "push": Pushed,
        "export-signatures": Pushed,
        "inspect": Inspected,
        "images": Images,
        "tag": Tagged,
        "untag": Untagged,
        "gc": Collected,
        "fsck": Checked,
        "vault create": MadeVault,
        "keyring add-cert": AddedCertificates,
        "keyring list": Keyring,
        "keyring restrict": RestrictedKeyring,
        "policy check": PolicyDecision,
        "hook explain CODE": Explanation,
        "hook explain": LastCalls,
        "setup": Setup,
        "enforce": ModeSet,
        "audit": ModeSet,
        "deny": DeniedNow,
        "floors list": Floors,
        "floors reset": FloorReset,
        "trust list": TrustStores,
        "trust add": TrustAdded,
        "report": Report,
        "doctor": Diagnosis,
    }
}

/// Returns what a failing run prints.
pub fn failure() -> schema::Shape {
    Failure::shape()
}

/// Returns the text of docs/json.md.
pub fn page() -> String {
    schema::markdown(HEAD, &failure(), &pages())
}
