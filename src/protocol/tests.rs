//! Calls as podman, CRI-O and buildah make them, and as nobody should.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use super::*;
use crate::error::Case;

fn argv(arguments: &[&str]) -> Vec<OsString> {
    arguments.iter().map(OsString::from).collect()
}

fn mount(arguments: &[&str]) -> MountCall {
    match parse(&argv(arguments)).unwrap() {
        Invocation::Mount(call) => *call,
        Invocation::Version => panic!("a version"),
    }
}

/// Parses a call with these options after a lower directory.
fn with(options: &str) -> crate::error::Result<MountCall> {
    parse(&argv(&["-o", &format!("lowerdir=/l,{options}"), "/t/merged"])).map(|i| match i {
        Invocation::Mount(call) => *call,
        Invocation::Version => panic!("a version"),
    })
}

#[track_caller]
fn refused(options: &str, case: Case) {
    assert_eq!(with(options).unwrap_err().case(), case, "{options}");
}

#[test]
fn a01_arguments() {
    for bad in [
        &[][..],
        &["-o"],
        &["-o", "lowerdir=/l"],
        &["/t"],
        &["-o", "upperdir=/u,workdir=/w", "/t"],
        &["-o", "lowerdir=", "/t"],
        &["-o", "lowerdir", "/t"],
        &["-o", "lowerdir=/l", "/t", "/u"],
        &["-o", "lowerdir=/l", "--help"],
        &["-f", "-o", "lowerdir=/l", "/t"],
        &["--version", "/t"],
        &["-o", "lowerdir=/l", ""],
        &["-o", "lowerdir=/l,upperdir=/u", "/t"],
        &["-o", "lowerdir=/l,workdir=/w", "/t"],
        &["-o", "lowerdir=/l,upperdir=,workdir=/w", "/t"],
        &["-o", "lowerdir=/l,xattr_permissions=3", "/t"],
        &["-o", "lowerdir=/l,x=\0", "/t"],
    ] {
        assert_eq!(parse(&argv(bad)).unwrap_err().case(), Case::Usage, "{bad:?}");
    }
}

#[test]
fn a01_size_is_bounded() {
    let long = "x".repeat(130 << 10);
    assert_eq!(parse(&argv(&["-o", &long, "/t"])).unwrap_err().case(), Case::Usage);
    let many = vec!["-oabcdefgh"; 20_000];
    assert_eq!(parse(&argv(&many)).unwrap_err().case(), Case::Usage);
    refused(&format!("upperdir=/{},workdir=/w", "u".repeat(4096)), Case::Usage);
}

#[test]
fn a01_version() {
    for flag in ["--version", "-V"] {
        assert_eq!(parse(&argv(&[flag])).unwrap(), Invocation::Version);
    }
}

#[test]
fn a01_told_from_verbs() {
    assert!(looks_like_mount_program(&argv(&["-o", "x", "/t"])));
    assert!(looks_like_mount_program(&argv(&["-olowerdir=/l", "/t"])));
    for verb in [&[][..], &["--version"], &["mount", "-o"], &["-v", "-o"], &["/t", "-o", "x"]] {
        assert!(!looks_like_mount_program(&argv(verb)), "{verb:?}");
    }
}

#[test]
fn a02_bytes_that_are_no_text() {
    let options = [&b"lowerdir=/\xff:/b\\:c,upperdir=/u\\,1,workdir=/w\xfe"[..], b",context=\"a\xfd,b\""].concat();
    let argv = [OsString::from("-o"), OsString::from_vec(options), OsString::from_vec(b"/t\xfc".to_vec())];
    let Invocation::Mount(call) = parse(&argv).unwrap() else { panic!("a version") };
    let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
    assert_eq!(call.lowers, [path(b"/\xff"), path(b"/b:c")]);
    assert_eq!(call.upper, Some(UpperPaths { upper: path(b"/u,1"), work: path(b"/w\xfe") }));
    assert_eq!(call.context.unwrap().as_bytes(), b"a\xfd,b");
    assert_eq!(call.target, path(b"/t\xfc"));
}

#[test]
fn a02_escapes_without_end() {
    for bad in ["x=\\", "context=\"a", "context=\"a\"b", "upperdir=/u\\"] {
        refused(bad, Case::A02Escape);
    }
}

#[test]
fn a03_five_hundred_lowers() {
    let lowers = |n: usize| (0..n).map(|i| format!("/s/overlay/{i:064x}/diff")).collect::<Vec<_>>().join(":");
    assert_eq!(mount(&["-o", &format!("lowerdir={}", lowers(500)), "/t"]).lowers.len(), 500);
    for too_many in [lowers(501), format!("{}::/data", lowers(500))] {
        let refusal = parse(&argv(&["-o", &format!("lowerdir={too_many}"), "/t"])).unwrap_err();
        assert_eq!(refusal.case(), Case::A03Lowers);
    }
}

