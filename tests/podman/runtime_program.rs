//! The program `layerseal-runtime` by itself, as it is installed: what it does at once, and for what it asks `layerseal`,
//! in whose place is a script here that says how it was called.

use crate::host::Host;
use crate::{ready, scratch};

const DIR: &str = "/var/tmp/small";

/// In the place of `layerseal`: what comes of verifying is in a file.
const LARGE: &str = "#!/bin/sh
echo \"large $*\" >>/var/tmp/said
[ \"$1\" != runtime-supervise ] || eval \"$(cat /var/tmp/verified)\"
[ \"$1\" != hook ] || cat >>/var/tmp/said
";
/// In the place of crun: how it ends may be in a file.
const REAL: &str = "#!/bin/sh
echo \"real $*\" >>/var/tmp/said
[ ! -e /var/tmp/made ] || eval \"$(cat /var/tmp/made)\"
exit 42
";

struct Small(Host);

impl Small {
    fn new() -> Self {
        let host = Host::new(scratch::fresh("small"));
        let program = support::runtime_program().display();
        host.sh(&format!("mkdir -p {DIR} /etc/layerseal /run/layerseal; cp '{program}' {DIR}/layerseal-runtime"));
        host.write(&format!("{DIR}/layerseal"), LARGE);
        host.write("/etc/layerseal/real", REAL);
        host.write("/etc/layerseal/runtime.toml", "path = \"/etc/layerseal/real\"\n");
        host.sh(&format!("chmod 755 {DIR}/layerseal /etc/layerseal/real"));
        Self(host)
    }

    /// Has `layerseal` write the note, which it does when files are old enough to be told from later ones.
    fn noted(&self) {
        let layerseal = support::binary().display();
        self.0.sh("rm -f /run/layerseal/runtime");
        support::eventually("a note of the runtime", || {
            let said = self.0.shell(&format!("'{layerseal}' runtime --version || true; ls /run/layerseal/runtime"));
            said.status.success()
        });
    }

    /// Calls it: the exit code, and who was called how.
    fn call(&self, script: &str) -> (Option<i32>, String) {
        self.0.sh("rm -f /var/tmp/said; : >>/var/tmp/said");
        let output = self.0.shell(&script.replace("SMALL", &format!("{DIR}/layerseal-runtime")));
        (output.status.code(), self.0.sh("cat /var/tmp/said").replace('\n', ";"))
    }
}

#[test]
fn it_verifies_what_starts_a_container_and_becomes_the_runtime() {
    if !ready("layerseal-runtime") {
        return;
    }
    let small = Small::new();
    let call = |script: &str| small.call(script);
    // Nothing is known for certain.
    assert_eq!(call("SMALL state c"), (Some(0), "large runtime state c;".into()));
    small.noted();
    let verified = |how: &str| small.0.write("/var/tmp/verified", how);
    verified("exit 0");
    assert_eq!(call("SMALL --root /r state 'c d'"), (Some(42), "real --root /r state c d;".into()));
    assert_eq!(call("SMALL"), (Some(42), "real ;".into()));
    let (asked, started) = ("large runtime-supervise --log /l create -b /b c;", "real --log /l create -b /b c;");
    assert_eq!(call("SMALL --log /l create -b /b c"), (Some(42), format!("{asked}{started}")));
    for verb in ["run", "restore"] {
        assert_eq!(call(&format!("SMALL {verb} c")).1, format!("large runtime-supervise {verb} c;real {verb} c;"));
    }
    // A container with the name of a verb costs only time.
    assert_eq!(call("SMALL kill run 9").1, "large runtime-supervise kill run 9;real kill run 9;");
    verified("exit 6");
    assert_eq!(call("SMALL create c"), (Some(6), "large runtime-supervise create c;".into()));
    assert_eq!(call("SMALL delete c").0, Some(42));
    // Nobody said why: one that says it is asked.
    let twice = "large runtime-supervise create c;large runtime create c;";
    verified("kill -9 $$");
    assert_eq!(call("SMALL create c"), (Some(0), twice.into()));
    // A caller that ignores SIGCHLD takes the status away.
    verified("exit 0");
    assert_eq!(call("env --ignore-signal=CHLD SMALL create c"), (Some(0), "large runtime create c;".into()));
    // More words than any engine writes.
    let many = "x ".repeat(4094);
    assert_eq!(call(&format!("SMALL {many}")).0, Some(42));
    assert_eq!(call(&format!("SMALL create {many}")), (Some(127), String::new()));

    small.0.sh(&format!("mv {DIR}/layerseal {DIR}/away"));
    assert_eq!(call("SMALL create c"), (Some(127), String::new()), "nothing fails open");
    assert_eq!(call("SMALL kill c 9").0, Some(42), "what runs can be stopped");
}

#[test]
fn what_the_runtime_has_made_is_looked_at_and_removed_if_it_is_refused() {
    if !ready("layerseal-runtime: containers that are made") {
        return;
    }
    let small = Small::new();
    small.noted();
    // It says that it waits, and what it hears in answer.
    let after = |end: &str| {
        small.0.write("/var/tmp/verified", format!("printf g >&0; echo \"heard $(head -c 1)\" >>/var/tmp/said; {end}"))
    };
    let made = |how: &str| small.0.write("/var/tmp/made", how);
    let created = "large runtime-supervise create c;real create c;";
    let call = || small.call("SMALL create c </dev/null");
    made("exit 0");
    after("printf g >&0; exit 0");
    assert_eq!(call(), (Some(0), format!("{created}heard g;")));
    after("printf g >&0; exit 6");
    assert_eq!(call().0, Some(0), "nobody waits for its end");
    let removed = format!("{created}heard g;large runtime-remove create c;");
    after("exit 6");
    assert_eq!(call(), (Some(6), removed.clone()));
    after("kill -9 $$");
    assert_eq!(call(), (Some(1), removed.clone()), "it was not looked at");
    after("exit 0");
    assert_eq!(call(), (Some(1), removed), "it did not say so");
    // There is none: nobody answers, and the exit code is the runtime's.
    for (how, code) in [("exit 42", 42), ("kill -9 $$", 1)] {
        made(how);
        for end in ["exit 0", "exit 6", "kill -9 $$"] {
            after(end);
            assert_eq!(call(), (Some(code), format!("{created}heard ;")), "{how}, {end}");
        }
    }
    // It has said that the container may be made, and reads no answer.
    made("exit 0");
    small.0.write("/var/tmp/verified", "printf g >&0; exit 6");
    assert_eq!(call(), (Some(6), format!("{created}large runtime-remove create c;")));
    // Anything else that is said is no leave.
    small.0.write("/var/tmp/verified", "printf x >&0; exit 6");
    assert_eq!(call(), (Some(6), "large runtime-supervise create c;".into()));
    // What the caller hands over reaches the runtime, and nothing else does.
    made("cat >>/var/tmp/said; cat <&3 >>/var/tmp/said; ls -l /proc/$$/fd | grep -c socket >>/var/tmp/said; exit 0");
    after("printf g >&0");
    let (code, said) = small.call("echo in | SMALL create c 3</etc/hostname");
    let name = small.0.sh("cat /etc/hostname").replace('\n', ";");
    assert_eq!((code, said), (Some(0), format!("{created}in;{name}0;heard g;")));
    // A caller that left its standard descriptors closed: no socket is taken for one.
    assert_eq!(small.call("SMALL create c <&- >&-").1, "large runtime create c;");
}

#[test]
fn a_note_that_may_not_be_true_is_not_believed() {
    if !ready("layerseal-runtime: notes") {
        return;
    }
    let small = Small::new();
    for change in [
        "echo 'path = \"/bin/true\"' >/etc/layerseal/runtime.toml",
        "touch /etc/layerseal/runtime.toml",
        "echo >/run/layerseal/runtime.toml",
        "ln -sfn /nowhere /run/layerseal/runtime.toml",
        "rm /etc/layerseal/runtime.toml",
        "chmod 777 /etc/layerseal/real",
        "chown 1 /etc/layerseal/real",
        "mv /etc/layerseal/real /etc/layerseal/away",
        "cp /etc/layerseal/real /etc/layerseal/new; mv /etc/layerseal/new /etc/layerseal/real",
        "chmod 777 /etc/layerseal",
        "chown 1 /run/layerseal/runtime",
        "chmod 666 /run/layerseal/runtime",
        "truncate -s -1 /run/layerseal/runtime",
        "truncate -s 320 /run/layerseal/runtime",
        "mv /run/layerseal/runtime /run/away; ln -s /run/away /run/layerseal/runtime",
        "rm /run/layerseal/runtime; mkdir /run/layerseal/runtime",
    ] {
        small.0.sh("rm -rf /run/layerseal/* /etc/layerseal/away; chmod 755 /etc/layerseal");
        small.0.write("/etc/layerseal/real", REAL);
        small.0.sh("chmod 755 /etc/layerseal/real; chown 0 /etc/layerseal/real");
        small.0.write("/etc/layerseal/runtime.toml", "path = \"/etc/layerseal/real\"\n");
        small.noted();
        assert_eq!(small.call("SMALL state c"), (Some(42), "real state c;".into()), "before {change}");
        small.0.sh(change);
        assert_eq!(small.call("SMALL state c"), (Some(0), "large runtime state c;".into()), "{change}");
    }
}

#[test]
fn it_restores_the_flags_that_it_is_told() {
    if !ready("layerseal-runtime: flags") {
        return;
    }
    let small = Small::new();
    small.0.sh("mkdir -p '/var/tmp/a root'");
    let flags = |words: &str| {
        let mount = "mount -t tmpfs none '/var/tmp/a root'";
        let (code, said) = small.call(&format!("{mount}; echo state | SMALL hook createContainer {words}"));
        let found = small.0.sh("grep 'tmp/a.040root' /proc/self/mountinfo | cut -d ' ' -f 6");
        small.0.sh("umount '/var/tmp/a root'");
        (code, said, found.trim().to_owned())
    };
    assert_eq!(flags("'/var/tmp/a root' nodev"), (Some(0), String::new(), "rw,nodev,relatime".into()));
    let all = (Some(0), String::new(), "rw,nosuid,nodev,noexec,relatime".into());
    assert_eq!(flags("'/var/tmp/a root' nodev noexec nosuid"), all);
    // What it cannot do, `layerseal` is asked for, with what the runtime says.
    for words in ["", "/var/tmp", "/var/tmp/small nodev", "/nowhere nodev", "/var/tmp/a\\ root nodev rw"] {
        let (code, said, found) = flags(words);
        let words = words.replace('\\', "");
        let words = format!("hook createContainer {words}");
        assert_eq!((code, said), (Some(0), format!("large {};state;", words.trim_end())));
        assert_eq!(found, "rw,relatime");
    }
}
