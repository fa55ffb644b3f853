//! Every way in which layerseal says no.
//!
//! One enum, [`Case`], with one variant for each case of docs/attacks.md. The text, the exit code and the remedy of a
//! refusal come from the table below and from nowhere else; a [`Refusal`] adds what was being looked at. In the mount
//! program and the hooks each of them means that there will be no container.

use std::fmt;
use std::io;

use super::class::Class;
use super::disk::{self, FreeSpace};

/// The library's result: every error is a refusal.
pub type Result<T> = std::result::Result<T, Refusal>;

macro_rules! cases {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $class:ident, $what:literal, $remedy:literal;)*) => {
        /// The catalogue of refusals; the name of a variant carries its ID.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Case {
            $(#[doc = $what] $(#[$doc])* $name,)*
        }

        impl Case {
            /// All cases, in the order of the catalogue.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Returns the ID that tests, messages and records use.
            pub const fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }

            /// Returns the class, which determines the exit code.
            pub const fn class(self) -> Class {
                match self { $(Self::$name => Class::$class,)* }
            }

            /// Returns what is wrong, in the words that the user reads.
            pub const fn what(self) -> &'static str {
                match self { $(Self::$name => $what,)* }
            }

            /// Returns what the user can do about it; empty if nothing can be said in general.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)* }
            }
        }
    };
}

