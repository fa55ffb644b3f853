//! Mounts, and what is on record of them.

use super::super::schema::{objects, words_of};
use crate::mount::MountKind;
use crate::policy::Mode;

objects! {
    /// A mount.
    pub struct Mounted {
        /// Whether it was made now; else the same image was mounted there already.
        pub fresh: bool,
        /// What is on record of it; `null` where it was there already.
        pub mount: Option<Mount>,
    }

    /// A mount that is gone.
    pub struct Unmounted {
        /// Where it was.
        pub target: String,
    }

    /// What is mounted.
    pub struct Status {
        /// Every mount of layerseal's.
        pub mounts: Vec<Mount>,
        /// Roots of containers that their engine mounted, and nobody verified.
        pub unverified: Vec<UnverifiedRoot>,
        /// What the service mounted for users; for root only.
        pub users: Vec<UserMount>,
    }

    /// What the service mounted for a user.
    pub struct UserMount {
        /// The user's number.
        pub user: u32,
        /// Major and minor number of its filesystem.
        pub device: (u32, u32),
        /// `composefs:DIGEST`.
        pub source: String,
        /// The digest of the image's manifest.
        pub image: String,
        /// The names that the seal is for.
        pub identities: Vec<String>,
        /// The digest of the seal's manifest.
        pub seal: Option<String>,
        /// The subject of the signer's certificate.
        pub signer: Option<String>,
        /// Whether the kernel checks every byte.
        pub verity: bool,
        /// When it was mounted, in seconds since 1970.
        pub since: i64,
    }

    /// The root of a container that nobody verified.
    pub struct UnverifiedRoot {
        /// Where it is mounted.
        pub target: String,
        /// The container's ID.
        pub container: String,
        /// The names of its image.
        pub names: Vec<String>,
        /// What the policy asks of it now.
        pub mode: Mode,
    }

    /// What is on record of a mount.
    pub struct Mount {
        /// Major and minor number of its filesystem.
        pub device: (u32, u32),
        /// The number that the kernel gives it.
        pub mount_id: u64,
        /// Where it is.
        pub target: String,
        /// What it calls itself: `composefs:HEX`, or `layerseal:plain` for layers as they are.
        pub source: String,
        /// Whether somebody vouches for it: a seal that passed, nobody and `audit` let it pass, nobody was asked, or it is a volume.
        pub kind: MountKind,
        /// The digest of the image's manifest.
        pub image: Option<String>,
        /// The image's ID in the container store.
        pub image_id: Option<String>,
        /// The container's ID.
        pub container: Option<String>,
        /// The image's names.
        pub names: Vec<String>,
        /// The names that the seal is for.
        pub identities: Vec<String>,
        /// All by which it can be denied.
        pub facts: Option<Facts>,
        /// The digest of the seal's manifest.
        pub seal: Option<String>,
        /// The manifest that was signed, where it is another one.
        pub signed_manifest: Option<String>,
        /// The subject of the signer's certificate.
        pub signer: Option<String>,
        /// SHA-256 of that certificate.
        pub certificate: Option<String>,
        /// SHA-256 of the anchor that vouches for it, where it is not trusted itself.
        pub anchor: Option<String>,
        /// Where changes go.
        pub upper: Option<String>,
        /// Whether the kernel checks every byte.
        pub verity: bool,
        /// Whether it is all of an image, and can be a container's root.
        pub whole: bool,
        /// What `audit` let pass.
        pub would_refuse: Option<WouldRefuse>,
        /// What mountinfo shows of its layers.
        pub shows: Shows,
        /// When it was mounted, in seconds since 1970.
        pub since: i64,
    }

    /// All by which something can be denied (`deny.d/`).
    pub struct Facts {
        /// Blobs: what each is, and its digest.
        pub blobs: Vec<(String, String)>,
        /// EROFS images: what each is, and its fs-verity digest.
        pub erofs: Vec<(String, String)>,
        /// SHA-256 of certificates and keys.
        pub certificates: Vec<String>,
    }

    /// A refusal that stopped nothing.
    pub struct WouldRefuse {
        /// The ID of the case.
        pub case: String,
        /// What was looked at.
        pub subject: String,
        /// What is wrong, with the particulars.
        pub message: String,
        /// What can be done.
        pub remedy: String,
    }

    /// What mountinfo shows of the layers of a mount.
    pub struct Shows {
        /// Lower layers.
        pub lowers: usize,
        /// Those that hold data only.
        pub data: usize,
        /// `verity=require`.
        pub verity: bool,
        /// It is fuse-overlayfs, of which nothing else is shown.
        pub fuse: bool,
    }
}

words_of! {
    MountKind: "sealed" | "audit" | "off" | "volume";
}
