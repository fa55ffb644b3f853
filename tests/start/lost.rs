//! EROFS images that are gone from a store's vault: a start makes again what it mounts.

use layerseal::digest::{Algorithm, BlobDigest};
use layerseal::vault::Vault;

use crate::host::{APP, AUDIT, ENFORCE, Host, OTHER, TOOL};

/// The digests of the EROFS images of an image in the store.
fn made(host: &Host, name: &str) -> layerseal::image::TreeDigests {
    let record = host.root.join("overlay-images").join(host.image(name).id).join("manifest");
    let manifest = BlobDigest::of(&std::fs::read(record).unwrap());
    Vault::open(&host.root.join("layerseal")).unwrap().contents(&manifest, Algorithm::Sha512).unwrap()
}

/// As `podman image diff` asks for them.
#[test]
fn the_lowest_layers_of_a_sealed_image() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let app = host.image(APP);
    let lowest = host.of(&app.layers[1], "merged");
    std::fs::create_dir_all(&lowest).unwrap();
    let call = || host.call(&format!("lowerdir={}", host.of(&app.layers[1], "diff")), &lowest);
    let digests = made(&host, APP);
    let layer = host.root.join("layerseal/objects").join(digests.layers[0].object_path());
    call().ok();
    host.sandbox.sh(&format!("umount '{lowest}'"));
    std::fs::remove_file(&layer).unwrap();
    call().ok();
    assert!(layer.is_file());
    assert_eq!(std::fs::read(host.sandbox.path(lowest.as_ref()).join("usr/bin/tool")).unwrap(), TOOL);
    host.sandbox.sh(&format!("umount '{lowest}'"));
}

#[test]
fn the_root_of_a_container() {
    let Some(host) = Host::new(AUDIT) else { return };
    for name in [APP, OTHER] {
        let container = host.container(name, &host.image(name));
        host.start(&container);
        host.unmount(&container);
        let rootfs = host.root.join("layerseal/objects").join(made(&host, name).rootfs.object_path());
        std::fs::remove_file(&rootfs).unwrap();
        assert_eq!(host.start(&container).code, 0);
        assert!(rootfs.is_file() && host.mounts_of(&container)[0].contains("composefs:"), "{name}");
        host.unmount(&container);
    }
}
