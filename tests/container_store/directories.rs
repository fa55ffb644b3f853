//! Lower directories that are not the image's, and directories of the store that are not its own.

use std::os::unix::fs::symlink;
use std::path::Path;

use layerseal::error::Case;

use crate::store::{image, random_id, refused};
use crate::tamper::Scene;

#[test]
fn b08_lowers_missing_added_swapped() {
    let scene = Scene::new();
    let foreign = random_id("foreign");
    scene.s.directory(&foreign);
    let s = &scene.s;
    let whole = s.lowers(&scene.app.layers);
    let of = |order: &[usize]| order.iter().map(|i| whole[*i].clone()).collect::<Vec<_>>();
    for lowers in
        [of(&[1, 2]), of(&[0, 2]), of(&[0, 1]), of(&[1, 0, 2]), of(&[0, 2, 1]), of(&[0, 0, 1, 2]), of(&[0, 1, 2, 2])]
    {
        refused(s.rw(&scene.own, &lowers), Case::B08Lowers);
        refused(s.ro(scene.app.top(), &lowers), Case::B08Lowers);
    }
    for extra in
        [s.of(&foreign, "diff"), s.of(scene.other.top(), "diff"), "/etc".into(), s.of(scene.app.top(), "merged")]
    {
        for at in 0..=3 {
            let mut lowers = whole.clone();
            lowers.insert(at, extra.clone());
            refused(s.rw(&scene.own, &lowers), Case::B08Lowers);
            refused(s.ro(scene.app.top(), &lowers), Case::B08Lowers);
        }
    }
    // Old content where there is none to be, and of another layer.
    for lowers in [
        [&[s.of(&foreign, "diff1")], whole.as_slice()].concat(),
        [&whole[..1], &[s.of(&foreign, "diff1")], &whole[1..]].concat(),
    ] {
        refused(s.rw(&scene.own, &lowers), Case::B08Lowers);
    }
}

#[test]
fn b08_upper_of_another() {
    let mut scene = Scene::new();
    let second = scene.s.container("second", &scene.app.id, scene.app.top());
    scene.s.save();
    let s = &scene.s;
    let lowers = s.lowers(&scene.app.layers).join(":");
    for (upper, work) in [
        (s.of(&second, "diff"), s.of(&scene.own, "work")),
        (s.of(&scene.own, "diff"), s.of(&second, "work")),
        ("/etc".into(), s.of(&scene.own, "work")),
        (s.of(&scene.own, "diff/../../x"), s.of(&scene.own, "work")),
    ] {
        let options = format!("lowerdir={lowers},upperdir={upper},workdir={work}");
        refused(crate::store::call(&options, &s.of(&scene.own, "merged")), Case::B08Lowers);
    }
    let data = format!("lowerdir={lowers}::/data");
    refused(crate::store::call(&data, &s.of(scene.app.top(), "merged")), Case::B08Lowers);
}

#[test]
fn b08_nothing_in_the_place_of_the_image() {
    // Without its `lower` file the container would run on an empty directory and its own layer.
    let mut scene = Scene::new();
    scene.s.layers.iter_mut().find(|l| l["id"] == scene.own).unwrap().as_object_mut().unwrap().remove("parent");
    scene.s.save();
    let empty = scene.s.of(&scene.own, "empty");
    refused(scene.s.rw(&scene.own, std::slice::from_ref(&empty)), Case::B03Layers);
    // And the empty directory need not be.
    std::fs::write(Path::new(&empty).join("\u{1}x"), "").unwrap();
    refused(scene.s.rw(&scene.own, &[empty]), Case::B09Replaced);
}

#[test]
fn b09_directories_replaced() {
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::create_dir(elsewhere.path().join("diff")).unwrap();
    let middle = |scene: &Scene| scene.app.layers[1].clone();
    let scene = Scene::new();
    scene.replace(&format!("overlay/{}/diff", middle(&scene)), elsewhere.path());
    scene.refused(Case::B09Replaced);

    let scene = Scene::new();
    scene.replace(&format!("overlay/{}", middle(&scene)), elsewhere.path());
    scene.refused(Case::B09Replaced);

    // Within the store, relative: another layer's.
    let scene = Scene::new();
    scene.replace(&format!("overlay/{}/diff", middle(&scene)), Path::new(&format!("../{}/diff", scene.other.top())));
    scene.refused(Case::B09Replaced);

    let scene = Scene::new();
    scene.replace(&format!("overlay/{}/diff", scene.own), elsewhere.path());
    refused(scene.rw(), Case::B09Replaced);

    let scene = Scene::new();
    std::fs::write(elsewhere.path().join("f"), "").unwrap();
    scene.replace(&format!("overlay/{}/diff", middle(&scene)), &elsewhere.path().join("f"));
    scene.refused(Case::B09Replaced);

    for file in ["overlay-layers/layers.json", "overlay-images/images.json"] {
        let scene = Scene::new();
        let target = scene.s.path(file).with_extension("old");
        scene.replace(file, &target);
        scene.refused(Case::B09Replaced);
    }
    let scene = Scene::new();
    let documents = format!("overlay-images/{}", scene.app.id);
    let target = scene.s.path(&documents).with_extension("old");
    scene.replace(&documents, &target);
    scene.refused(Case::B09Replaced);
}

#[test]
fn b09_short_names_that_point_elsewhere() {
    let scene = Scene::new();
    let lowers: Vec<_> = scene.app.layers.iter().rev().map(|id| scene.s.short(id)).collect();
    image(scene.s.rw(&scene.own, &lowers));
    let top = scene.app.top();
    for text in [
        "/etc".to_owned(),
        format!("../{}/diff", "a".repeat(63)),
        format!("../../overlay/{top}/diff"),
        format!("../{top}/diff/"),
        format!("../{top}/merged"),
        format!("/x/../{top}/diff"),
        format!("../{}/diff", top.to_uppercase()),
    ] {
        std::fs::remove_file(&lowers[0]).unwrap();
        symlink(text, &lowers[0]).unwrap();
        refused(scene.s.rw(&scene.own, &lowers), Case::B09Replaced);
    }
    std::fs::remove_file(&lowers[0]).unwrap();
    std::fs::create_dir(&lowers[0]).unwrap();
    refused(scene.s.rw(&scene.own, &lowers), Case::B09Replaced);
    std::fs::remove_dir(&lowers[0]).unwrap();
    refused(scene.s.rw(&scene.own, &lowers), Case::B11Gone);
    // To another layer that exists: the shape is right, and the chain is not.
    symlink(format!("../{}/diff", scene.other.top()), &lowers[0]).unwrap();
    refused(scene.s.rw(&scene.own, &lowers), Case::B08Lowers);
}
