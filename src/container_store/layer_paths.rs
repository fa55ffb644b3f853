//! Which layer a path of the call means. The path is taken apart, not followed: whatever it names is opened anew
//! beneath the store's root.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use crate::error::{Case, Refusal, Result};
use crate::oci::{LayerId, is_id};

/// A layer's directory in a store, `ROOT/overlay/ID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LayerDir {
    pub root: PathBuf,
    pub id: LayerId,
}

impl LayerDir {
    /// Returns the path of something in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.root.join("overlay").join(self.id.as_str()).join(name)
    }
}

/// How a lower directory relates to its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LowerKind {
    /// `diff`: its content.
    Diff,
    /// `diff1` and so on: its content before it was copied for other user IDs (overlay.go,
    /// `UpdateLayerIDMap`).
    Extra(u32),
    /// `empty`: a lower directory for a layer without any, since overlayfs needs one.
    Empty,
}

impl LowerKind {
    /// Returns the name of the directory.
    pub fn directory(self) -> String {
        match self {
            Self::Diff => "diff".into(),
            Self::Extra(number) => format!("diff{number}"),
            Self::Empty => "empty".into(),
        }
    }
}

/// How the layer is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LayerName {
    /// By its ID.
    Id(LayerId),
    /// By its short name in `overlay/l`.
    Link(String),
}

/// A lower directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LowerDir {
    pub root: PathBuf,
    pub name: LayerName,
    pub kind: LowerKind,
    /// Whether it is shown in the target's own directory, for other user IDs; then it may lie in another store.
    pub mapped: bool,
}

/// Finds the layer that a target `ROOT/overlay/ID/merged` is to show; `None` for a target that is not in a store's
/// layer, which is a volume of buildah (pkg/overlay, `MountWithOptions`).
///
/// # Errors
/// [`Case::A08Target`] for a `merged` anywhere else: if a container's root were taken for a volume, it would not be
/// checked.
pub(super) fn target(path: &Path) -> Result<Option<LayerDir>> {
    match parts(path).as_deref() {
        Some([root @ .., b"overlay", id, b"merged"]) if is_id(id) => {
            Ok(Some(LayerDir { root: join(root), id: text(id).parse()? }))
        }
        Some([.., b"merged"]) | None => {
            Err(Refusal::new(Case::A08Target, path.display().to_string(), "not in a layer of a container store"))
        }
        _ => Ok(None),
    }
}

/// Reads a lower directory of a call for `own`, in all forms that containers-storage has ever written. A relative path
/// begins at `ROOT/overlay`, where containers-storage runs mount programs.
///
/// # Errors
/// [`Case::B08Lowers`] for a directory that cannot be a store's layer.
pub(super) fn lower(path: &Path, own: &LayerDir) -> Result<LowerDir> {
    let refuse = |why: &str| Refusal::new(Case::B08Lowers, path.display().to_string(), why);
    let absolute = own.root.join("overlay").join(path);
    let parts = parts(&absolute).ok_or_else(|| refuse("not an absolute path"))?;
    let (home, name, kind) = match parts.as_slice() {
        [home @ .., b"l", link] if is_link(link) => (home, LayerName::Link(text(link)), LowerKind::Diff),
        // Through the link, as the kernel resolves it: `..` is that of the layer, not of `l`.
        [home @ .., b"l", link, b"..", name] if is_link(link) && extra(name).is_some() => {
            (home, LayerName::Link(text(link)), LowerKind::Extra(extra(name).unwrap_or_default()))
        }
        [home @ .., id, b"diff"] if is_id(id) => (home, LayerName::Id(text(id).parse()?), LowerKind::Diff),
        [home @ .., id, name] | [home @ .., id, b"diff", b"..", name] if is_id(id) && extra(name).is_some() => {
            (home, LayerName::Id(text(id).parse()?), LowerKind::Extra(extra(name).unwrap_or_default()))
        }
        [home @ .., id, b"empty"] if is_id(id) => (home, LayerName::Id(text(id).parse()?), LowerKind::Empty),
        [.., b"composefs-layers", _] => return Err(refuse("use_composefs does not go together with a mount_program")),
        _ => return Err(refuse("not a layer of a container store")),
    };
    let (root, mapped) = match home {
        [root @ .., b"overlay"] => (root, false),
        // podman mounts the store once more, as well as every other one that has a layer of the image, with its user
        // IDs mapped, and names the lower directories there: they are the same directories.
        [root @ .., b"overlay", id, b"mapped", n] if *id == own.id.as_str().as_bytes() && is_number(n) => (root, true),
        _ => return Err(refuse("not a layer of a container store")),
    };
    if root.contains(&&b".."[..]) {
        return Err(refuse("it holds .."));
    }
    Ok(LowerDir { root: join(root), name, kind, mapped })
}

/// Splits an absolute path into its components.
fn parts(path: &Path) -> Option<Vec<&[u8]>> {
    if !path.is_absolute() {
        return None;
    }
    let part = |c| match c {
        Component::Normal(name) => Some(OsStr::as_bytes(name)),
        Component::ParentDir => Some(&b".."[..]),
        _ => None,
    };
    Some(path.components().filter_map(part).collect())
}

