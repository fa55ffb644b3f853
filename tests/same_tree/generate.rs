//! Layer sets: every rule of the container's tree, mixed by a seed.

use std::collections::BTreeSet;

use crate::common::{Entry, Layer};

/// xorshift64*, so that a failure can be repeated.
pub struct Random(u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }

    fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    fn one_of<T: Clone>(&mut self, these: &[T]) -> T {
        these[self.below(these.len())].clone()
    }
}

/// The layers of one image.
#[derive(Clone)]
pub struct Set {
    pub seed: u64,
    pub layers: Vec<Vec<Entry>>,
}

/// Few names, so that layers meet; some that are odd, or mean something to somebody.
const NAMES: [&[u8]; 18] = [
    b"a",
    b"b",
    b"c",
    b"d",
    b"usr",
    b"run",
    b"etc",
    b"bin",
    b"00",
    b"ab",
    b"ff",
    b"-x",
    b".wh",
    b"x.wh.y",
    b"\xe9\xff\n \x1b",
    b"long-name-that-repeats",
    b"s",
    b"t",
];

/// Around what is inline, half a block, a block.
const SIZES: [usize; 14] = [0, 1, 63, 64, 65, 100, 2047, 2048, 2049, 4095, 4096, 4097, 8192, 9000];

const OWNERS: [u64; 6] = [0, 0, 33, 1000, 65_535, 65_536];

impl Set {
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let mut maker = Maker { random: &mut random, known: vec![Vec::new()] };
        let count = maker.random.one_of(&[1, 2, 2, 3, 3, 4]);
        let layers = (0..count).map(|_| maker.layer()).collect();
        Self { seed, layers }
    }

    pub fn blobs(&self) -> Vec<Layer> {
        self.layers.iter().map(|entries| Layer::new(entries)).collect()
    }

    /// For people who look for a difference.
    pub fn describe(&self) -> String {
        let mut out = String::new();
        for (number, layer) in self.layers.iter().enumerate() {
            for e in layer {
                out += &format!(
                    "  layer {number}: {:?} {} {:o} {} {} size {} -> {:?} {:?}\n",
                    e.kind as char,
                    e.path.escape_ascii(),
                    e.mode,
                    e.uid,
                    e.mtime,
                    e.content.len(),
                    e.link.escape_ascii().to_string(),
                    e.pax.iter().map(|(k, v)| format!("{k}={}", v.escape_ascii())).collect::<Vec<_>>(),
                );
            }
        }
        out
    }
}

struct Maker<'a> {
    random: &'a mut Random,
    /// Directories that some layer has, or has had: most entries go where others went.
    known: Vec<Vec<u8>>,
}

/// What the layer that is being made has so far, by cleaned paths: podman takes each name once.
#[derive(Default)]
struct Own {
    names: BTreeSet<Vec<u8>>,
    files: Vec<Vec<u8>>,
    directories: Vec<Vec<u8>>,
    symlinks: Vec<Vec<u8>>,
    /// Those that lead to a directory of the layer.
    links: Vec<Vec<u8>>,
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut out = vec![2, 0, 0, 0];
    for (tag, permissions, id) in entries {
        out.extend(tag.to_le_bytes());
        out.extend(permissions.to_le_bytes());
        out.extend(id.to_le_bytes());
    }
    out
}

