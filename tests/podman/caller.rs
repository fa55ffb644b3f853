//! A caller of the service that sends what it should not: it runs as a user, in a user namespace, and prints what came
//! of it. It has nothing of the mount program's but the format of calls.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use layerseal::digest::VerityDigest;
use layerseal::oci::{Budget, Image, Platform};
use layerseal::seal::{ArtifactSubject, Binding, Bytes, Parsed, parse_about};
use layerseal::serve::protocol::{HandedPart, Question, SOCKET, ServiceAnswer, ServiceCall};
use layerseal::sys::mounts;
use layerseal::sys::socket::Conversation;
use layerseal::vault::Vault;
use rustix::fs::{CWD, Mode, OFlags, openat};

const VAULT: &str = "/var/tmp/home/.local/share/containers/storage/layerseal";
const OWN: &str = "/var/tmp/home/layer";

/// A call with all that belongs to it.
struct Asked {
    call: ServiceCall,
    documents: Vec<Vec<u8>>,
    parts: Vec<(HandedPart, OwnedFd)>,
}

fn path(path: impl AsRef<Path>) -> OwnedFd {
    openat(CWD, path.as_ref(), OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn clone(dir: impl AsRef<Path>) -> OwnedFd {
    mounts::clone_mount(path(dir)).unwrap()
}

fn erofs_of(digest: &VerityDigest) -> PathBuf {
    let hex = digest.to_string().rsplit(':').next().unwrap().to_owned();
    Path::new(VAULT).join("objects").join(&hex[..2]).join(&hex[2..])
}

impl Asked {
    /// One that is as it should be.
    fn good() -> Self {
        let budget = Budget::STANDARD;
        let vault = Vault::open(Path::new(VAULT)).unwrap();
        let images = vault.images().unwrap();
        let seal_of = |image| Some((image, *vault.seals(image, &budget).unwrap().first()?));
        let (digest, seal) = images.iter().find_map(seal_of).unwrap();
        let image = Image::read(vault.store(), digest, &Platform::host(), &budget).unwrap();
        let raw = vault.store().read(&seal, None, budget.manifest).unwrap();
        let Parsed::Seal(parsed) = parse_about(ArtifactSubject::Image, &raw, &seal, &image, &budget).unwrap() else {
            panic!()
        };
        let mut documents = vec![image.manifest.clone(), image.config.clone(), raw];
        for signature in &parsed.signatures {
            if let Some(Bytes::Blob { digest, size }) = &signature.der {
                documents.push(vault.store().read(digest, Some(*size), budget.signature).unwrap());
            }
        }
        let rootfs = Binding::parse(&parsed.binding.unwrap().0, &budget).unwrap().rootfs;
        let mut call = ServiceCall::new();
        call.names = vec![crate::image::FRESH.to_owned()];
        call.seals = vec![seal.to_string()];
        let layer = clone(OWN);
        let beneath = |name| openat(&layer, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let parts = vec![
            (HandedPart::Erofs, File::open(erofs_of(&rootfs)).unwrap().into()),
            (HandedPart::Objects, clone(format!("{VAULT}/objects"))),
            (HandedPart::Upper, beneath("diff")),
            (HandedPart::Work, beneath("work")),
            (HandedPart::Layer, layer),
        ];
        Self { call, documents, parts }
    }

    fn put(&mut self, part: HandedPart, fd: impl Into<OwnedFd>) {
        self.parts.retain(|(p, _)| *p != part);
        self.parts.push((part, fd.into()));
    }

    /// Upper and work directory in this one, through a mount of it.
    fn layer(&mut self, dir: &str) {
        let layer = clone(dir);
        for (part, name) in [(HandedPart::Upper, "diff"), (HandedPart::Work, "work")] {
            let dir = openat(&layer, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
            self.put(part, dir.unwrap_or_else(|_| clone(dir_of(OWN, name))));
        }
        self.put(HandedPart::Layer, layer);
    }

    fn bytes(&mut self) -> Vec<u8> {
        self.call.documents = self.documents.iter().map(|d| d.len() as u64).collect();
        self.call.descriptors = self.parts.iter().map(|(part, _)| *part).collect();
        // Not by its own `header`: that checks.
        let json = serde_json::to_vec(&self.call).unwrap();
        let mut bytes = [&u32::try_from(json.len()).unwrap().to_le_bytes()[..], &json].concat();
        self.documents.iter().for_each(|document| bytes.extend(document));
        bytes
    }

    fn send(mut self) -> String {
        let bytes = self.bytes();
        let all: Vec<BorrowedFd<'_>> = self.parts.iter().map(|(_, fd)| fd.as_fd()).collect();
        say(&bytes, &all)
    }
}

/// Connects under so many IDs of the namespace, by processes that then end, and gives what came of these calls, each
/// outcome once, when a line comes on the standard input.
fn zombies(count: u32) -> String {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
    let connect = |id: u32| {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        let mut connects = Command::new(std::env::current_exe().unwrap());
        connects.args(["--ignored", "--exact", "caller::caller"]).env("LAYERSEAL_ATTACK", "connects").uid(id).gid(id);
        let child = connects.stdin(socket.try_clone().unwrap()).stdout(Stdio::null()).spawn().unwrap();
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let ended = waitid(WaitId::Pid(Pid::from_child(&child)), options).unwrap().unwrap();
        assert_eq!(ended.exit_status(), Some(0), "{id}");
        (child, UnixStream::from(socket))
    };
    let all: Vec<_> = (1..=count).map(connect).collect();
    println!("[zombies] ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let heard = all.iter().map(|(_, socket)| hear(&mut Conversation::new(socket.as_fd(), until)));
    // The case alone: details name the ID.
    let heard = heard.map(|one| if one.starts_with("nothing") { one } else { one[..3].to_owned() });
    heard.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>().join("; ")
}

fn dir_of(dir: &str, name: &str) -> String {
    format!("{dir}/{name}")
}

/// Sends these and gives what came of it: a case, or what is in the mount.
fn say(bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> String {
    let socket = UnixStream::connect(SOCKET).unwrap();
    let mut talk = Conversation::new(socket.as_fd(), Instant::now() + Duration::from_secs(30));
    // One that is refused early is not read to its end.
    let _ = talk.send(bytes, descriptors);
    let _ = socket.shutdown(std::net::Shutdown::Write);
    hear(&mut talk)
}

fn hear(talk: &mut Conversation<'_>) -> String {
    let mut length = [0; 4];
    if let Err(e) = talk.receive(&mut length) {
        return format!("nothing: {e}");
    }
    let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
    talk.receive(&mut bytes).unwrap();
    match ServiceAnswer::parse(&bytes).unwrap() {
        ServiceAnswer::Refused(refused) => {
            let refusal = refused.refusal();
            format!("{} {refusal}", refusal.case().id())
        }
        ServiceAnswer::Mounted | ServiceAnswer::Root(_) => {
            let mount = talk.descriptors().pop().unwrap();
            let there = openat(&mount, "usr/bin", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            there.map_or_else(|e| format!("a mount without the image: {e}"), |_| "mounted".to_owned())
        }
        ServiceAnswer::Verified(vouched) => format!("verified, by {}", vouched.signer.unwrap_or_default()),
        ServiceAnswer::Mounts(mounts) => {
            let users: Vec<String> = mounts.iter().map(|mount| mount.user.to_string()).collect();
            format!("mounts of {}", users.join(" "))
        }
    }
}

fn unlinked() -> File {
    tempfile::tempfile_in("/var/tmp/home").unwrap()
}

/// What a descriptor should not be.
fn odd(kind: &str) -> OwnedFd {
    match kind {
        "directory" => File::open("/var/tmp/home").unwrap().into(),
        "path" => path("/var/tmp/home/.config/containers/storage.conf"),
        "device" => File::open("/dev/zero").unwrap().into(),
        "pipe" => std::io::pipe().unwrap().0.into(),
        "socket" => UnixStream::pair().unwrap().0.into(),
        "proc" => File::open("/proc/self/mountinfo").unwrap().into(),
        "memfd" => rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).unwrap(),
        "writable" => unlinked().into(),
        "fuse" => File::open("/var/tmp/home/fuse/merged/erofs").unwrap().into(),
        "other" => File::open("/var/tmp/home/.config/containers/storage.conf").unwrap().into(),
        _ => panic!("{kind}"),
    }
}

/// What is sent, by its name.
fn attack(name: &str) -> String {
    let (kind, what) = name.split_once(':').unwrap_or((name, ""));
    match kind {
        "raw" => return say(what.as_bytes(), &[]),
        "long" => return say(&u32::MAX.to_le_bytes(), &[]),
        "stays" => {
            let sockets: Vec<UnixStream> = (0..20).map(|_| UnixStream::connect(SOCKET).unwrap()).collect();
            let until = Instant::now() + Duration::from_secs(60);
            let heard = sockets.iter().map(|s| hear(&mut Conversation::new(s.as_fd(), until)));
            return heard.map(|h| h.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>().join(" ");
        }
        // Whoever called is dead and not buried, each under an ID of its own; the sockets live on.
        "zombies" => return zombies(what.parse().unwrap()),
        // One of these, whose socket is its standard input.
        "connects" => {
            let to = rustix::net::SocketAddrUnix::new(SOCKET).unwrap();
            rustix::net::connect(std::io::stdin(), &to).unwrap();
            return "connected".to_owned();
        }
        "many" => {
            let calls = 0..what.parse().unwrap();
            let answered = calls.filter(|_| say(b"\x02\x00\x00\x00{}", &[]).starts_with("R01")).count();
            return answered.to_string();
        }
        "mounts" => {
            let mut call = ServiceCall::new();
            call.asks = Question::Mounts;
            return say(&call.header().unwrap(), &[]);
        }
        "device" => {
            let mut call = ServiceCall::new();
            call.asks = Question::Mounts;
            call.device = what.split_once(':').map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap()));
            return say(&call.header().unwrap(), &[]);
        }
        _ => {}
    }
    let mut asked = Asked::good();
    match kind {
        "good" => {}
        "native" => asked.call.native = true,
        "native-readonly" => {
            asked.call.native = true;
            asked.parts.retain(|(part, _)| !matches!(part, HandedPart::Layer | HandedPart::Upper | HandedPart::Work));
        }
        "readonly" => {
            asked.parts.retain(|(part, _)| !matches!(part, HandedPart::Layer | HandedPart::Upper | HandedPart::Work))
        }
        "above" => {
            asked.parts.retain(|(part, _)| !matches!(part, HandedPart::Layer | HandedPart::Upper | HandedPart::Work));
            asked.put(HandedPart::Above, clone(if what.is_empty() { "/var/tmp/home/layer/diff" } else { what }));
        }
        "half" => {
            let bytes = asked.bytes();
            let all: Vec<BorrowedFd<'_>> = asked.parts.iter().map(|(_, fd)| fd.as_fd()).collect();
            return say(&bytes[..bytes.len() * what.parse::<usize>().unwrap() / 100], &all);
        }
        // The other side hears nothing until the time is over.
        "dies" => {
            let bytes = asked.bytes();
            let all: Vec<BorrowedFd<'_>> = asked.parts.iter().map(|(_, fd)| fd.as_fd()).collect();
            let socket = UnixStream::connect(SOCKET).unwrap();
            let talk = Conversation::new(socket.as_fd(), Instant::now() + Duration::from_secs(30));
            talk.send(&bytes[..bytes.len() * what.parse::<usize>().unwrap() / 100], &all).unwrap();
            return "gone".to_owned();
        }
        "more" => {
            asked.parts.extend((0..3).map(|_| (HandedPart::Above, clone("/var/tmp/home"))));
            let bytes = asked.bytes();
            let all: Vec<BorrowedFd<'_>> = asked.parts.iter().map(|(_, fd)| fd.as_fd()).collect();
            return say(&bytes, &all);
        }
        "less" => {
            let bytes = asked.bytes();
            let all: Vec<BorrowedFd<'_>> = asked.parts.iter().skip(1).map(|(_, fd)| fd.as_fd()).collect();
            return say(&bytes, &all);
        }
        "layer" => asked.layer(what),
        // Of the directory as it lies in the caller's tree of mounts.
        "attached" => {
            asked.put(HandedPart::Layer, path(OWN));
            asked.put(HandedPart::Upper, path(dir_of(OWN, "diff")));
            asked.put(HandedPart::Work, path(dir_of(OWN, "work")));
        }
        "upper" => asked.put(HandedPart::Upper, clone(what)),
        "work" => asked.put(HandedPart::Work, clone(what)),
        "same" => {
            let (_, layer) = asked.parts.iter().find(|(part, _)| *part == HandedPart::Layer).unwrap();
            let upper = openat(layer, "diff", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
            asked.put(HandedPart::Work, upper);
        }
        "objects" if what.starts_with('/') => asked.put(HandedPart::Objects, clone(what)),
        "objects" => asked.put(HandedPart::Objects, odd(what)),
        "erofs" => asked.put(HandedPart::Erofs, odd(what)),
        "erofs-writable" => {
            let (_, file) = asked.parts.iter().find(|(part, _)| *part == HandedPart::Erofs).unwrap();
            let copy = unlinked();
            std::io::copy(&mut file.try_clone().map(File::from).unwrap(), &mut &copy).unwrap();
            asked.put(HandedPart::Erofs, copy);
        }
        // One bit of what nobody signed.
        "erofs-changed" => {
            let (_, file) = asked.parts.iter().find(|(part, _)| *part == HandedPart::Erofs).unwrap();
            let mut bytes = std::fs::read(layerseal::sys::files::proc_path(file)).unwrap();
            bytes[2000] ^= 1;
            std::fs::write("/var/tmp/home/changed", bytes).unwrap();
            asked.put(HandedPart::Erofs, File::open("/var/tmp/home/changed").unwrap());
        }
        "upper-odd" => asked.put(HandedPart::Upper, odd(what)),
        "namespace" if what.starts_with('/') => asked.put(HandedPart::Namespace, File::open(what).unwrap()),
        // For a hook, the namespace of the process with this number.
        "native-namespace" => {
            asked.call.native = true;
            let process = std::fs::read_to_string(what).unwrap();
            let namespace = File::open(format!("/proc/{}/ns/user", process.trim())).unwrap();
            asked.put(HandedPart::Namespace, namespace);
        }
        "namespace" => asked.put(HandedPart::Namespace, odd(what)),
        "unsealed" => {
            asked.call.seals.clear();
            asked.documents.truncate(2);
        }
        "unsigned" => asked.documents.truncate(3),
        "replayed" => {
            // The same seal, for an image whose config is another.
            let config = String::from_utf8(asked.documents[1].clone()).unwrap().replacen("\"os\"", " \"os\"", 1);
            let old = layerseal::digest::BlobDigest::of(&asked.documents[1]).to_string();
            let new = layerseal::digest::BlobDigest::of(config.as_bytes()).to_string();
            let manifest = String::from_utf8(asked.documents[0].clone()).unwrap().replace(&old, &new);
            let (was, is) = (asked.documents[1].len(), config.len());
            asked.documents[0] = manifest.replace(&format!("\"size\":{was}"), &format!("\"size\":{is}")).into();
            asked.documents[1] = config.into();
        }
        "verdict" => {
            asked.call.asks = Question::Verdict;
            match what {
                "descriptors" => return asked.send(),
                "unsigned" => asked.documents.truncate(3),
                "" => {}
                name => asked.call.names = vec![name.to_owned()],
            }
            asked.parts.clear();
        }
        "mounts-and-more" => asked.call.asks = Question::Mounts,
        "name" => asked.call.names = vec![what.to_owned()],
        _ => panic!("{name}"),
    }
    asked.send()
}

/// What [`super::service`] runs in its hosts; no test by itself.
#[test]
#[ignore = "runs in a host of the other tests"]
fn caller() {
    let attacks = std::env::var("LAYERSEAL_ATTACK").unwrap();
    for name in attacks.split_whitespace() {
        println!("[{name}] {}", attack(name));
    }
}