fn join(parts: &[&[u8]]) -> PathBuf {
    let mut path = PathBuf::from("/");
    path.extend(parts.iter().map(|p| OsStr::from_bytes(p)));
    path
}

/// Turns bytes that were compared with ASCII into text.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns whether the name is a link's: 26 characters of base32 (overlay.go, `generateID`).
fn is_link(text: &[u8]) -> bool {
    text.len() == 26 && text.iter().all(|b| matches!(b, b'A'..=b'Z' | b'2'..=b'7'))
}

/// Returns the number of `diff1` and so on, as the driver writes it.
fn extra(name: &[u8]) -> Option<u32> {
    let number = name.strip_prefix(b"diff").filter(|n| is_number(n) && n[0] != b'0')?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

fn is_number(text: &[u8]) -> bool {
    (1..=9).contains(&text.len()) && text.iter().all(u8::is_ascii_digit)
}

/// Makes a path absolute by the working directory, which may be gone.
pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Refusal::new(Case::A08Target, path.display().to_string(), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "1111111111111111111111111111111111111111111111111111111111111111";
    const ID: &str = "2222222222222222222222222222222222222222222222222222222222222222";
    const LINK: &str = "ZNPS4RQGHUAF5H5DP465OKH3NU";

    fn own() -> LayerDir {
        LayerDir { root: "/g".into(), id: OWN.parse().unwrap() }
    }

    #[test]
    fn a08_targets() {
        let of = |path: String| target(Path::new(&path));
        assert_eq!(of(format!("/g/overlay/{OWN}/merged")).unwrap(), Some(own()));
        assert_eq!(of(format!("//g/./overlay//{OWN}/merged/")).unwrap(), Some(own()));
        for volume in ["/c/overlay-containers/x/userdata/overlay/1730243760/merge", "/c/rootfs/merge", "/mnt", "/"] {
            assert_eq!(of(volume.into()).unwrap(), None);
        }
        for bad in ["/mnt/merged".into(), format!("/g/overlay2/{OWN}/merged"), "/g/overlay/x/merged".into(), "x".into()]
        {
            assert_eq!(of(bad).unwrap_err().case(), Case::A08Target);
        }
    }

    #[test]
    fn lowers_in_all_their_forms() {
        let id = |kind| LowerDir { root: "/g".into(), name: LayerName::Id(ID.parse().unwrap()), kind, mapped: false };
        let link = |kind| LowerDir { root: "/g".into(), name: LayerName::Link(LINK.into()), kind, mapped: false };
        let mapped = |place| LowerDir { mapped: true, ..place };
        for (path, place) in [
            (format!("/g/overlay/{ID}/diff"), id(LowerKind::Diff)),
            (format!("{ID}/diff"), id(LowerKind::Diff)),
            (format!("/g/overlay/{ID}/diff2"), id(LowerKind::Extra(2))),
            (format!("/g/overlay/{ID}/diff/../diff1"), id(LowerKind::Extra(1))),
            (format!("/g/overlay/{ID}/empty"), id(LowerKind::Empty)),
            (format!("/g/overlay/l/{LINK}"), link(LowerKind::Diff)),
            (format!("l/{LINK}"), link(LowerKind::Diff)),
            (format!("/g/overlay/l/{LINK}/../diff1"), link(LowerKind::Extra(1))),
            (format!("/g/overlay/{OWN}/mapped/0/l/{LINK}"), mapped(link(LowerKind::Diff))),
            (format!("/g/overlay/{OWN}/mapped/12/{ID}/diff"), mapped(id(LowerKind::Diff))),
            (format!("/other/overlay/{ID}/diff"), LowerDir { root: "/other".into(), ..id(LowerKind::Diff) }),
        ] {
            assert_eq!(lower(Path::new(&path), &own()).unwrap(), place, "{path}");
        }
    }

    #[test]
    fn b08_lowers_that_no_layer_can_be() {
        for path in [
            "/etc".into(),
            format!("/g/overlay/{ID}"),
            format!("/g/overlay/{ID}/merged"),
            format!("/g/overlay/{ID}/diff/"),
            format!("/g/overlay/{ID}/diff/sub"),
            format!("/g/overlay/{ID}/diff/.."),
            format!("/g/overlay/{ID}/../x/diff"),
            format!("/g/x/../overlay/{ID}/diff"),
            format!("/g/overlay2/{ID}/diff"),
            format!("/g/overlay/{ID}/diffx"),
            format!("/g/overlay/{ID}/diff01"),
            format!("/g/overlay/{ID}/diff0"),
            format!("/g/overlay/l/{}", LINK.to_lowercase()),
            format!("/g/overlay/l/{LINK}/.."),
            format!("/g/overlay/{ID}/mapped/0/l/{LINK}"),
            format!("/g/overlay/{OWN}/composefs-layers/1"),
            format!("../{ID}/diff"),
        ] {
            match lower(Path::new(&path), &own()) {
                // A slash at the end changes nothing.
                Ok(place) => assert!(path.ends_with("diff/"), "{place:?}"),
                Err(refusal) => assert_eq!(refusal.case(), Case::B08Lowers, "{path}"),
            }
        }
    }
}