impl Maker<'_> {
    fn layer(&mut self) -> Vec<Entry> {
        let mut own = Own::default();
        let mut entries = Vec::new();
        if self.random.one_in(3) {
            let name = self.random.one_of(&["./", ".", "/"]);
            entries.push(self.metadata(Entry::dir(name)));
        }
        for _ in 0..self.random.below(14) {
            self.entry(&mut own, &mut entries);
        }
        self.known.extend(own.directories);
        entries
    }

    /// Where an entry may go; seldom where podman has no way to go.
    fn parent(&mut self, own: &Own) -> Vec<u8> {
        loop {
            let parent = self.any_parent(own);
            let ends = parent.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at).chain([parent.len()]);
            let good = ends.map(|end| &parent[..end]).all(|part| {
                let own_file = own.names.iter().any(|name| name == part);
                !own_file || own.directories.iter().chain(&own.links).any(|dir| dir == part)
            });
            if good || self.random.one_in(60) {
                return parent;
            }
        }
    }

    /// Into a directory of this layer, of another, through a link, or where nothing is yet.
    fn any_parent(&mut self, own: &Own) -> Vec<u8> {
        match self.random.below(12) {
            0..=3 if !own.directories.is_empty() => self.random.one_of(&own.directories),
            4 if !own.links.is_empty() => self.random.one_of(&own.links),
            5 => join(self.random.one_of(&NAMES), self.random.one_of(&NAMES)),
            6..=8 => {
                let known = self.known.clone();
                self.random.one_of(&known)
            }
            9 if !own.files.is_empty() && self.random.one_in(6) => self.random.one_of(&own.files),
            _ => Vec::new(),
        }
    }

    fn metadata(&mut self, mut entry: Entry) -> Entry {
        entry.mode = self.random.one_of(&[0o644, 0o755, 0o600, 0o4755, 0o2755, 0o1777, 0o700, 0o640, 0]);
        entry.uid = self.random.one_of(&OWNERS);
        entry.mtime = self.random.one_of(&[0, 1, 1, 1_700_000_000, 1_700_000_001, 2_000_000_000]);
        if self.random.one_in(20) {
            let time = self.random.one_of(&["-1", "-86400.5", "1700000000.25", "0.5"]);
            entry = entry.pax("mtime", time);
        }
        entry
    }

    fn attributes(&mut self, mut entry: Entry) -> Entry {
        const ACCESS: &str = "SCHILY.xattr.system.posix_acl_access";
        let list = acl(&[(1, 6, 0), (2, 7, 33), (4, 4, 0), (8, 5, 70_000), (0x10, 6, 0), (0x20, 0, 0)]);
        let plain = acl(&[(1, 6, 0), (4, 4, u32::MAX), (0x20, 1, 0)]);
        let directory = entry.kind == b'5';
        match self.random.below(24) {
            0 => entry = entry.pax(ACCESS, list),
            1 => entry = entry.pax(ACCESS, plain),
            2 if directory => entry = entry.pax("SCHILY.xattr.system.posix_acl_default", list),
            3 if directory => entry = entry.pax("SCHILY.xattr.system.posix_acl_default", plain),
            4 => entry = entry.pax("SCHILY.xattr.user.name", [0, 255, b'\n', b'=']),
            5 => entry = entry.pax("SCHILY.xattr.user.a", "1").pax("SCHILY.xattr.user.b", vec![b'b'; 300]),
            6 => entry = entry.pax("SCHILY.xattr.user.overlay.opaque", "y"),
            7 if !directory => {
                let value = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                entry = entry.pax("SCHILY.xattr.security.capability", value);
            }
            8 => entry = entry.pax("SCHILY.xattr.security.other", "x"),
            9 => entry = entry.pax("SCHILY.xattr.lustre.lov", "x"),
            _ => {}
        }
        entry
    }

    fn entry(&mut self, own: &mut Own, entries: &mut Vec<Entry>) {
        let parent = self.parent(own);
        let name = self.random.one_of(&NAMES);
        let path = join(&parent, name);
        let kind = self.random.below(22);
        if kind >= 19 {
            return self.marker(own, entries, &parent, &path);
        }
        if own.names.contains(&path) {
            return;
        }
        let entry = match kind {
            0..=4 => {
                own.directories.push(path.clone());
                let entry = self.metadata(Entry::new(b'5', &path));
                self.attributes(entry)
            }
            5..=9 => {
                let size = self.random.one_of(&SIZES);
                let seed = self.random.below(3) as u8;
                own.files.push(path.clone());
                let entry = self.metadata(Entry { content: vec![b'c' + seed; size], ..Entry::new(b'0', &path) });
                self.attributes(entry)
            }
            10..=12 => {
                let target = self.target(own);
                let absolute = |dir: &&Vec<u8>| target.strip_prefix(b"/") == Some(dir.as_slice());
                if target == b"/" || own.directories.iter().any(|dir| absolute(&dir)) {
                    own.links.push(path.clone());
                }
                own.symlinks.push(path.clone());
                self.metadata(Entry { link: target, ..Entry::new(b'2', &path) })
            }
            13..=15 => {
                let Some(target) = self.link(own) else { return };
                let size = self.random.one_in(4).then_some(600);
                let link = if self.random.one_in(3) { [b"/".as_slice(), &target].concat() } else { target };
                let entry = self.metadata(Entry { link, size, ..Entry::new(b'1', &path) });
                if self.random.one_in(3) { self.attributes(entry) } else { entry }
            }
            16 => self.metadata(Entry::new(b'6', &path)),
            17 => {
                let number = self.random.one_of(&[(1, 3), (0, 0), (4095, 1_048_575), (8, 1)]);
                let kind = self.random.one_of(b"34");
                self.metadata(Entry { device: number, ..Entry::new(kind, &path) })
            }
            _ => self.sparse(&path, own),
        };
        own.names.insert(path);
        entries.push(self.spell(entry));
    }

    /// Of the same path, another way to write it.
    fn spell(&mut self, mut entry: Entry) -> Entry {
        match self.random.below(16) {
            0 => entry.path = [b"./".as_slice(), &entry.path].concat(),
            1 => entry.path = [b"/".as_slice(), &entry.path].concat(),
            2 => entry.path = [b"q/../".as_slice(), &entry.path].concat(),
            3 => entry.path = [b"../../".as_slice(), &entry.path].concat(),
            4 if entry.kind == b'5' => entry.path.push(b'/'),
            5 if entry.kind == b'5' => {
                // What old archives have for a directory.
                entry.path.push(b'/');
                entry.kind = 0;
            }
            _ => {}
        }
        entry
    }

    fn target(&mut self, own: &Own) -> Vec<u8> {
        match self.random.below(9) {
            0 => b"/".to_vec(),
            1 => b"..".to_vec(),
            2 => b"nowhere".to_vec(),
            3 | 4 if !own.directories.is_empty() => [b"/".as_slice(), &self.random.one_of(&own.directories)].concat(),
            5 if !own.directories.is_empty() => {
                [b"../../../".as_slice(), &self.random.one_of(&own.directories)].concat()
            }
            6 => vec![b't'; self.random.one_of(&[1, 100, 255])],
            7 => self.random.one_of(&NAMES).to_vec(),
            _ => b"/a".to_vec(),
        }
    }

    /// What a hard link names: a file of the layer, or, which podman refuses, something else.
    fn link(&mut self, own: &Own) -> Option<Vec<u8>> {
        match self.random.below(40) {
            0 => Some(self.random.one_of(&NAMES).to_vec()),
            1 if !own.symlinks.is_empty() => Some(self.random.one_of(&own.symlinks)),
            _ if own.files.is_empty() => None,
            _ => Some(self.random.one_of(&own.files)),
        }
    }

    fn sparse(&mut self, path: &[u8], own: &mut Own) -> Entry {
        let size = self.random.one_of(&[20, 64, 65, 10_000]);
        own.files.push(path.to_vec());
        if self.random.one_in(2) {
            let entry = Entry { content: b"abcyz".to_vec(), ..Entry::new(b'0', path) };
            let entry = self.metadata(entry);
            let entry = entry.pax("GNU.sparse.map", format!("5,3,{},2", size - 2)).pax("GNU.sparse.numblocks", "2");
            entry.pax("GNU.sparse.size", size.to_string())
        } else {
            let mut map = format!("2\n5\n3\n{}\n2\n", size - 2).into_bytes();
            map.resize(512, 0);
            map.extend(b"abcyz");
            let entry = self.metadata(Entry { content: map, ..Entry::new(b'0', b"GNUSparseFile.1/x") });
            let entry = entry.pax("GNU.sparse.major", "1").pax("GNU.sparse.minor", "0");
            entry.pax("GNU.sparse.name", path).pax("GNU.sparse.realsize", size.to_string())
        }
    }

    /// Whiteouts and opaque markers, early and late; those of AUFS too.
    fn marker(&mut self, own: &mut Own, entries: &mut Vec<Entry>, parent: &[u8], path: &[u8]) {
        let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
        let marker = match self.random.below(10) {
            0..=5 => [b".wh.".as_slice(), name].concat(),
            6..=8 => b".wh..wh..opq".to_vec(),
            _ => self.random.one_of(&[b".wh..wh.aufs".as_slice(), b".wh..wh.plnk", b".wh..wh.orph"]).to_vec(),
        };
        // podman takes no whiteout of what the layer has made before.
        let hides_own = own.names.iter().any(|n| n == path || n.starts_with(&join(path, b"")));
        let full = join(parent, &marker);
        if own.names.contains(&full) || (marker.starts_with(b".wh.") && marker.ends_with(name) && hides_own) {
            return;
        }
        own.names.insert(full.clone());
        let kind = self.random.one_of(b"0005");
        entries.push(Entry::new(kind, &full));
        if kind == b'5' && self.random.one_in(2) && marker.ends_with(b"plnk") {
            entries.push(Entry::new(b'0', join(&full, b"1.2")));
        }
    }
}
