//! Threat model and seal format: the specification beside the code.
//!
//! # Who is trusted
//!
//! The running kernel, this program, and the certificates that the caller names. Not trusted: the
//! registry or layout that an image comes from, everything in the vault, an image's content, names
//! and tags. Root on the running host can always go round us. An offline attacker, a tampered disk,
//! a hostile registry, another container, or a mistake cannot.
//!
//! # What a seal is
//!
//! Everything that a publisher adds to an OCI image so that a host can check, before and while it
//! runs, that the filesystem is the publisher's: EROFS metadata images of the layers and of what all of
//! them come to, and PKCS#7 signatures over fs-verity digests of manifest, config, these images, and a
//! [binding statement](crate::seal::Binding).
//!
//! A signature is over a *formatted digest*, as the kernel verifies it:
//! `"FSVerity"` · le16 algorithm · le16 size · digest
//! (see [`formatted_digest`](crate::pki::formatted_digest::formatted_digest)). It says nothing about
//! role, position, image or name: whatever a publisher ever signed verifies anywhere. The binding
//! statement names them all and is signed itself. Without it a seal is accepted only where the caller
//! asks for that, and then its images are compared with the layers at every use.
//!
//! # From layers to trees
//!
//! Layers in `rootfs.diff_ids` order, entries in tar order. Two trees come of one pass over them.
//!
//! *The container's tree*, role `rootfs`: what podman shows for the image on its own overlay, fixed by the tars alone.
//! Every start mounts it. podman is asked for each rule (`tests/same_tree`):
//!
//! - The root is 0555 0:0, 1970, whatever its entries say: a container shows its writable layer's.
//! - A parent without an entry in its layer is a directory 0755 0:0, 1970, also where lower layers have another. One
//!   that is a symlink of the same layer is followed inside the root; `..` of a name is cleaned there.
//! - Whiteouts and opaque markers act on lower layers, wherever they stand; a device 0:0 is a whiteout.
//! - A hard link names a file of its own layer; its metadata go to the file, the last ones count.
//! - `user.*`, `security.*` but for SELinux's label, and access control lists, which directories hand on and which are
//!   one with the mode. `trusted.*` is refused.
//! - Times that Go cannot count are 1970, but for symlinks; sparse files are expanded.
//!
//! *Layer trees*: a layer of that tree by itself, with a device 0:0 for each name that it takes away and overlayfs's
//! attribute for each opaque directory. Stacked they show exactly the container's tree. A marker that hides nothing is
//! left out, since overlayfs would list it.
//!
//! *The merged tree*, role `merged`: composefs' canonical one, for hosts that boot from an image. A missing parent is
//! refused, and so is what composefs' importers refuse: then there is none. Markers act at their place in the stream.
//! Root's metadata are copied from `/usr`, `/run` is emptied, extended attributes are reduced to
//! `security.capability`. The digest is the one that composefs 0.9 and C `mkcomposefs --min-version=1` compute. It is
//! signed, verified where it is there, mounted when a person asks for it, and by a start only where others have sealed
//! nothing else.
//!
//! All are EROFS V1.
//!
//! # Accepting a seal
//!
//! All must hold; the refusal names the first that does not, with its case.
//!
//! 1. The artifact's bytes match its descriptor, its shape is one that is known, its `subject` is this
//!    image.
//! 2. The statement parses, its signature is by a trusted certificate, and it names this config, these annotations
//!    of the manifest, these layers in this order, and these digests; it names this manifest too, but where a store
//!    holds the same image under another one; the name that was asked for is
//!    among its identities. In an inline seal it names no manifest: it is in the one that it is about.
//!    Where the policy says `rollback = "refuse"`, its sequence is not below the highest that this host
//!    accepted for one of its names.
//! 3. Manifest, config, every layer and both trees carry a valid signature by a trusted certificate over
//!    the digest that the statement gives for the role.
//! 4. At first use the images are made again from the layers: the same digest, or, for images in other
//!    format versions, the same tree.
//! 5. At every mount each EROFS file is opened once, measured through that descriptor, compared, and
//!    mounted through the same descriptor.
//!
//! One bad artifact never hides a good one.
//!
//! # Seals in registries
//!
//! A seal is an OCI artifact whose `subject` is the image manifest. It is found by the referrers API of
//! the distribution specification and by the index of its fallback tag; both lists are claims, and so is
//! everything that a registry sends. What is fetched goes into a blob store by its digest, and is then a
//! seal like any other: nothing is accepted for where it came from. [`fetch`](crate::fetch) has the limits
//! on number, size and time ([`Budget`](crate::oci::Budget)), and the order of a push: blobs, manifests by
//! digest, the fallback tag where the API does not list the seal, the image's own tag last.
//!
//! skopeo moves the bytes, so that credentials, certificates, mirrors and policy.json are those of the
//! containers tools. Opening a fallback tag as an image would give one referrer or another: it is read raw.
//!
//! # What happens at a start
//!
//! containers-storage calls `layerseal -o OPTIONS TARGET` under its locks, which we never take.
//!
//! 1. The environment is cleared, the options are read, and the target tells a container's root from a
//!    volume of buildah ([`invoke`](crate::invoke), [`identify`](crate::identify)).
//! 2. A target that carries our mount already (`podman diff` of a running container, which knows mounts by
//!    FUSE's number only) gets a read-only clone of it on top.
//! 3. The lower directories are looked up in the store's records, and the records compared with each
//!    other: IDs with diff_ids, manifest and config with their digests. What comes out is a claim.
//!    podman is the oracle: the manifest is the one under the key `manifest`, JSON that Go and we could read in
//!    two ways is refused ([`go_json`](crate::oci::go_json)), and the names of a list are its instance's.
//! 4. The policy, read once, says what is asked of an image of these names: the rules of all of them count,
//!    each setting in its strictest form. Where a container names its image, that one counts; else all images
//!    with these layers do: each must pass where a container is made from one of them, and each with a name that
//!    asks for a seal where one is only shown. The name that the
//!    container was made by (`image-name` in its metadata, which podman writes when it is asked) is the one that
//!    the seal must be for, and `@sha256:` in it must be the digest of the manifest or of an index that lists it.
//!    Where nobody says which name was asked for, the seal must be for each.
//! 5. *enforce*: the seals in the vault are judged as above. At first use the layers are read by their
//!    tar-split tables: every file of the directories gets fs-verity, its digest is the kernel's, and it
//!    becomes an object by one more name. Nothing is hashed here, unless a seal has no statement, and
//!    the diff_ids are all that ties layers to the image.
//!    Where none passes and the policy says `fetch = "on-mount"`, the image's repositories are asked once,
//!    under a deadline, by a skopeo with an empty environment; it touches nothing of the container store,
//!    whose locks the caller holds. What comes is kept, judged, and nobody is asked again.
//! 6. *audit*: a refusal goes to the journal and into the mount's record, with its case, subject and remedy, and the
//!    image is shown as this host finds it, enforced all the same. What cannot be made into a tree, read, or enforced
//!    is left to be shown as it is: audit always starts. *off*: the directories are shown as they are. Where they
//!    hold whiteouts as files (containers-storage writes them so for mount programs), fuse-overlayfs shows them.
//! 7. The mount, detached until the end; then a record in `/run/layerseal/mounts`, by device number.
//!
//! Parts of an image (`podman image diff`, `podman system check`) are shown where an image that holds
//! them is sealed: the lowest of its layer images, stacked.
//!
//! # What the hooks look at
//!
//! *createRuntime*, called by crun or runc when the container's mounts are made and its root is not yet
//! changed to ([`hook`](crate::hook)). The mount that will be `/` is the uppermost one on the root's path in
//! the mount namespace of the container's first process: the host can do nothing to it any more. All of this
//! must hold where the policy says *enforce*:
//!
//! 1. Its device has a record in `/run/layerseal/mounts`, and the mount that the record is about still exists,
//!    by its unique number, here or in the namespace of the first process. Device numbers are given again;
//!    that number is not. mountinfo names no EROFS image where layers were given as descriptors: the record
//!    is what ties the filesystem to what was verified.
//! 2. It is the whole filesystem, of the recorded source, with the recorded number of lower and data layers
//!    and `verity=require`; and a whole image, which the view for `podman diff` is not.
//! 3. It was made for this container: its target is in the layer that the store has on record for the
//!    container's ID. Without a store the root's path must be the target.
//! 4. Nothing lay in it before the runtime bound it on itself.
//! 5. Nothing that it was mounted from is denied, by the record, and nothing of the image that the container is
//!    made from, by the image's documents in the store: in every mode, before anything else.
//! 6. What was decided at the mount is what the policy asks now: sealed, for the name that was asked for, by a
//!    signer who is still trusted, with fs-verity.
//! 7. No mount of the container covers a system path, unless `cover` names it.
//!
//! `precreate` asks more, of what podman has done by then: what it read of the image is the same in the verified
//! root, with every attribute that it copies into volumes (O09); what it copied into the upper directory for this
//! start is the image's; no mount was filled for a container that was refused (O10); and an image that is mounted in
//! the container is verified as its root is (O11).
//!
//! Names decide which rules count: those that the image had at the mount, those that the container's image has
//! now, and the one that podman was asked for; each setting in its strictest form. Annotations are not looked at:
//! who makes a pod writes them.
//!
//! *precreate*, called by podman before the runtime. podman's overlay is read back from mountinfo as the call
//! that a mount program would have got, and goes the way of a start; at its end the overlay is unmounted, not
//! detached, and the verified mount attached. Two overlays over one upper directory damage it, so there is a
//! moment with none, and a failure then leaves none. containers-storage reads that upper directory in its own
//! way: it holds whole files, with the IDs that are seen on the host, so metacopy is off in the overlay that
//! writes it. Linux 6.12 has no `verity=require` without metacopy: there it lies over a second, read-only one.
