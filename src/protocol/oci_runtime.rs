//! A call of an OCI runtime: `[OPTION]... VERB [OPTION]... [ID]`, as podman, CRI-O and conmon write it for crun
//! (crun(1)) and runc (runc(8)). crun parses options like GNU getopt_long, runc like Go's flag package: both forms are
//! parsed here, but only as far as needed to tell what is asked.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use crate::error::{Case, Refusal, Result};

/// Options before the verb that have a value, in all known versions of both runtimes.
const WITH_VALUE: [&str; 7] = ["cgroup-manager", "config", "criu", "log", "log-format", "root", "rootless"];
/// Options without a value.
const WITHOUT: [&str; 5] = ["debug", "help", "systemd-cgroup", "usage", "version"];

/// runc's options of the verbs that start a container, which Go's flag package also accepts with a single dash.
const RUNC: [&str; 22] = [
    "auto-dedup",
    "console-socket",
    "detach",
    "empty-ns",
    "ext-unix-sk",
    "file-locks",
    "image-path",
    "keep",
    "lazy-pages",
    "lsm-mount-context",
    "lsm-profile",
    "manage-cgroups-mode",
    "no-new-keyring",
    "no-pivot",
    "no-subreaper",
    "pid-file",
    "pidfd-socket",
    "preserve-fds",
    "shell-job",
    "tcp-established",
    "work-path",
    "config",
];

/// How a container is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Made, and started by another call.
    Create,
    /// Made and started.
    Run,
    /// Restored from a checkpoint.
    Restore,
}

impl Verb {
    const ALL: [(&'static str, Self); 3] = [("create", Self::Create), ("run", Self::Run), ("restore", Self::Restore)];

    fn of(word: &OsStr) -> Option<Self> {
        Self::ALL.iter().find(|(name, _)| word == *name).map(|(_, verb)| *verb)
    }
}

/// What the runtime is asked to do, if it is to start a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// How the container is started.
    pub verb: Verb,
    /// The bundle, as it is written; `None` for the working directory.
    pub bundle: Option<PathBuf>,
    /// crun's `--config`: the file that is read instead of the bundle's `config.json`.
    pub config: Option<PathBuf>,
    /// The container's ID.
    pub id: String,
    /// Where the runtime writes the number of the container's first process.
    pub pid_file: Option<PathBuf>,
    /// What stands before the verb.
    options: Vec<OsString>,
}

impl Start {
    /// Returns the call that removes the container, whatever state it is in.
    pub fn deletion(&self) -> Vec<OsString> {
        self.options.iter().cloned().chain(["delete", "--force", &self.id].map(OsString::from)).collect()
    }
}

/// Where the caller reads what went wrong, in addition to the standard error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// `--log`: a file; crun's other kinds (`syslog:`, `journald:`) are not files.
    pub file: Option<PathBuf>,
    /// `--log-format=json`.
    pub json: bool,
}

/// A call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeCall {
    /// To start a container.
    Start(Start),
    /// Anything else.
    Other,
}

