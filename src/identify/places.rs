//! Which layer a path of the call means. The path is taken apart, not followed: what it names is
//! opened anew beneath the store's root.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use super::storage::is_id;
use crate::report::{Case, Refusal, Result};

/// A layer's directory in a store, `ROOT/overlay/ID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Home {
    pub root: PathBuf,
    pub id: String,
}

impl Home {
    /// The path of something in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.root.join("overlay").join(&self.id).join(name)
    }
}

/// What a lower directory is to its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `diff`: its content.
    Diff,
    /// `diff1` and so on: its content before it was copied for other user IDs (overlay.go,
    /// `UpdateLayerIDMap`).
    Extra(u32),
    /// `empty`: a lower directory for a layer that has none, since overlayfs needs one.
    Empty,
}

impl Kind {
    /// The name of the directory.
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
pub(super) enum Name {
    /// By its ID.
    Id(String),
    /// By its short name in `overlay/l`.
    Link(String),
}

/// A lower directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub root: PathBuf,
    pub name: Name,
    pub kind: Kind,
    /// It is shown in the target's own directory, for other user IDs, and may lie in another store.
    pub mapped: bool,
}

/// The layer that a target `ROOT/overlay/ID/merged` is to show; `None` for one that is not in a
/// store's layer, which is a volume of buildah (pkg/overlay, `MountWithOptions`).
///
/// # Errors
/// [`Case::A08Target`] for a `merged` anywhere else: taking a container's root for a volume would
/// mean not to check it.
pub(super) fn target(path: &Path) -> Result<Option<Home>> {
    match parts(path).as_deref() {
        Some([root @ .., b"overlay", id, b"merged"]) if is_id(id) => Ok(Some(Home { root: join(root), id: text(id) })),
        Some([.., b"merged"]) | None => {
            Err(Refusal::new(Case::A08Target, path.display().to_string(), "not in a layer of a container store"))
        }
        _ => Ok(None),
    }
}

/// Reads a lower directory of a call for `own`, in all forms that containers-storage has written.
/// A relative one is meant beneath `ROOT/overlay`, where containers-storage runs mount programs.
///
/// # Errors
/// [`Case::B08Lowers`] for one that no layer of a store can be.
pub(super) fn lower(path: &Path, own: &Home) -> Result<Place> {
    let refuse = |why: &str| Refusal::new(Case::B08Lowers, path.display().to_string(), why);
    let absolute = own.root.join("overlay").join(path);
    let parts = parts(&absolute).ok_or_else(|| refuse("not an absolute path"))?;
    let (home, name, kind) = match parts.as_slice() {
        [home @ .., b"l", link] if is_link(link) => (home, Name::Link(text(link)), Kind::Diff),
        // Through the link, as the kernel would: `..` is of the layer, not of `l`.
        [home @ .., b"l", link, b"..", name] if is_link(link) && extra(name).is_some() => {
            (home, Name::Link(text(link)), Kind::Extra(extra(name).unwrap_or_default()))
        }
        [home @ .., id, b"diff"] if is_id(id) => (home, Name::Id(text(id)), Kind::Diff),
        [home @ .., id, name] | [home @ .., id, b"diff", b"..", name] if is_id(id) && extra(name).is_some() => {
            (home, Name::Id(text(id)), Kind::Extra(extra(name).unwrap_or_default()))
        }
        [home @ .., id, b"empty"] if is_id(id) => (home, Name::Id(text(id)), Kind::Empty),
        [.., b"composefs-layers", _] => return Err(refuse("use_composefs does not go together with a mount_program")),
        _ => return Err(refuse("not a layer of a container store")),
    };
    let (root, mapped) = match home {
        [root @ .., b"overlay"] => (root, false),
        // podman mounts the store once more, and every other that has a layer of the image, with its user IDs
        // mapped, and names the lower directories there: the same directories.
        [root @ .., b"overlay", id, b"mapped", n] if *id == own.id.as_bytes() && is_number(n) => (root, true),
        _ => return Err(refuse("not a layer of a container store")),
    };
    if root.contains(&&b".."[..]) {
        return Err(refuse("it holds .."));
    }
    Ok(Place { root: join(root), name, kind, mapped })
}

/// The components of an absolute path.
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

/// Of bytes that were compared with ASCII.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// 26 characters of base32 (overlay.go, `generateID`).
fn is_link(text: &[u8]) -> bool {
    text.len() == 26 && text.iter().all(|b| matches!(b, b'A'..=b'Z' | b'2'..=b'7'))
}

/// The number of `diff1` and so on, as the driver writes it.
fn extra(name: &[u8]) -> Option<u32> {
    let number = name.strip_prefix(b"diff").filter(|n| is_number(n) && n[0] != b'0')?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

fn is_number(text: &[u8]) -> bool {
    (1..=9).contains(&text.len()) && text.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "1111111111111111111111111111111111111111111111111111111111111111";
    const ID: &str = "2222222222222222222222222222222222222222222222222222222222222222";
    const LINK: &str = "ZNPS4RQGHUAF5H5DP465OKH3NU";

    fn own() -> Home {
        Home { root: "/g".into(), id: OWN.into() }
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
        let id = |kind| Place { root: "/g".into(), name: Name::Id(ID.into()), kind, mapped: false };
        let link = |kind| Place { root: "/g".into(), name: Name::Link(LINK.into()), kind, mapped: false };
        let mapped = |place| Place { mapped: true, ..place };
        for (path, place) in [
            (format!("/g/overlay/{ID}/diff"), id(Kind::Diff)),
            (format!("{ID}/diff"), id(Kind::Diff)),
            (format!("/g/overlay/{ID}/diff2"), id(Kind::Extra(2))),
            (format!("/g/overlay/{ID}/diff/../diff1"), id(Kind::Extra(1))),
            (format!("/g/overlay/{ID}/empty"), id(Kind::Empty)),
            (format!("/g/overlay/l/{LINK}"), link(Kind::Diff)),
            (format!("l/{LINK}"), link(Kind::Diff)),
            (format!("/g/overlay/l/{LINK}/../diff1"), link(Kind::Extra(1))),
            (format!("/g/overlay/{OWN}/mapped/0/l/{LINK}"), mapped(link(Kind::Diff))),
            (format!("/g/overlay/{OWN}/mapped/12/{ID}/diff"), mapped(id(Kind::Diff))),
            (format!("/other/overlay/{ID}/diff"), Place { root: "/other".into(), ..id(Kind::Diff) }),
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
