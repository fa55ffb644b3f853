//! On a terminal, a word that says how something is has a colour, and nowhere else; never where NO_COLOR is set.

use std::process::{Command, Stdio};

use crate::common::{Bench, two_layers};

/// Lines of somebody who looks at it, through a terminal that `script` (util-linux) makes.
fn shown(bench: &Bench, args: &[&str], variables: &[(&str, &str)]) -> String {
    let command = bench.command(args);
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let mut script = Command::new("script");
    script.args(["-qefc", &words.join(" "), "/dev/null"]).current_dir(bench.dir.path());
    // Set or not, it says nothing about terminals.
    script.env("CI", "true").env_remove("NO_COLOR").env("TERM", "xterm").envs(variables.iter().copied());
    let output = script.stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether there is a colour or another rendition in it (ECMA-48, SGR): what progress bars clear is none.
fn is_coloured(text: &str) -> bool {
    text.split("\x1b[").skip(1).any(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != ';');
        end.is_some_and(|end| rest[end..].starts_with('m'))
    })
}

/// Every verb that says how something is, each in a good and a bad state where it has both, and errors of each kind.
#[test]
fn colours_are_for_terminals_and_no_color_is_heard() {
    let bench = Bench::new();
    bench.sealed(&two_layers());
    bench.run(&["pull", "oci:image", "--name", "app"]).ok();
    let all: [(&[&str], bool); 24] = [
        (&["doctor"], true),
        (&["verify", "oci:image", "--trust", "signer.crt"], true),
        (&["verify", "oci:image", "--trust", "signer.crt", "--json"], false),
        (&["verify", "oci:nothing"], true),
        (&["verify", "app", "--identity", "other.example/x", "--trust", "signer.crt"], true),
        (&["fsck"], false),
        (&["fsck", "nobody"], true),
        (&["images"], false),
        (&["inspect", "oci:image"], false),
        (&["inspect", "oci:image", "--json"], false),
        (&["digest", "app"], false),
        (&["status"], false),
        (&["gc", "--dry-run"], false),
        (&["check", "no.example/such:1"], true),
        (&["report"], false),
        (&["hook", "explain", "4"], false),
        (&["policy", "check", "app"], false),
        (&["trust", "list"], false),
        (&["floors", "list"], false),
        (&["deny", "nothing"], true),
        (&["sign", "oci:image", "--cert", "none.crt", "--key", "none.key"], true),
        (&["mount", "app", "nowhere"], true),
        (&["--no-such-option"], true),
        (&["--help"], true),
    ];
    for (args, has_tones) in all {
        let seen = shown(&bench, args, &[]);
        assert!(!seen.trim().is_empty(), "{args:?} says nothing");
        assert!(!has_tones || is_coloured(&seen), "{args:?}: {seen:?}");
        if args.contains(&"--json") {
            assert!(!is_coloured(&seen), "{args:?}: {seen:?}");
        }
        for off in [("NO_COLOR", "1"), ("TERM", "dumb")] {
            let seen = shown(&bench, args, &[off]);
            assert!(!seen.trim().is_empty() && !is_coloured(&seen), "{off:?} {args:?}: {seen:?}");
        }
        // An empty one says nothing (no-color.org).
        assert_eq!(is_coloured(&shown(&bench, args, &[("NO_COLOR", "")])), is_coloured(&seen), "{args:?}");
        let piped = bench.run(args);
        assert!(!is_coloured(&format!("{}{}", piped.stdout, piped.stderr)), "{args:?}: {}", piped.stdout);
    }
}
