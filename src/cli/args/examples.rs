//! What people type most, for `--help` and the man pages.

/// Verbs, and for each what is to be done and how.
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
                "Seal an image in its registry, on every platform",
                "layerseal sign docker://registry.example.com/acme/app:1.0 --cert release.crt --key release.key --identity registry.example.com/acme/app",
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
    ("fsck", &[("Everything in the vault", "layerseal fsck"), ("Repair one image", "layerseal fsck --repair app")]),
];

/// The examples of a verb, a comment and a command line each.
pub(super) fn of(verb: &str) -> String {
    let mut text = "Examples:".to_owned();
    for (what, line) in EXAMPLES.iter().filter(|(name, _)| *name == verb).flat_map(|(_, lines)| *lines) {
        // Quoted where the shell would take a part for its own.
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
            let help = args.find_subcommand_mut(verb).expect(verb).render_long_help().to_string();
            for (what, line) in *lines {
                assert_eq!(line.split(' ').nth(1), Some(*verb));
                Args::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{line}: {e}"));
                assert!(help.contains(what), "{verb} --help: {help}");
            }
        }
    }
}