cases! {
    // Faults that need no attack.
    Io = "X01", Internal, "input or output failed", "";
    Bug = "X02", Internal, "an internal check failed", "please report this";
    Usage = "A01", Usage, "the command cannot be understood", "see --help";
    Reference = "X03", Usage, "not an image reference", "use docker://HOST/NAME[:TAG], oci:DIR[:TAG], a name in the vault, or @sha256:HEX";
    NotFound = "X04", Usage, "there is no such image", "`layerseal images` lists the vault; an image in a layout is oci:DIR[:TAG]";
    Rootless = "X06", CannotEnforce, "rootless: images are mounted by root, or by layerseal's service, which does not answer", "`systemctl enable --now layerseal.socket`, or run it as root; [rootless] in the policy says what happens to containers of other users";
    Unsupported = "X07", CannotEnforce, "not supported", "set top = \"fuse-overlayfs\" in the policy's [mount] table";
    VaultBusy = "X08", Inconclusive, "another process is using it", "try again when it has finished";
    NotStored = "X09", Usage, "there is no such image in the container store", "`podman images` lists them";
    NoRoom = "X10", CannotEnforce, "no space left on the disk", "free some space; `layerseal gc` removes what no image needs";
    VaultBroken = "X12", Rejected, "the vault is damaged", "`layerseal pull` and `layerseal prepare` recreate what is missing; check with `layerseal fsck`";
    VaultPlace = "X13", CannotEnforce, "the vault cannot be there", "name a directory that is root's alone, without symlinks: vault = \"DIR\" in the policy's [store]; `layerseal vault create` makes one";
    ReadOnly = "X11", CannotEnforce, "the filesystem is read-only", "remount it read-write; if the kernel made it read-only, its log says why";
    NeedsRoot = "X14", Usage, "only root can do that", "run it as root";
    NoFloor = "X15", Usage, "this name has no floor", "`layerseal floors list` shows all";
    OtherStore = "X16", CannotEnforce, "CRI-O has its images where they were not looked at", "set graphroot and runroot in storage.conf to root and runroot of crio.conf; `layerseal enforce --force` goes without them";
    LayoutBroken = "X05", Rejected, "the OCI layout is damaged", "fetch it again";

    // A: the call of a container runtime.
    A02Escape = "A02", Usage, "the mount options cannot be parsed", "write them as containers-storage does: see mountopt in containers-storage.conf(5)";
    A03Lowers = "A03", Usage, "more lower directories than overlayfs allows", "use an image of at most 500 layers";
    A04Twice = "A04", Usage, "an option is given twice", "check mountopt in storage.conf";
    A06Contradiction = "A06", Usage, "the options contradict each other", "check mountopt in storage.conf, and remove one of them";
    A08Target = "A08", Usage, "not a directory to mount on", "name an existing directory that is not a symlink";
    A13IdMap = "A13", Usage, "the user or group mapping cannot be used", "give ranges that do not overlap";
    A13Cannot = "A13", CannotEnforce, "files cannot be shown under other user or group IDs", "use a kernel and a filesystem with idmapped mounts, or set top = \"fuse-overlayfs\"";

    // B: the image, according to containers-storage.
    B01Records = "B01", Rejected, "the records of the container store cannot be read", "`podman system check` shows what is damaged";
    B02DiffDigest = "B02", Rejected, "the store's record of a layer does not match the image", "pull the image again";
    B03Layers = "B03", Rejected, "the layers are not those of the image", "pull the image again";
    B04Several = "B04", Rejected, "several images have these layers, and nothing says which one is meant", "start the container from the store that has its record";
    B05Documents = "B05", Rejected, "manifest, config and image do not belong together", "pull the image again";
    B06Ambiguous = "B06", Rejected, "the document is both a manifest and an index", "rebuild the image with a current tool";
    B07Digest = "B07", Rejected, "not a valid digest", "digests are an algorithm and lower-case hex, such as sha256:HEX";
    B08Lowers = "B08", Rejected, "the directories to mount are not the layers of the store", "`podman system check` shows what is damaged; pull the image again";
    B09Replaced = "B09", Rejected, "a file or directory of the store was replaced", "pull the image again";
    B11Gone = "B11", Inconclusive, "the store is changing, or a layer is incomplete", "try again; then pull the image again";

    B12Layers = "B12", NotSealed, "these layers are not an image, so they have no seal", "builds need a rule for \"<none>\" in the policy";
    B13Folded = "B13", Rejected, "podman reads a key as a different one", "rebuild the image; if it is a record of the store, pull the image again";
    B14Reference = "B14", Rejected, "the digest in the name is not the image's", "pull the image again by that digest";
    B15Database = "B15", Rejected, "podman's database can change what podman writes to it", "remove the file named here, and create containers and volumes again; whoever wrote it may have had podman run programs as root";

    // C: bytes compared with their descriptors.
    C02TooMany = "C02", Rejected, "too many seals", "remove the artifacts that do not belong to the image";
    C03TooBig = "C03", Rejected, "larger than allowed", "no honest image or seal is this large; rebuild it";
    C03Slow = "C03", Inconclusive, "the registry sends too much, or too slowly", "try again, or use another registry or mirror";
    C04Bytes = "C04", Rejected, "the bytes do not match their descriptor", "fetch them again";
    C04Missing = "C04", Rejected, "a blob is missing", "fetch it again";
    C07NoSeal = "C07", NotSealed, "no seal was found", "get its seals (`layerseal fetch IMAGE` for podman and CRI-O, else --seal), or sign it with `layerseal sign`";
    C09Redirect = "C09", Inconclusive, "the registry redirects to another host", "use the name of the host that answers, or a mirror in registries.conf";
    C10Tls = "C10", Inconclusive, "the TLS connection cannot be trusted", "put the registry's CA into /etc/containers/certs.d/HOST:PORT/, or pass it with --cert-dir; for a registry without TLS use --tls-verify=false, or insecure = true in registries.conf";
    C11Auth = "C11", Inconclusive, "the registry refuses access", "log in with `podman login` or `skopeo login`, or pass the credentials with --authfile";
    C16Skopeo = "C16", Tool, "skopeo cannot be used", "install skopeo 1.13 or newer; without it: `podman push IMAGE oci:DIR`, `layerseal sign oci:DIR`, `layerseal prepare IMAGE --seal oci:DIR`";
    C17Network = "C17", Inconclusive, "the registry cannot be reached", "check its name and the network, and try again";
    C18NoImage = "C18", NoImage, "the registry has no such image", "check the name; some registries say this when you have no access";
    C20NoList = "C20", CannotEnforce, "this registry lists no seals", "write the seal into a layout with --output oci:DIR; hosts import it with `layerseal prepare IMAGE --seal oci:DIR`";
    C19Policy = "C19", Policy, "policy.json does not allow this image", "see containers-policy.json(5)";

    // D: seals.
    D01Subject = "D01", Rejected, "the seal is for another image", "use the seal that was made for this image";
    D02Shape = "D02", Rejected, "the seal is malformed", "make it again with `layerseal sign`";
    D03Coverage = "D03", Rejected, "the signatures do not cover everything", "sign manifest, config, every layer and merged: `layerseal sign` does";
    D04Replay = "D04", Rejected, "the statement is for another image", "sign this image";
    D05Layers = "D05", Rejected, "the layers are not the ones that were sealed", "sign this image";
    D06Role = "D06", Rejected, "a signature for one role is used for another", "make the seal again with `layerseal sign`";
    D07Digest = "D07", Rejected, "the digest is not the one that was sealed", "fetch the image again, or sign it again";
    D07Damaged = "D07", Rejected, "the layer here is damaged", "check the disk; remove the image (`podman rmi`) and pull it again";
    D08Annotation = "D08", Rejected, "ambiguous or unknown annotation", "make the seal again with `layerseal sign`";
    D09Algorithm = "D09", Rejected, "the algorithm is mixed or not supported", "seal with fsverity-sha256-12 or fsverity-sha512-12";
    D10Rollback = "D10", Rejected, "the seal is older than one already accepted", "use a newer build of the image; to go back anyway: `layerseal floors reset NAME`";
    D10Floors = "D10", Policy, "the rollback floors of this host cannot be used", "/var/lib/layerseal/floors must belong to root and hold only what layerseal wrote";
    D12Conflict = "D12", Rejected, "inline annotations and the seal disagree", "remove the one that is wrong";
    D13Platform = "D13", Rejected, "the seal is for another platform", "sign the image of this platform";
    D14Json = "D14", Rejected, "not strict JSON", "duplicate keys, byte order marks and invalid UTF-8 are refused";
    D15List = "D15", Rejected, "too many digests in one annotation", "rebuild the image with a current tool";
    D16Binding = "D16", Rejected, "the seal has no binding statement", "sign with `layerseal sign`, or accept seals of other tools with --binding local";
    D17Statement = "D17", Rejected, "the binding statement cannot be read", "sign again with `layerseal sign`";
    D18Identity = "D18", Rejected, "the seal is for another name", "use a name that the seal is for, or sign the image with --identity NAME";
    D19Dialect = "D19", Rejected, "a seal of another tool that layerseal does not verify", "sign with `layerseal sign`";

    // E: PKCS#7 and certificates.
    E01Signature = "E01", Rejected, "the signature does not verify", "fetch the seal again, or sign again";
    E02Der = "E02", Rejected, "the signature is not strict DER", "sign with `layerseal sign`, `fsverity sign` or `openssl smime -sign -binary -noattr -nocerts -outform der`";
    E03Attached = "E03", Rejected, "the signature contains its own content", "sign detached";
    E04Signers = "E04", Rejected, "the signature does not have exactly one signer", "attach one signature for each signer";
    E05Attributes = "E05", Rejected, "the signature has signed or unsigned attributes", "sign with -noattr";
    E06Content = "E06", Rejected, "the signed bytes are not a formatted fs-verity digest", "sign the bytes that `layerseal digest --write` gives";
    E07Untrusted = "E07", Rejected, "no trusted certificate signed it", "to trust this signer, pass its certificate with --trust, or put it into the policy's trust store";
    E08SameName = "E08", Rejected, "a certificate with the name and serial of a trusted one, but another key", "give every certificate of an issuer its own serial number";
    E09Chain = "E09", Rejected, "the certificates in the signature are not acceptable", "trust the signer's own certificate, and sign without others (-nocerts)";
    E10Usage = "E10", Rejected, "the certificate may not sign", "use a certificate with digitalSignature, or without key usage";
    E11Dates = "E11", Rejected, "the certificate has expired or is not yet valid", "renew the certificate, or accept it with --dates ignore";
    E12Weak = "E12", Rejected, "the key or digest is too weak or not supported", "use RSA of 2048, 3072 or 4096 bits, or ECDSA P-256, P-384 or P-521, with SHA-256 or stronger";
    E13DigestMismatch = "E13", Rejected, "the signature names two digest algorithms", "sign again";
    E15TooBig = "E15", Rejected, "the signature is larger than allowed", "sign without certificates (-nocerts)";
    E16Cms = "E16", Rejected, "a PKCS#7 or CMS construct that seals do not use", "sign with `layerseal sign`, `fsverity sign` or `openssl smime -sign -binary -noattr -nocerts -outform der`";

    // F: trust store.
    F01Store = "F01", Policy, "the trust store cannot be used", "put certificates in a root-owned file or directory that only root can write";
    F02Certificate = "F02", Policy, "not a certificate", "use a PEM or DER certificate";
    F03Policy = "F03", Policy, "the policy cannot be used", "/etc/layerseal/policy.toml says what this host asks; /usr/share/doc/layerseal/policy.toml is an example";
    F03Denied = "F03", Policy, "what this host denies cannot be read", "/etc/layerseal/deny.d/ holds certificates (.crt, .pem, .der, .cer) and lists of digests (.list), which only root can write: fix or remove the file";
    F06Denied = "F06", Rejected, "denied by this host", "use another image or seal; to allow it, remove the entry from deny.d/";
    F07Runtime = "F07", Policy, "the OCI runtime behind layerseal cannot be run", "/etc/layerseal/runtime.toml names it: path = \"/usr/bin/crun\"; file and program must belong to root";
    F10Covered = "F10", Policy, "the configuration of this host is covered by a mount of podman's", "`findmnt` shows what is mounted there: unmount it, and find the symlink in podman's store that led there (`layerseal doctor`)";
    F10Written = "F10", Policy, "podman wrote into the configuration of this host for a container that was refused", "look at what is in the directory, and remove what is not yours; then remove the note, the file named here";
    KeyMismatch = "N01", Policy, "the key cannot be used", "pass the PEM key that belongs to the certificate; for an encrypted key, also --passphrase-file FILE";

    // G: fs-verity.
    G01Missing = "G01", Rejected, "not protected by fs-verity", "pull the image again";
    G01Other = "G03", Rejected, "fs-verity measures a different digest", "pull the image again";
    G02Enable = "G02", CannotEnforce, "fs-verity cannot be enabled", "see `layerseal doctor`";
    G02Busy = "G02", CannotEnforce, "the file is open for writing", "try again when nothing writes to it";
    G02Key = "G02", CannotEnforce, "the kernel's .fs-verity keyring has no key for this signature", "`layerseal keyring add-cert CERT`";
    G02Rejected = "G02", Rejected, "the kernel rejects the signature", "sign again";
    G02Required = "G02", CannotEnforce, "the kernel requires a signature (fs.verity.require_signatures=1)", "sign the image and add the certificate with `layerseal keyring add-cert`";
    G05Damaged = "G05", Rejected, "damaged on the disk: fs-verity refuses to read it", "check the disk, and pull the image again";
    G06Unsupported = "G06", CannotEnforce, "the filesystem or kernel has no fs-verity", "ext4: `tune2fs -O verity DEVICE`; XFS and others have none: `layerseal vault create` makes a vault for such hosts, for vault = \"DIR\" in the policy's [store]; and use a kernel with CONFIG_FS_VERITY";
    G08Unchecked = "G08", CannotEnforce, "this kernel does not verify signatures", "use a kernel with CONFIG_FS_VERITY_BUILTIN_SIGNATURES";
    G09Restricted = "G09", CannotEnforce, "the .fs-verity keyring accepts no more certificates", "add certificates before `layerseal keyring restrict`";
    G09Keyring = "G09", CannotEnforce, "the .fs-verity keyring cannot be used", "use a kernel with CONFIG_FS_VERITY_BUILTIN_SIGNATURES, as root";
    G10Proof = "G10", CannotEnforce, "this kernel does not do what verity=require promises", "use another kernel; see `layerseal doctor`";

    // H: building images.
    H03Path = "H03", Rejected, "the layer contains a path that cannot be used", "rebuild the image";
    H04Whiteout = "H04", Rejected, "the layer contains an invalid whiteout", "rebuild the image";
    H05Xattr = "H05", Rejected, "the layer contains an extended attribute that cannot be used", "rebuild the image";
    H06Entry = "H06", Rejected, "the layer contains an entry that cannot be sealed", "rebuild the image";
    H07Budget = "H07", Rejected, "the image is larger than the budget allows", "split or shrink the image";
    H08View = "H08", Rejected, "the sealed image does not match the layers", "sign the image again";
    H08Damaged = "H08", Rejected, "the layer here is damaged", "check the disk; remove the image (`podman rmi`) and pull it again";
    H09Erofs = "H09", Rejected, "not an EROFS image that composefs makes", "sign the image again";
    H11Layer = "H11", Rejected, "the layer cannot be read", "fetch the image again";
    H12NoUsr = "H12", Rejected, "the image has no /usr directory", "composefs' merged tree needs one; use the container's tree (without --merged)";
    H14Compression = "H14", Rejected, "the layer's compression is not supported", "push it with gzip or zstd: `podman push --compression-format gzip`, or `skopeo copy --dest-compress-format gzip`";
    H15NoMerged = "H15", Rejected, "the image has no merged tree", "use the container's tree (without --merged)";

    // I: mounting.
    I02Object = "I02", Rejected, "an object of the image is missing or damaged", "pull the image again";
    I04Erofs = "I04", CannotEnforce, "the EROFS image cannot be mounted", "see `layerseal doctor`";
    I05Attach = "I05", CannotEnforce, "the mount cannot be attached to its target", "`findmnt` and `fuser -m` show what is mounted and who uses it";
    I06Nothing = "I06", Usage, "nothing is mounted there", "`findmnt` shows what is mounted where";
    I06Mounted = "I06", Usage, "something else is mounted there", "unmount it first, or mount elsewhere";
    I07Busy = "I07", CannotEnforce, "another mount uses the upper or work directory", "unmount the other, or use other directories";
    I09Kernel = "I09", CannotEnforce, "this kernel cannot mount a sealed image", "use Linux 6.12 or newer; see `layerseal doctor`";
    I11Overlay = "I11", CannotEnforce, "the overlay cannot be mounted", "see `layerseal doctor`";
    I11Volatile = "I11", CannotEnforce, "a volatile mount used the upper directory before, and a crash may have damaged it", "use a new one, or mount it volatile again";
    I11Fuse = "I11", CannotEnforce, "fuse-overlayfs cannot be used", "install fuse-overlayfs, or set top = \"kernel\"";
    I13Stack = "I13", Rejected, "the seal's layer images cannot be stacked", "mount the merged image (without --stack)";

    // J: races, and what is believed.
    J03Proc = "J03", CannotEnforce, "/proc is not the kernel's own", "mount procfs there, with nothing over it";

    // M: what is writable.
    M01Upper = "M01", Rejected, "the container's writable layer contains something that this host has not seen it write", "create the container again, or set upper = \"any\" in the policy";

    // O: OCI hooks.
    O01NotOurs = "O01", NotSealed, "the container's root was not verified", "let layerseal mount it: as the runtime, or for podman by the precreate hook or as mount_program (`layerseal doctor`); or add a rule for the image or for \"<rootfs>\" to the policy";
    O02Unsealed = "O02", NotSealed, "the container's root was mounted under a laxer policy", "stop the container, unmount it (`podman unmount`), and start it again";
    O03OtherMount = "O03", Rejected, "the container's root is not the mount that was made for it", "`findmnt` shows what is mounted there; unmount it, and start the container again";
    O04Covered = "O04", Rejected, "a mount of the container covers a system path of the image", "mount it elsewhere, or name the path in the policy, in [default] or in the image's rule";
    O05Call = "O05", Usage, "the runtime's call cannot be understood", "only OCI runtimes call this, see hooks/README.md; the journal has what they passed";
    O06Swap = "O06", CannotEnforce, "the container's overlay cannot be replaced by a verified one", "unmount the container (`podman unmount`), and start it again";
    O07Layers = "O07", Rejected, "the container's root is not made of the right layers, or is not checked by the kernel", "stop the container and start it again; if that changes nothing, see `layerseal doctor`";
    O08Annotation = "O08", Rejected, "an annotation of the container directs the output of hooks to a file on the host", "start it without run.oci.hooks.stdout and run.oci.hooks.stderr";
    O09Tampered = "O09", Rejected, "what podman read from the image before it was verified is not what was sealed", "pull the image again, and remove the container with its new volumes";
    O10Filled = "O10", Rejected, "it was filled for a container that was refused", "remove it (`podman volume rm`, `podman rm`); to keep it after checking it, remove its note, the file named here";
    O10Notes = "O10", Policy, "the notes of what was filled for refused containers cannot be used", "/var/lib/layerseal/filled must belong to root and hold only what layerseal wrote";
    O11ImageMount = "O11", NotSealed, "an unverified image is mounted in the container", "name the path in cover, in [default] or in the image's rule; or add a rule for the mounted image; or, for podman, let layerseal mount it as mount_program";

    // R: the service for users.
    R01Call = "R01", Usage, "the call to the service cannot be understood", "only layerseal itself calls it; both must be the same version";
    R02Caller = "R02", Rejected, "the service mounts only for a user namespace that its caller made", "call it from rootless podman, or from `podman unshare`";
    R03Directory = "R03", Rejected, "not a directory that the caller may hand to the service", "it must be the caller's own, on a filesystem of this host's kernel";
    R04File = "R04", Rejected, "not a file that the service can mount", "it must be a file on ext4, btrfs or f2fs; `layerseal prepare` makes it";
    R05Many = "R05", Inconclusive, "one user asks too much of the service", "try again in a moment; for too many mounts, remove containers first (`podman rm`)";
    R06Service = "R06", CannotEnforce, "rootless: the answer from layerseal's service cannot be used", "both must be the same version: `systemctl restart layerseal.socket`";
    R07Links = "R07", CannotEnforce, "without fs-verity the service needs fs.protected_hardlinks=1", "set it with sysctl, or verity = \"require\" in the policy";
    O12Checkpoint = "O12", NotSealed, "the container is restored from a checkpoint, which no seal covers", "start it from its image; a rule with checkpoint = \"allow\" permits it";
    O13Refused = "O13", Rejected, "the container was refused before, and may still hold what podman made of its image then", "remove it (`podman rm`) and create it again from the image, not by clone or generate";
    O14FuseOverlay = "O14", CannotEnforce, "the container's root is mounted by fuse-overlayfs, which a verified mount cannot replace", "podman and CRI-O keep using fuse-overlayfs once there was a mount_program: remove GRAPHROOT/overlay/.has-mount-program and, if it comes back, the images that were pulled before; then create the container again";
    O15OwnFiles = "O15", Rejected, "a symlink is where podman mounts, writes, or has the runtime read", "whoever made it may have had podman run programs as root; remove the container, image or volume that it is in (`podman rm`, `podman rmi`, `podman volume rm`), and make it anew";
}

