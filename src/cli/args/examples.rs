//! What people type most, for `--help` and the man pages.

/// Verbs, and for each of them tasks with their command lines.
const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    (
        "pull",
        &[
            ("Import an image from a layout, as app", "layerseal pull oci:app:1.0 --name app"),
            (
                "Only if it has a valid seal by this certificate",
                "layerseal pull docker://registry.example.com/acme/app:1.0 --require-signature --trust release.crt",
            ),
        ],
    ),
    ("seal", &[("Write the digests into the manifest of an image", "layerseal seal oci:app:1.0 --inline")]),
    (
        "sign",
        &[
            (
                "Seal an image in its registry, for every platform",
                "layerseal sign docker://registry.example.com/acme/app:1.0 --cert release.crt --key release.key --identity registry.example.com/acme/app",
            ),
            (
                "An image that podman built: push it, and seal it there",
                "layerseal sign localhost/app:1.0 --cert release.crt --key release.key --push docker://registry.example.com/acme/app:1.0",
            ),
            (
                "With a key in a token, and the seal in another layout",
                "layerseal sign oci:app:1.0 --cert release.crt --key pkcs11:token=release;object=key;type=private --identity registry.example.com/acme/app --output oci:seals",
            ),
        ],
    ),
    (
        "digest",
        &[
            (
                "The files to sign with a key on another machine",
                "layerseal digest oci:app:1.0 --identity registry.example.com/acme/app --write tosign",
            ),
            ("The merged digest of a directory", "layerseal digest --directory rootfs"),
        ],
    ),
    (
        "attach",
        &[(
            "Make a seal from the signatures in the directory that digest wrote",
            "layerseal attach oci:app:1.0 --signatures tosign --trust release.crt",
        )],
    ),
    (
        "verify",
        &[
            (
                "Check that an image has a seal by this certificate for this name",
                "layerseal verify docker://registry.example.com/acme/app:1.0 --trust release.crt --identity registry.example.com/acme/app",
            ),
            ("With a seal in another layout", "layerseal verify oci:app:1.0 --trust release.crt --seal oci:seals"),
        ],
    ),
    (
        "fetch",
        &[
            ("The seals of one of podman's images", "layerseal fetch registry.example.com/acme/app:1.0"),
            (
                "From another repository",
                "layerseal fetch registry.example.com/acme/app:1.0 --from docker://registry.example.com/seals",
            ),
        ],
    ),
    (
        "prepare",
        &[
            ("All of podman's images, after a pull", "layerseal prepare --all"),
            (
                "One image, whose seal is in a layout",
                "layerseal prepare registry.example.com/acme/app:1.0 --seal oci:seals",
            ),
        ],
    ),
    (
        "check",
        &[
            ("Would everything on this host start?", "layerseal check"),
            ("One image", "layerseal check registry.example.com/acme/app:1.0"),
            ("Containers, with what is mounted in them", "layerseal check --containers"),
        ],
    ),
    (
        "report",
        &[
            ("What would enforce have refused this week?", "layerseal report --since 7d"),
            ("Counters for the node exporter", "layerseal report --prometheus"),
        ],
    ),
    (
        "setup",
        &[
            ("Start in audit mode", "layerseal setup"),
            ("Whom to trust", "layerseal trust add release.crt --store acme"),
            ("List what would be refused; if there is nothing, enforce", "layerseal enforce"),
        ],
    ),
    (
        "deny",
        &[
            (
                "An image, whatever name or manifest it has",
                "layerseal deny registry.example.com/acme/app:1.0 --reason CVE-2026-0001",
            ),
            ("A signer whose key was lost", "layerseal deny release.crt"),
        ],
    ),
    (
        "mount",
        &[
            (
                "Read-only, if the seal is good",
                "layerseal mount app /mnt/app --require-signature --trust release.crt --identity registry.example.com/acme/app",
            ),
            (
                "The same, writable",
                "layerseal mount app /mnt/app --require-signature --trust release.crt --identity registry.example.com/acme/app --upper /srv/upper --work /srv/work",
            ),
        ],
    ),
    (
        "push",
        &[(
            "An image and its seals",
            "layerseal push oci:app:1.0 docker://registry.example.com/acme/app:1.0 --signatures",
        )],
    ),
    ("export-signatures", &[("Only the seals, into a layout", "layerseal export-signatures oci:app:1.0 oci:seals")]),
    ("vault create", &[("20 GiB, mounted at boot", "layerseal vault create --size 20G /srv/layerseal")]),
    ("fsck", &[("Everything in the vault", "layerseal fsck"), ("Repair one image", "layerseal fsck --repair app")]),
];

/// Formats the examples of a verb, each with a comment and a command line.
pub(super) fn of(verb: &str) -> String {
    let mut text = "Examples:".to_owned();
    for (what, line) in EXAMPLES.iter().filter(|(name, _)| *name == verb).flat_map(|(_, lines)| *lines) {
        // Quoted where the shell would interpret a part itself.
        let words = line.split(' ').map(|w| if w.contains(';') { format!("'{w}'") } else { w.to_owned() });
        text.push_str(&format!("\n  # {what}\n  {}", words.collect::<Vec<_>>().join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::EXAMPLES;
    use crate::cli::args::Args;

    #[test]
    fn every_example_can_be_typed_and_is_shown_by_its_verb() {
        for (verb, lines) in EXAMPLES {
            let mut args = Args::command();
            let words: Vec<&str> = verb.split(' ').collect();
            let found = words.iter().fold(&mut args, |args, word| args.find_subcommand_mut(word).expect(verb));
            let help = found.render_long_help().to_string();
            for (what, line) in *lines {
                // Setting up a host leads through other verbs.
                let typed = line.split(' ').skip(1).zip(&words).all(|(typed, word)| typed == *word);
                assert!(typed || *verb == "setup", "{line}");
                Args::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{line}: {e}"));
                assert!(help.contains(what), "{verb} --help: {help}");
            }
        }
    }
}