/// Splits an option into the word after `--` or `-`, and what stands behind `=`; `None` for what is not an option.
fn option(argument: &OsStr) -> Option<(&[u8], Option<&[u8]>)> {
    let bytes = argument.as_bytes();
    let name = bytes.strip_prefix(b"--").or_else(|| bytes.strip_prefix(b"-")).filter(|name| !name.is_empty())?;
    match name.iter().position(|b| *b == b'=') {
        Some(at) => Some((&name[..at], Some(&name[at + 1..]))),
        None => Some((name, None)),
    }
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

/// Finds where to write what goes wrong; taken from whatever is there, so that it also works for a call that cannot be
/// understood.
pub fn runtime_log(argv: &[OsString]) -> Log {
    let mut log = Log::default();
    let mut arguments = argv.iter();
    while let Some(argument) = arguments.next() {
        let Some((name, value)) = option(argument) else { return log };
        if !WITH_VALUE.iter().any(|known| known.as_bytes() == name) {
            continue;
        }
        let value = value.map(<[u8]>::to_vec).or_else(|| arguments.next().map(|a| a.as_bytes().to_vec()));
        match (name, value) {
            (b"log", Some(value)) => {
                let file = value.strip_prefix(b"file:").unwrap_or(&value);
                let other = file.starts_with(b"syslog:") || file.starts_with(b"journald:");
                log.file = (!other && !file.is_empty()).then(|| path(file));
            }
            (b"log-format", Some(value)) => log.json = value == b"json",
            _ => {}
        }
    }
    log
}

/// Parses the arguments of a call, without the program's name.
///
/// # Errors
/// [`Case::O05Call`] for a call that may start a container and cannot be parsed with certainty: an option before the
/// verb that neither runtime is known to have, a relevant option in a shortened form, no ID.
pub fn runtime_call(argv: &[OsString]) -> Result<RuntimeCall> {
    let mut at = 0;
    let verb = loop {
        let Some(argument) = argv.get(at) else { return Ok(RuntimeCall::Other) };
        at += 1;
        if argument == "--" {
            break argv.get(at).inspect(|_| at += 1);
        }
        let Some((name, value)) = option(argument) else { break Some(argument) };
        let known = |list: &[&str]| list.iter().any(|known| known.as_bytes() == name);
        match () {
            () if known(&WITH_VALUE) => at += usize::from(value.is_none()),
            () if known(&WITHOUT) || name == b"V" || name == b"v" || name == b"h" || name == b"?" => {}
            // Only the runtime knows whether the next word is its value or the verb.
            () if argv[at..].iter().any(|word| Verb::of(word).is_some()) => {
                let why = "an option before the verb that is not known of crun or runc";
                return Err(refuse(argument, why));
            }
            () => return Ok(RuntimeCall::Other),
        }
    };
    let Some(verb) = verb.and_then(|word| Verb::of(word)) else { return Ok(RuntimeCall::Other) };
    start(verb, &argv[..at - 1], &argv[at..])
}

fn refuse(argument: &OsStr, why: &str) -> Refusal {
    Refusal::new(Case::O05Call, argument.to_string_lossy(), why)
}

/// Parses what follows the verb. Options that are not looked for here are left to the runtime, with their values: the
/// ID is the last word, and nothing else has no dash and no option before it.
fn start(verb: Verb, before: &[OsString], argv: &[OsString]) -> Result<RuntimeCall> {
    let asks_for_help = |word: &OsString| matches!(word.as_bytes(), b"--help" | b"-h" | b"-?" | b"--usage");
    if argv.iter().any(asks_for_help) {
        return Ok(RuntimeCall::Other);
    }
    let Some((id, options)) = argv.split_last() else {
        return Err(refuse(OsStr::new("call"), "it names no container"));
    };
    let (mut bundle, mut config, mut pid_file) = (None, None, None);
    let mut words = options.iter();
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        // A single dash and the value directly after it, which only crun accepts: `-bDIR`.
        let joined = |letter: &[u8]| bytes.strip_prefix(letter).filter(|rest| !rest.is_empty() && rest[0] != b'=');
        let Some((name, value)) = option(word) else { continue };
        let place = match name {
            b"bundle" | b"b" => &mut bundle,
            b"config" | b"f" if verb != Verb::Restore => &mut config,
            b"pid-file" => &mut pid_file,
            // getopt_long accepts the beginning of a word for the word.
            _ if bytes.starts_with(b"--")
                && [&b"bundle"[..], b"config", b"pid-file"].iter().any(|w| w.starts_with(name)) =>
            {
                return Err(refuse(word, "write the option in full"));
            }
            _ if bytes.starts_with(b"--") => continue,
            _ => match (joined(b"-b"), joined(b"-f").filter(|_| verb != Verb::Restore)) {
                // `-bundle=DIR` was parsed above; what is left is not an option of runc's.
                (Some(rest), _) => {
                    bundle = Some(path(rest));
                    continue;
                }
                (_, Some(rest)) => {
                    config = Some(path(rest));
                    continue;
                }
                // Several letters at once, which crun takes apart: `-db DIR` contains the bundle.
                _ if name.len() > 1 && !RUNC.iter().any(|known| known.as_bytes() == name) => {
                    return Err(refuse(word, "write each option by itself"));
                }
                _ => continue,
            },
        };
        let value = value.map(path).or_else(|| words.next().map(PathBuf::from));
        *place = Some(value.ok_or_else(|| refuse(word, "its value is missing"))?);
    }
    let id = id.to_str().filter(|id| !id.is_empty() && !id.starts_with('-'));
    let id = id.ok_or_else(|| refuse(OsStr::new("call"), "the last word is no container's ID"))?.to_owned();
    Ok(RuntimeCall::Start(Start { verb, bundle, config, id, pid_file, options: before.to_vec() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    fn started(text: &str) -> Start {
        match runtime_call(&words(text)).unwrap() {
            RuntimeCall::Start(start) => start,
            RuntimeCall::Other => panic!("{text}: passed through"),
        }
    }

    #[test]
    fn calls_of_podman_and_of_cri_o() {
        // conmon of podman, and of CRI-O.
        let start = started(
            "--root /run/crun --log-format=json --log /g/oci-log --systemd-cgroup create --bundle /g/userdata --pid-file /p c1",
        );
        assert_eq!((start.verb, start.bundle.as_deref()), (Verb::Create, Some("/g/userdata".as_ref())));
        assert_eq!((start.id.as_str(), start.pid_file.as_deref()), ("c1", Some("/p".as_ref())));
        let removed = "--root /run/crun --log-format=json --log /g/oci-log --systemd-cgroup delete --force c1";
        assert_eq!(start.deletion(), words(removed));
        let start = started("--root=/run/runc create --bundle /run/c/userdata --pid-file /p c2");
        assert_eq!((start.bundle, start.config, start.id.as_str()), (Some("/run/c/userdata".into()), None, "c2"));
        let start = started("restore --bundle=/b -d --image-path /i --work-path /w --pid-file /p c3");
        assert_eq!((start.verb, start.bundle), (Verb::Restore, Some("/b".into())));
        // By hand; Go accepts one dash instead of two.
        assert_eq!(started("-root /r run -bundle /b --keep c").bundle, Some("/b".into()));
        assert_eq!(started("run -b /b c").bundle, started("run -b=/b c").bundle);
        assert_eq!(started("run -d -b/b c").bundle, Some("/b".into()));
        assert_eq!(started("run -detach -pid-file /p -b /b c").bundle, Some("/b".into()));
        assert_eq!(started("run c").bundle, None);
        assert_eq!(started("run -f /other.json -b /b c").config, Some("/other.json".into()));
        assert_eq!(started("-- run c").verb, Verb::Run);
        assert_eq!(started("--root create run c").verb, Verb::Run);
    }

    #[test]
    fn other_verbs_are_the_runtimes() {
        for text in [
            "",
            "--version",
            "features",
            "--root /r state c",
            "--root=/r --log run kill c 9",
            "--systemd-cgroup delete --force c",
            "exec c run",
            "--new-option state c",
            "--help",
            "create --help",
            "update --bundle x c",
            "runs c",
        ] {
            assert_eq!(runtime_call(&words(text)).unwrap(), RuntimeCall::Other, "{text}");
        }
    }

    #[test]
    fn o05_what_cannot_be_read_for_sure_is_refused() {
        for text in [
            "--new-option create c",
            "--roo create run c",
            "create",
            "create --bund /b c",
            "create --pid-file /old --pid-f /new c",
            "create --bundle",
            "create --bundle /b -x",
            "run --conf=/c x",
            "run -db /b c",
            "run -db/b c",
            "restore -fb /b c",
        ] {
            assert_eq!(runtime_call(&words(text)).unwrap_err().case(), Case::O05Call, "{text}");
        }
    }

    #[test]
    fn the_log_is_where_the_caller_reads() {
        let log = runtime_log(&words("--log-format=json --log /l create c"));
        assert_eq!((log.file, log.json), (Some("/l".into()), true));
        assert_eq!(runtime_log(&words("--log=file:/l create --log /x c")).file, Some("/l".into()));
        assert_eq!(runtime_log(&words("--log=journald:x create c")), Log::default());
    }
}