/// One refusal: the case, and what was being looked at.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub struct Refusal {
    case: Case,
    /// What was being looked at, the outermost first: an image, its seal, a signature in that.
    subjects: Vec<String>,
    detail: String,
}

impl Refusal {
    /// Makes a refusal about `subject` (a file, a role, an image), with `detail` if there is more to say than the case
    /// does.
    pub fn new(case: Case, subject: impl Into<String>, detail: impl fmt::Display) -> Self {
        let subject = subject.into();
        let subjects = if subject.is_empty() { Vec::new() } else { vec![subject] };
        Self { case, subjects, detail: one_line(&detail.to_string()) }
    }

    /// Makes a refusal for an operating system error on `subject`, which should be a path: [`Case::NoRoom`] or
    /// [`Case::ReadOnly`], otherwise [`Case::Io`].
    pub fn io(subject: impl Into<String>, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        match disk::failed(&error) {
            Some(failed) => Self::os(failed.path.clone(), &failed.error),
            None => Self::os(subject.into(), &error),
        }
    }

    fn os(subject: String, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => match FreeSpace::at(&subject) {
                Some(room) => Self::new(Case::NoRoom, subject, room),
                None => Self::new(Case::NoRoom, subject, error),
            },
            io::ErrorKind::ReadOnlyFilesystem => Self::new(Case::ReadOnly, subject, ""),
            _ => Self::new(Case::Io, subject, error),
        }
    }

    /// Returns the case.
    pub fn case(&self) -> Case {
        self.case
    }

    /// Returns what was being looked at, from the outermost to the innermost.
    pub fn subject(&self) -> String {
        self.subjects.join(": ")
    }

    /// Returns the particulars, without case and remedy; may be empty.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Returns what is wrong, with the particulars: for a refusal that is the reason for another one.
    pub fn what_and_detail(&self) -> String {
        match self.detail.as_str() {
            "" => self.case.what().to_owned(),
            detail => format!("{}: {detail}", self.case.what()),
        }
    }

    /// Adds more particulars to the refusal.
    #[must_use]
    pub fn and(mut self, more: impl fmt::Display) -> Self {
        let more = one_line(&more.to_string());
        self.detail = if self.detail.is_empty() { more } else { format!("{}; {more}", self.detail) };
        self
    }

    /// Adds `outer` in front of the refusal's subject.
    #[must_use]
    pub fn within(mut self, outer: impl fmt::Display) -> Self {
        self.subjects.insert(0, outer.to_string());
        self
    }

    /// Adds the first subject of another refusal in the same way.
    #[must_use]
    pub fn within_that_of(self, other: &Self) -> Self {
        match other.subjects.first() {
            Some(outer) => self.within(outer),
            None => self,
        }
    }

    /// Adds `outer` in the same way, unless one of the subjects names it already; `what` says what it is.
    #[must_use]
    pub fn within_once(self, what: &str, outer: impl fmt::Display) -> Self {
        let outer = outer.to_string();
        if self.subjects.iter().any(|subject| subject.contains(&outer)) {
            return self;
        }
        self.within(if what.is_empty() { outer } else { format!("{what} {outer}") })
    }
}