#[test]
fn a04_nothing_twice() {
    refused("lowerdir=/l", Case::A04Twice);
    refused("upperdir=/u,workdir=/w,upperdir=/u", Case::A04Twice);
    refused("workdir=/w,upperdir=/u,workdir=/v", Case::A04Twice);
    refused("context=a,context=b", Case::A04Twice);
    let refusal = parse(&argv(&["-olowerdir=/a", "-olowerdir=/b", "/t"])).unwrap_err();
    assert_eq!(refusal.case(), Case::A04Twice);
}

#[test]
fn a05_unknown_options_are_kept_for_the_log() {
    let call = with("foo=1,,private,rw,bar,verity,").unwrap();
    assert_eq!(call.ignored, ["foo=1", "private", "rw", "bar", "verity"]);
    assert_eq!(MountCall { ignored: vec![], ..call }, with("").unwrap());
}

#[test]
fn a06_only_stricter() {
    for weaker in ["verity=off", "metacopy=off", "redirect_dir=nofollow", "redirect_dir=off", "verity=off,verity=off"] {
        let call = with(weaker).unwrap();
        assert_eq!(call.requests, Requests::default(), "{weaker}");
        assert!(call.ignored.is_empty());
    }
    let call = with("metacopy=on,redirect_dir=on,verity=require,verity=require,ro,nodev").unwrap();
    assert_eq!(call.requests, Requests { verity: true, metacopy: true, redirect_dir: true });
    assert!(call.restrictions.read_only && call.restrictions.nodev && !call.restrictions.noexec);
    for contradiction in [
        "verity=off,verity=require",
        "verity=maybe",
        "verity=",
        "metacopy=1",
        "redirect_dir=yes",
        "verity=on,metacopy=off",
        "metacopy=on,redirect_dir=off",
        "userxattr,metacopy=on",
        "redirect_dir=on,userxattr",
    ] {
        refused(contradiction, Case::A06Contradiction);
    }
}

#[test]
fn a07_label_with_commas() {
    let call = with(r#"context="system_u:object_r:container_file_t:s0:c1,c2",volatile"#).unwrap();
    assert_eq!(call.context.unwrap(), "system_u:object_r:container_file_t:s0:c1,c2");
    assert!(call.volatile && call.ignored.is_empty());
}

#[test]
fn a08_target_without_dots() {
    for bad in ["/s/overlay/../x", "..", "a/../b", "/.."] {
        let refusal = parse(&argv(&["-o", "lowerdir=/l", bad])).unwrap_err();
        assert_eq!(refusal.case(), Case::A08Target, "{bad}");
    }
    for good in ["/s/overlay/a..b/merged", "merged", "/s/./x"] {
        assert_eq!(mount(&["-o", "lowerdir=/l", good]).target, PathBuf::from(good));
    }
}

#[test]
fn a12_read_only_is_the_absence_of_an_upper() {
    let call = mount(&["-o", "lowerdir=/a/diff:/b/diff", "/t"]);
    assert_eq!(call.upper, None);
    assert!(!call.restrictions.read_only);
}

#[test]
fn a13_mappings() {
    let extent = |container, host, size| Extent { container, host, size };
    let call = with("uidmapping=:0:100000:65536,gidmapping=").unwrap();
    assert_eq!(call.uids, IdMapping::Map(vec![extent(0, 100_000, 65_536)]));
    assert_eq!(call.gids, IdMapping::Map(vec![]));
    let call = with("squash_to_uid=1000,squash_to_gid=100").unwrap();
    assert_eq!((call.uids, call.gids), (IdMapping::Squash(1000), IdMapping::Squash(100)));
    refused("uidmapping=:0:1", Case::A13IdMap);
    refused("uidmapping=:0:0:1,uidmapping=:0:0:1", Case::A13IdMap);
    refused("uidmapping=:0:0:1,squash_to_uid=0", Case::A13IdMap);
    refused("uidmapping", Case::Usage);
}

/// Parses what podman 4.3.1 and buildah 1.28 sent, with their doubled and final commas.
#[test]
fn calls_from_the_field() {
    let call = mount(&[
        "-o",
        "lowerdir=/g/overlay/l/A:/g/overlay/l/B,upperdir=/g/overlay/i/diff,workdir=/g/overlay/i/work,,volatile",
        "/g/overlay/i/merged",
    ]);
    assert_eq!(call.lowers, [PathBuf::from("/g/overlay/l/A"), PathBuf::from("/g/overlay/l/B")]);
    assert!(call.volatile && call.ignored.is_empty());

    let call = mount(&["-o", "lowerdir=/src\\:x,upperdir=/v/upper,workdir=/v/work,private", "/v/merge"]);
    assert_eq!(call.lowers, [PathBuf::from("/src:x")]);
    assert_eq!(call.ignored, ["private"]);

    let call = mount(&[
        "-o",
        "lowerdir=/g/c/1:/g/c/2::/g/a/diff::/g/b/diff,upperdir=/u,workdir=/w,metacopy=on,redirect_dir=on",
        "/t/merged",
    ]);
    assert_eq!((call.lowers.len(), call.data_lowers.len()), (2, 2));

    let joined = mount(&["-olowerdir=/l", "-o", "upperdir=/u", "-oworkdir=/w", "/t"]);
    assert_eq!(joined, mount(&["-o", "lowerdir=/l,upperdir=/u,workdir=/w", "/t"]));
}
