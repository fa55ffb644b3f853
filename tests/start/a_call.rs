//! Group A: the words of the call.

use std::path::Path;

use crate::host::{APP, ENFORCE, Host, OFF, TOOL};

#[test]
fn a01_calls_that_cannot_be_understood() {
    let Some(host) = Host::bare(ENFORCE) else { return };
    for args in [
        &["-o"][..],
        &["-o", "lowerdir=/a"],
        &["-o", "", "/t"],
        &["-o", "lowerdir=", "/t"],
        &["-o", "lowerdir", "/t"],
        &["-o", "lowerdir=/a", "/t", "/u"],
        &["-o", "lowerdir=/a", "-f", "/t"],
        &["-o", "lowerdir=/a,upperdir=/u", "/t"],
        &["-o", "lowerdir=/a", ""],
    ] {
        host.program(args, |_| ()).refused(2, "A01");
    }
    let version = host.program(&["--version"], |_| ());
    assert_eq!((version.code, version.stdout.starts_with("layerseal ")), (0, true), "{version:?}");
}

/// Owners and modes in an attribute, as `force_mask` has it: overlayfs would show those on the disk.
#[test]
fn x07_permissions_in_attributes_are_not_supported() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let container = host.container("c", &host.image(APP));
    let target = host.of(&container.layer, "merged");
    for level in [1, 2] {
        host.refused(&format!("{},xattr_permissions={level}", host.options(&container)), &target, 6, "X07");
    }
    // Neither for a layer that is read, nor for a volume.
    let lowers: Vec<String> = container.lowers.iter().map(|id| host.of(id, "diff")).collect();
    let image = host.of(&container.lowers[0], "merged");
    std::fs::create_dir_all(&image).unwrap();
    host.refused(&format!("lowerdir={},xattr_permissions=2", lowers.join(":")), &image, 6, "X07");
    host.call(&format!("{},xattr_permissions=0", host.options(&container)), &target).ok();
}

#[test]
fn x09_an_image_that_is_in_no_store() {
    let Some(host) = Host::new(ENFORCE) else { return };
    host.layerseal(&["prepare", &format!("{APP}:v1")]);
    for name in ["registry.example.com/acme/nothing:v1", "nothing", "@sha256:00"] {
        let ran = host.verb(&["prepare", name]);
        assert!(ran.code == 2 && ran.stderr.contains("[R-X09]"), "{name}: {ran:?}");
    }
}

#[test]
fn a02_options_as_the_kernel_reads_them() {
    let Some(host) = Host::bare(OFF) else { return };
    let dir = host.bench.path("vo:l,u\\me");
    std::fs::create_dir_all(dir.join("lower")).unwrap();
    std::fs::write(dir.join("lower/file"), "content").unwrap();
    std::fs::create_dir(host.bench.path("merge")).unwrap();
    let escaped = dir.join("lower").display().to_string().replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,");
    let target = host.bench.path("merge");
    host.call(&format!("lowerdir={escaped}"), target.to_str().unwrap()).ok();
    assert_eq!(std::fs::read(host.sandbox.path(&target.join("file"))).unwrap(), b"content");
    host.refused(&format!("lowerdir={escaped}\\"), target.to_str().unwrap(), 2, "A02");
    let long = format!("lowerdir=/{}", "x/".repeat(2100));
    host.refused(&long, target.to_str().unwrap(), 2, "A01");
}

#[test]
fn a03_five_hundred_lower_directories_and_one_more() {
    let Some(host) = Host::bare(OFF) else { return };
    let target = host.bench.path("merge");
    std::fs::create_dir(&target).unwrap();
    let lowers: Vec<String> = (0..501)
        .map(|n| {
            let dir = host.bench.path(&format!("l/{n}"));
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join(n.to_string()), "").unwrap();
            dir.display().to_string()
        })
        .collect();
    host.refused(&format!("lowerdir={}", lowers.join(":")), target.to_str().unwrap(), 2, "A03");
    host.call(&format!("lowerdir={}", lowers[..500].join(":")), target.to_str().unwrap()).ok();
    assert_eq!(std::fs::read_dir(host.sandbox.path(&target)).unwrap().count(), 500);
}

#[test]
fn a04_nothing_is_given_twice() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let container = host.container("c", &host.image(APP));
    let (options, target) = (host.options(&container), host.of(&container.layer, "merged"));
    let upper = host.of(&container.layer, "diff");
    for more in ["lowerdir=/etc".to_owned(), "upperdir=/tmp".into(), format!("upperdir={upper}"), "workdir=/tmp".into()]
    {
        host.refused(&format!("{options},{more}"), &target, 2, "A04");
    }
}

#[test]
fn a05_a06_options_of_the_caller_weaken_nothing() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let container = host.container("c", &host.image(APP));
    let (options, target) = (host.options(&container), host.of(&container.layer, "merged"));
    let weak = "private,foo=1,dev,suid,exec,rw,mode=off,policy=off,verity=off,metacopy=off,redirect_dir=nofollow,,";
    host.call(&format!("{weak}{options},{weak}"), &target).ok();
    let mounts = host.mounts_of(&container);
    assert!(mounts[0].starts_with("rw,") && mounts[0].contains("nodev"), "{mounts:?}");
    assert!(mounts[0].contains("metacopy=on") && mounts[0].contains("composefs:"), "{mounts:?}");
    host.unmount(&container);
    for (more, case) in [("verity=require,metacopy=off", "A06"), ("metacopy=on,metacopy=off", "A06")] {
        host.refused(&format!("{options},{more}"), &target, 2, case);
    }
    // More than the policy asks for is asked of the kernel, which cannot.
    host.refused(&format!("{options},verity=require"), &target, 6, "G06");
    // The policy asks for it whatever the caller says.
    host.config("policy.toml", &ENFORCE.replace("\"off\"", "\"require\""));
    host.refused(&format!("{options},verity=off"), &target, 6, "G06");
}

