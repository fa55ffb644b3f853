use composefs::fsverity::Sha512HashValue;

use super::*;

/// Of each there are as many as files.
const _: () = assert!(size_of::<Name>() <= 24 && size_of::<Leaf<Sha512HashValue>>() <= 96);

#[test]
fn names_go_and_come_back() {
    let mut tree = FileTree::<Sha512HashValue>::new(Stat::uninitialized());
    let dir = tree.add_directory(Stat { st_mode: 0o700, ..Stat::uninitialized() }).unwrap();
    let [a, b] =
        [1, 2].map(|n| Child::Leaf(tree.add_leaf(Stat::uninitialized(), LeafContent::BlockDevice(n)).unwrap()));
    tree.insert(ROOT, b"dir", Child::Directory(dir)).unwrap();
    for (name, child) in [("b", a), ("a", a), ("c", b)] {
        tree.insert(dir, name.as_bytes(), child).unwrap();
    }
    let sorted = |tree: &FileTree<_>| {
        let names = tree.sorted(dir).into_iter().map(|id| String::from_utf8_lossy(tree.name(id).0).into_owned());
        names.collect::<Vec<_>>().concat()
    };
    assert_eq!((sorted(&tree).as_str(), tree.held(dir), tree.links()), ("abc", 3, vec![2, 1]));
    // The same name in another directory is another.
    assert_eq!(tree.lookup(ROOT, b"a"), None);
    assert_eq!(tree.remove(dir, b"a"), Some(a));
    assert_eq!((tree.remove(dir, b"a"), tree.lookup(dir, b"a")), (None, None));
    assert_eq!((sorted(&tree).as_str(), tree.held(dir), tree.links()), ("bc", 2, vec![1, 1]));
    tree.insert(dir, b"a", b).unwrap();
    tree.insert(dir, b"b", b).unwrap();
    assert_eq!((sorted(&tree).as_str(), tree.held(dir), tree.links()), ("abc", 3, vec![0, 3]));
    tree.clear(dir);
    assert_eq!((sorted(&tree).as_str(), tree.held(dir), tree.links()), ("", 0, vec![0, 0]));
    tree.insert(dir, b"c", a).unwrap();
    assert_eq!((sorted(&tree).as_str(), tree.held(dir)), ("c", 1));
}

#[test]
fn metadata_is_kept_once_and_changed_for_one() {
    let mut tree = FileTree::<Sha512HashValue>::new(Stat::uninitialized());
    let stat = Stat { xattrs: [(OsStr::new("user.x").into(), (*b"y").into())].into(), ..Stat::uninitialized() };
    let leaf =
        |tree: &mut FileTree<_>, stat: &Stat| Child::Leaf(tree.add_leaf(stat.clone(), LeafContent::Fifo).unwrap());
    let (a, b) = (leaf(&mut tree, &stat), leaf(&mut tree, &stat));
    assert!(std::ptr::eq(tree.stat(a), tree.stat(b)));
    tree.set_stat(a, Stat { st_uid: 1, ..stat.clone() }).unwrap();
    assert_eq!((tree.stat(a).st_uid, tree.stat(b).st_uid), (1, 0));
    tree.filter_xattrs(|_| false);
    assert!(tree.stat(a).xattrs.is_empty() && tree.stat(b).xattrs.is_empty());
    // What was filtered is not found for what was not.
    let c = leaf(&mut tree, &stat);
    assert!(same_stat(tree.stat(c), &stat));
}