/// One line: subject, what is wrong, particulars, remedy, case ID.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.subjects.is_empty() {
            write!(f, "{}: ", one_line(&self.subject()))?;
        }
        f.write_str(self.case.what())?;
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail)?;
        }
        if !self.case.remedy().is_empty() {
            write!(f, "; {}", self.case.remedy())?;
        }
        write!(f, " [R-{}]", self.case.id())
    }
}

/// The longest part of a message, in characters: two digests of 128 digits and a path fit.
const MAX_PART: usize = 600;

/// Turns text into one line of bounded length, whatever an attacker put into a name: no control characters, no line
/// separators, nothing that reverses the direction of the text.
pub fn one_line(text: &str) -> String {
    let odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut out: String = text.chars().take(MAX_PART).map(|c| if odd(c) { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(MAX_PART).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line_with_its_case() {
        let r = Refusal::new(Case::D01Subject, "seal\nfake\u{202e}", format!("is about\tx{}", "y".repeat(100_000)));
        let text = r.to_string();
        assert!(!text.contains('\n') && !text.contains('\t') && !text.contains('\u{202e}') && text.len() < 2000);
        assert!(text.ends_with("[R-D01]"), "{text}");
        assert_eq!(r.case().class().exit_code(), 4);
    }

    #[test]
    fn every_case_speaks() {
        for case in Case::ALL {
            assert!(!case.what().is_empty());
            assert!(!case.id().is_empty());
            assert!(!case.what().ends_with('.') && !case.remedy().ends_with('.'));
        }
    }
}