#[test]
fn a07_a_label_with_commas_is_one_option() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let container = host.container("c", &host.image(APP));
    let (options, target) = (host.options(&container), host.of(&container.layer, "merged"));
    let label = r#",context="system_u:object_r:container_file_t:s0:c1,c2,lowerdir=/etc""#;
    host.call(&format!("{options}{label}"), &target).ok();
    assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL);
}

#[test]
fn a08_targets_that_are_no_containers_root() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let container = host.container("c", &host.image(APP));
    let (options, target) = (host.options(&container), host.of(&container.layer, "merged"));
    let outside = host.bench.path("outside/merged");
    std::fs::create_dir_all(&outside).unwrap();
    for bad in [
        outside.display().to_string(),
        format!("{target}/../merged"),
        host.root.join("overlay/x/merged").display().to_string(),
        host.root.join(format!("overlay2/{}/merged", container.layer)).display().to_string(),
    ] {
        host.refused(&options, &bad, 2, "A08");
    }
    std::fs::remove_dir(&target).unwrap();
    std::os::unix::fs::symlink(&outside, &target).unwrap();
    host.refused(&options, &target, 2, "A08");
    std::fs::remove_file(&target).unwrap();
    std::fs::write(&target, "").unwrap();
    host.refused(&options, &target, 2, "A08");
    std::fs::remove_file(&target).unwrap();
    host.refused(&options, &target, 2, "A01");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

/// Somebody's directories on somebody's place: whatever the policy, it is never reported as sealed.
#[test]
fn a08_a_volume_is_plain_and_says_so() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let target = host.bench.path("merge");
    for dir in ["merge", "lower", "u", "w"] {
        std::fs::create_dir(host.bench.path(dir)).unwrap();
    }
    host.bench.write("lower/file", b"content");
    let at = |name: &str| host.bench.path(name).display().to_string();
    let options = format!("lowerdir={},upperdir={},workdir={},private", at("lower"), at("u"), at("w"));
    host.call(&options, &at("merge")).ok();
    assert_eq!(std::fs::read(host.sandbox.path(&target.join("file"))).unwrap(), b"content");
    let status = host.layerseal(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    let mount = &status["mounts"][0];
    assert_eq!((&mount["kind"], &mount["source"]), (&"volume".into(), &"layerseal:plain".into()), "{status}");
}

#[test]
fn a09_relative_names_and_a_directory_that_is_gone() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let container = host.container("c", &host.image(APP));
    let root = host.root.join("overlay").display().to_string() + "/";
    // As containers-storage names them: beneath the directory that it runs mount programs in.
    let (options, target) = (host.options(&container).replace(&root, ""), host.of(&container.layer, "merged"));
    host.call(&options, &target).ok();
    assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL);
    host.unmount(&container);
    host.call(&options, target.strip_prefix(&root).unwrap()).ok();
    host.unmount(&container);
    let gone = "d=$(mktemp -d); cd \"$d\"; rmdir \"$d\"; exec \"$@\"";
    let run = |options: &str, target: &str| {
        let mut command = host.sandbox.command("sh");
        command.args(["-c", gone, "sh", crate::host::binary(), "-o", options, target]);
        host.sandbox.run(&mut command)
    };
    // Lower directories are the store's wherever it is called from; a target is not.
    run(&options, &target).ok();
    host.unmount(&container);
    run(&options, target.strip_prefix(&root).unwrap()).refused(2, "A08");
    let elsewhere = host.program(&["-o", &options, "merged"], |c| {
        c.current_dir("/");
    });
    elsewhere.refused(2, "A08");
}

#[test]
fn a12_without_an_upper_directory_nothing_is_writable() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let image = host.image(APP);
    let lowers: Vec<String> = image.layers.iter().map(|id| host.of(id, "diff")).collect();
    let target = host.of(&image.layers[0], "merged");
    std::fs::create_dir_all(&target).unwrap();
    host.call(&format!("lowerdir={}", lowers.join(":")), &target).ok();
    let seen = host.sandbox.path(Path::new(&target));
    assert_eq!(std::fs::read(seen.join("usr/bin/tool")).unwrap(), TOOL);
    assert!(std::fs::write(seen.join("etc/x"), "").is_err());
    assert!(host.sandbox.mounts().iter().any(|(at, options)| *at == target && options.starts_with("ro,")));
}

#[test]
fn a13_maps_that_cannot_be_are_refused() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let container = host.container("c", &host.image(APP));
    let (options, target) = (host.options(&container), host.of(&container.layer, "merged"));
    for map in [":0:1", ":0:0:10:5:100:10", ":0:4294967295:2", ":0:0:0", ":0:-1:1", ":0:0:1:2"] {
        host.refused(&format!("{options},uidmapping={map}"), &target, 2, "A13");
    }
}
