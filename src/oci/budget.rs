use std::time::Duration;

/// What we are willing to spend on input that nobody has vouched for yet.
///
/// Every number has a reason; no honest image reaches any of them.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Bytes of a manifest or index. Registries accept at most 4 MiB (distribution-spec, "Pushing
    /// Manifests").
    pub manifest: u64,
    /// Bytes of an image config. The history of a 500-layer image is under 1 MiB.
    pub config: u64,
    /// Layers of one image: containers-storage's `maxDepth`, and what overlayfs takes.
    pub layers: usize,
    /// Seals tried for one image; a registry can list without end (CVE-2023-33957).
    pub seals: usize,
    /// Entries of a layout's `index.json` that are looked at when searching for seals.
    pub index_entries: usize,
    /// Pages of a registry's list of referrers: with the 10 000 entries above, a hundred on each.
    pub pages: usize,
    /// Bytes of all seals of one image together: 64 of a large image, and more than any host wants to keep.
    pub seal_bytes: u64,
    /// How long a registry may take to answer one question.
    pub answer: Duration,
    /// How long all questions about the seals of one image may take, on the command line.
    pub search: Duration,
    /// The same while a container waits to be started; the policy can say otherwise.
    pub on_mount: Duration,
    /// How many bytes of a blob that is being read must have arrived within [`Self::answer`]: a slower sender is taken
    /// for one that wants to hold us up.
    pub trickle: u64,
    /// Bytes of one PKCS#7 signature: the kernel's `FS_VERITY_MAX_SIGNATURE_SIZE`.
    pub signature: u64,
    /// Bytes of one EROFS metadata image; a million files need about 200 MiB.
    pub erofs: u64,
    /// Bytes of a binding statement; 500 layers with sha512 need 140 KiB.
    pub statement: usize,
    /// Bytes of one layer, uncompressed. Larger single layers are not seen in practice.
    pub layer: u64,
    /// Bytes that one compressed byte may become: deflate cannot exceed 1032, and a real root
    /// filesystem stays under 20.
    pub expansion: u64,
    /// Bytes of decompressed data that are always allowed, whatever the ratio, so that small layers
    /// of zeros pass.
    pub expansion_floor: u64,
    /// How many entries one layer's tar may have.
    pub entries: usize,
    /// Bytes of names, attributes, links and inline files that are kept while an image is read: a million files with
    /// long names need half of it.
    pub kept: u64,
    /// Depth of a path in components: the EROFS reader of composefs stops at 2048, and the kernel's
    /// `PATH_MAX` of 4096 allows no more.
    pub depth: usize,
    /// Bytes of PAX and GNU headers for one tar entry: 64 KiB for an xattr value, as the kernel's
    /// `XATTR_SIZE_MAX`, for a few of them.
    pub tar_metadata: u32,
}

impl Budget {
    /// The numbers in use.
    pub const STANDARD: Self = Self {
        manifest: 4 << 20,
        config: 4 << 20,
        layers: 500,
        seals: 64,
        index_entries: 10_000,
        pages: 100,
        seal_bytes: 4 << 30,
        answer: Duration::from_secs(30),
        search: Duration::from_secs(120),
        on_mount: Duration::from_secs(10),
        trickle: 64 << 10,
        signature: 16_128,
        erofs: 1 << 30,
        statement: 256 << 10,
        layer: 64 << 30,
        expansion: 1_100,
        expansion_floor: 64 << 20,
        entries: 4_000_000,
        kept: 1 << 30,
        depth: 2_000,
        tar_metadata: 1 << 20,
    };
}

impl Default for Budget {
    fn default() -> Self {
        Self::STANDARD
    }
}
