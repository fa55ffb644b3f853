//! Images, their seals, and the vault.

use super::super::schema::{objects, words};
use super::Error;

objects! {
    /// An image and its seals, none of it verified.
    pub struct Inspected {
        /// The digest of the image's manifest.
        pub image: String,
        /// Its names in this host's vault.
        pub names: Vec<String>,
        /// Those that it has in the container store.
        pub store_names: Vec<String>,
        /// The manifest's media type.
        pub media_type: String,
        /// The digest of the config.
        pub config: String,
        /// The layers, lowest first.
        pub layers: Vec<InspectedLayer>,
        /// The digest of the merged tree that a label of the config claims, `ALGORITHM:HEX`.
        pub label: Option<String>,
        /// The seals.
        pub seals: Vec<InspectedSeal>,
    }

    /// A layer, and what is claimed of it.
    pub struct InspectedLayer {
        /// The digest of the blob.
        pub digest: String,
        /// Its size.
        pub size: u64,
        /// The digest of the tar in it.
        pub diff_id: String,
        /// The digests of its EROFS image that annotations claim, `ALGORITHM:HEX`.
        pub claims: Vec<String>,
    }

    /// A seal, or another artifact that says it is about the image.
    pub struct InspectedSeal {
        /// The digest of its manifest, or `inline`.
        pub origin: String,
        /// Its type, where it is no seal.
        pub artifact_type: Option<String>,
        /// How it is written down.
        pub dialect: Option<String>,
        /// The algorithm of its digests.
        pub algorithm: Option<String>,
        /// The EROFS images that it carries.
        pub erofs: Vec<CarriedErofs>,
        /// Its signatures.
        pub signatures: Vec<Signature>,
        /// What its statement says.
        pub binding: Option<Statement>,
        /// Why it cannot be read.
        pub error: Option<Error>,
    }

    /// An EROFS image that a seal carries.
    pub struct CarriedErofs {
        /// Its role.
        pub role: String,
        /// Its fs-verity digest.
        pub digest: String,
        /// Its size.
        pub size: u64,
    }

    /// A signature of a seal.
    pub struct Signature {
        /// What it is about.
        pub role: String,
        /// The fs-verity digest that it is over.
        pub digest: String,
        /// The size of the PKCS#7; `null` where there is a digest alone.
        pub signature_size: Option<u64>,
    }

    /// A binding statement.
    pub struct Statement {
        /// The names that the image may run under; empty for any.
        pub identities: Vec<String>,
        /// The number that grows with every release.
        pub sequence: Option<u64>,
        /// The digest of the manifest that it is about; `null` for a seal in the image itself.
        pub subject: Option<String>,
        /// Its own digests, SHA-256 and `ALGORITHM:HEX`, as `deny.d/` takes them.
        pub digests: Vec<String>,
        /// Why it cannot be read.
        pub error: Option<Error>,
    }

    /// The vault.
    pub struct Images {
        /// Its images.
        pub images: Vec<ListedImage>,
    }

    /// An image in the vault.
    pub struct ListedImage {
        /// Its names in the vault.
        pub names: Vec<String>,
        /// Those that it has in the container store.
        pub store_names: Vec<String>,
        /// The digest of its manifest.
        pub digest: String,
        /// How many layers it has; 0 where it is damaged.
        pub layers: usize,
        /// Their size.
        pub size: u64,
        /// How many seals it has.
        pub seals: usize,
    }

    /// A filesystem for a vault, in a file; nothing is mounted yet.
    pub struct MadeVault {
        /// Where it is to be mounted.
        pub directory: String,
        /// The file that holds it.
        pub file: String,
        /// The name that its mount unit must have.
        pub unit_name: String,
        /// The unit, for systemd.
        pub unit: String,
    }

    /// An image that has one more name.
    pub struct Tagged {
        /// The name.
        pub name: String,
        /// The digest of the image's manifest.
        pub image: String,
    }

    /// A name that is gone.
    pub struct Untagged {
        /// The name.
        pub name: String,
    }

    /// What was removed from the vault.
    pub struct Collected {
        /// Whether nothing was removed, and this is what would be.
        pub dry_run: bool,
        /// What was removed.
        pub removed: Removed,
        /// What stays.
        pub kept: Kept,
    }

    /// What was removed.
    pub struct Removed {
        /// The digests of the manifests of images.
        pub images: Vec<String>,
        /// What is known of these: nothing on this host has a name for them any more.
        pub details: Vec<RemovedImage>,
        /// Objects: contents of files, and EROFS images.
        pub objects: usize,
        /// Manifests, configs, layers, seals and signatures.
        pub blobs: usize,
        /// Files of all kinds, notes and remains among them.
        pub files: usize,
        /// Bytes that become free.
        pub bytes: u64,
    }

    /// An image that was removed.
    pub struct RemovedImage {
        /// The digest of its manifest.
        pub image: String,
        /// The repository that it was pulled from.
        pub repository: Option<String>,
        /// The names that its seals say they are for; a claim.
        pub identities: Vec<String>,
    }

    /// What stays.
    pub struct Kept {
        /// How many images.
        pub images: usize,
        /// How many mounts of them there are.
        pub mounts: usize,
        /// The images that nothing has a name for, and that stay as long as they are mounted.
        pub mounted: Vec<MountedImage>,
    }

    /// An image that stays because it is mounted.
    pub struct MountedImage {
        /// The digest of its manifest.
        pub image: String,
        /// The names of containers that it is mounted for, or their IDs.
        pub containers: Vec<String>,
        /// Where else it is mounted.
        pub targets: Vec<String>,
    }

    /// What is damaged in the vault.
    pub struct Checked {
        /// Whether nothing is, or not any more.
        pub whole: bool,
        /// Every image that was looked at.
        pub images: Vec<CheckedImage>,
    }

    /// An image that was looked at.
    pub struct CheckedImage {
        /// The digest of its manifest.
        pub image: String,
        /// A name of it.
        pub name: Option<String>,
        /// How many objects it needs, EROFS images among them.
        pub objects: usize,
        /// Whether nothing of it is damaged, or not any more.
        pub whole: bool,
        /// What of its documents cannot be read, and blobs that were not repaired.
        pub documents: Vec<Error>,
        /// What a person must do; `null` where nothing is left to be done.
        pub to_do: Option<String>,
        /// Manifest, config and layers that are damaged; seals are among the documents.
        pub blobs: Vec<DamagedBlob>,
        /// Files and EROFS images that are damaged.
        pub damage: Vec<DamagedFile>,
    }

    /// A blob that is damaged.
    pub struct DamagedBlob {
        /// What it is.
        pub blob: BlobKind,
        /// Which layer, counted from the lowest, 0.
        pub layer: Option<usize>,
        /// Its digest.
        pub digest: String,
        /// What is wrong.
        pub fault: BlobFault,
        /// The ID of the case.
        pub case: String,
        /// What was done.
        pub remedy: Remedy,
    }

    /// A file of an image, or an EROFS image, that is damaged.
    pub struct DamagedFile {
        /// Which layer it is in, counted from the lowest, 0; `null` for a tree of all.
        pub layer: Option<usize>,
        /// Its path; `null` for the EROFS image itself.
        pub path: Option<String>,
        /// The algorithm of its digest.
        pub algorithm: String,
        /// The fs-verity digest that it should have.
        pub object: String,
        /// What is wrong, in a few words.
        pub fault: String,
        /// The particulars; may be empty.
        pub detail: String,
        /// The ID of the case.
        pub case: String,
        /// What was done.
        pub remedy: Remedy,
    }
}

words! {
    /// Which blob of an image.
    pub enum BlobKind {
        /// Its manifest.
        Manifest = "manifest",
        /// Its config.
        Config = "config",
        /// A layer.
        Layer = "layer",
    }

    /// What is wrong with a blob.
    pub enum BlobFault {
        /// It is not there.
        Missing = "missing",
        /// Its bytes are wrong.
        Damaged = "damaged",
    }

    /// What was done about damage.
    pub enum Remedy {
        /// Nothing.
        None = "none",
        /// It is whole again.
        Repaired = "repaired",
        /// What was there is gone, and the next start makes it again.
        Removed = "removed",
    }
}
