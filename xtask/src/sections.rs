//! What the definition of the command line does not know: files, variables, and pages that belong together.

use clap::Command;

/// Verbs of the host's side, which read the policy.
const POLICY: &[&str] =
    &["prepare", "policy", "policy-check", "hook", "hook-precreate", "hook-createRuntime", "runtime", "doctor"];
/// Verbs that read or change the vault.
const VAULT: &[&str] = &[
    "pull", "verify", "prepare", "fetch", "mount", "umount", "status", "inspect", "images", "tag", "untag", "gc",
    "fsck", "push",
];

/// A file: its name, what it is, and the verbs whose pages have it. The first page has all.
const FILES: &[(&str, &str, &[&[&str]])] = &[
    (
        "/etc/layerseal/policy.toml, /etc/layerseal/policy.d/*.toml",
        "What this host asks of images: layerseal-policy.toml(5). Files here replace those of the same name in /run/layerseal, and these replace those in /usr/lib/layerseal. The same holds for trust.d/, deny.d/ and runtime.toml.",
        &[POLICY],
    ),
    ("/etc/layerseal/trust.d/STORE/", "Certificates of a trust store that the policy names.", &[POLICY]),
    (
        "/etc/layerseal/deny.d/",
        "Images, layers, seals and certificates that are refused whatever a rule says.",
        &[POLICY, &["pull", "verify", "mount"]],
    ),
    ("/etc/layerseal/runtime.toml", "The OCI runtime behind layerseal-runtime.", &[&["runtime", "doctor"]]),
    (
        "/etc/containers/storage.conf",
        "Where the container store is: containers-storage.conf(5). Its other places are searched as podman does.",
        &[VAULT, POLICY],
    ),
    (
        "GRAPHROOT/layerseal/",
        "The vault, unless --vault names another: what was imported and prepared, and its seals.",
        &[VAULT, POLICY],
    ),
    ("/run/layerseal/mounts/", "A record of each mount.", &[&["mount", "umount", "status", "gc"], POLICY]),
    (
        "/var/lib/layerseal/",
        "What outlives the graph root: accepted seals, the highest sequence accepted for each name, and notes of volumes that were filled for refused containers.",
        &[&["prepare", "fetch"], POLICY],
    ),
    (
        "/usr/share/layerseal/hooks/podman/, /usr/share/layerseal/hooks/crio/",
        "Configuration of the hooks, oci-hooks(5), one directory for each runtime.",
        &[&["hook", "hook-precreate", "hook-createRuntime", "doctor"]],
    ),
    (
        "/etc/containers/containers.conf.d/50-layerseal.conf, /etc/crio/crio.conf.d/50-layerseal.conf",
        "Name these directories.",
        &[&["hook", "hook-precreate", "hook-createRuntime", "doctor"]],
    ),
];
/// For verbs that reach registries.
const REGISTRY_FILES: &[(&str, &str)] = &[
    (
        "$XDG_RUNTIME_DIR/containers/auth.json",
        "Passwords for registries, unless --authfile names another: containers-auth.json(5).",
    ),
    ("/etc/containers/registries.conf", "Mirrors and aliases of registries: containers-registries.conf(5)."),
    ("/etc/containers/certs.d/", "Certificates of registries: containers-certs.d(5)."),
];

const STORE_VARIABLES: &[(&str, &str)] =
    &[("CONTAINERS_STORAGE_CONF", "Another storage.conf. Hooks and the mount program ignore it.")];
const REGISTRY_VARIABLES: &[(&str, &str)] = &[
    ("REGISTRY_AUTH_FILE", "As --authfile."),
    (
        "XDG_RUNTIME_DIR, XDG_CONFIG_HOME, DOCKER_CONFIG, HOME",
        "Where auth.json, or Docker's config.json, is looked for.",
    ),
    ("HTTPS_PROXY, HTTP_PROXY, NO_PROXY", "Proxies, and hosts to reach without one; also in lower case."),
    ("TMPDIR", "Where layers are kept during a download; /var/tmp by default."),
    ("PATH", "Where skopeo(1) is looked for."),
];

/// Lists every variable that a page names.
pub(crate) fn variables() -> impl Iterator<Item = &'static str> {
    STORE_VARIABLES.iter().chain(REGISTRY_VARIABLES).flat_map(|(names, _)| names.split(", "))
}

fn own(items: &[(&str, &str)]) -> Vec<(String, String)> {
    items.iter().map(|(name, what)| ((*name).to_owned(), (*what).to_owned())).collect()
}

/// Returns the verb of `layerseal-VERB`; nothing for the first page.
fn verb(page: &str) -> &str {
    page.strip_prefix("layerseal-").unwrap_or_default()
}

fn reaches_registries(command: &Command) -> bool {
    let named = |command: &Command| command.get_arguments().any(|argument| argument.get_id() == "authfile");
    named(command) || command.get_subcommands().any(named)
}

fn wanted(wanted: impl Fn(&[&[&str]]) -> bool) -> Vec<(String, String)> {
    let files = FILES.iter().filter(|(_, _, verbs)| wanted(verbs));
    files.map(|(name, what, _)| ((*name).to_owned(), (*what).to_owned())).collect()
}

/// Lists the files of a verb.
pub(crate) fn files(page: &str, command: &Command) -> Vec<(String, String)> {
    let mut files = wanted(|verbs| verb(page).is_empty() || verbs.concat().contains(&verb(page)));
    if reaches_registries(command) {
        files.extend(own(REGISTRY_FILES));
    }
    files
}

/// Lists the files of the policy's page.
pub(crate) fn of_policy() -> Vec<(String, String)> {
    let all = wanted(|verbs| verbs.concat().contains(&"policy"));
    all.into_iter().filter(|(name, _)| name.starts_with("/etc/layerseal")).collect()
}

/// Lists the files of a document's page.
pub(crate) fn of_document(page: &str) -> Vec<(String, String)> {
    if page == "layerseal-hooks" { wanted(|verbs| verbs.concat().contains(&"hook")) } else { Vec::new() }
}

/// Lists the variables of a verb.
pub(crate) fn environment(page: &str, command: &Command) -> Vec<(String, String)> {
    let store = verb(page).is_empty() || VAULT.contains(&verb(page)) || ["doctor"].contains(&verb(page));
    let mut variables = own(if store { STORE_VARIABLES } else { &[] });
    if reaches_registries(command) {
        variables.extend(own(REGISTRY_VARIABLES));
    }
    variables
}

/// Returns what else the exit status of a verb means.
pub(crate) fn exit_status(page: &str) -> Option<&'static str> {
    Some(match verb(page) {
        "runtime" => "For everything that is not refused: what the runtime behind exits with.",
        "doctor" => "6 where something is missing that the policy asks for.",
        "hook-createRuntime" | "hook-precreate" | "hook-createContainer" => {
            "Anything but 0 keeps the container from starting. layerseal-hook-explain(1) says more."
        }
        _ => return None,
    })
}

/// Lists the pages that belong to one.
pub(crate) fn see_also(page: &str) -> &'static [&'static str] {
    match verb(page) {
        "" => &["layerseal-policy.toml(5)", "layerseal-seal(5)", "layerseal-hooks(7)", "podman(1)", "skopeo(1)"],
        "sign" => &["layerseal-verify(1)", "layerseal-digest(1)", "layerseal-attach(1)", "layerseal-seal(5)"],
        "seal" => match page {
            // The format and the verb have one name.
            "layerseal-seal" => &["layerseal-sign(1)", "layerseal-verify(1)", "layerseal-seal(5)", "fsverity(1)"],
            _ => &[],
        },
        "digest" => &["layerseal-attach(1)", "layerseal-sign(1)", "layerseal-seal(5)"],
        "attach" => &["layerseal-digest(1)", "layerseal-sign(1)", "layerseal-seal(5)"],
        "verify" => &["layerseal-inspect(1)", "layerseal-sign(1)", "layerseal-seal(5)"],
        "inspect" => &["layerseal-verify(1)", "layerseal-seal(5)"],
        "pull" => &["layerseal-mount(1)", "layerseal-verify(1)", "layerseal-images(1)"],
        "push" => &["layerseal-export-signatures(1)", "layerseal-pull(1)", "skopeo-copy(1)"],
        "export-signatures" => &["layerseal-push(1)", "layerseal-fetch(1)"],
        "fetch" => &["layerseal-prepare(1)", "layerseal-policy.toml(5)"],
        "prepare" => &["layerseal-fetch(1)", "layerseal-policy.toml(5)", "podman-pull(1)"],
        "mount" => &["layerseal-umount(1)", "layerseal-status(1)", "layerseal-pull(1)"],
        "umount" => &["layerseal-mount(1)", "layerseal-status(1)"],
        "status" => &["layerseal-mount(1)", "layerseal-doctor(1)"],
        "images" => &["layerseal-tag(1)", "layerseal-untag(1)", "layerseal-gc(1)"],
        "tag" => &["layerseal-untag(1)", "layerseal-images(1)"],
        "untag" => &["layerseal-tag(1)", "layerseal-gc(1)"],
        "gc" => &["layerseal-untag(1)", "layerseal-fsck(1)"],
        "fsck" => &["layerseal-gc(1)", "layerseal-verify(1)"],
        "keyring" | "keyring-add-cert" | "keyring-list" | "keyring-restrict" => &["keyrings(7)", "fsverity(1)"],
        "policy" | "policy-check" => &["layerseal-policy.toml(5)", "layerseal-doctor(1)"],
        "hook" | "hook-precreate" | "hook-createRuntime" | "hook-createContainer" | "hook-explain" => {
            &["layerseal-hooks(7)", "layerseal-policy.toml(5)", "oci-hooks(5)"]
        }
        "hooks" => &[
            "layerseal-hook(1)",
            "layerseal-hook-explain(1)",
            "layerseal-doctor(1)",
            "oci-hooks(5)",
            "containers.conf(5)",
        ],
        "runtime" => &["layerseal-hooks(7)", "layerseal-policy.toml(5)", "crun(1)", "containers.conf(5)"],
        "doctor" => &["layerseal-policy-check(1)", "layerseal-hooks(7)"],
        _ => &[],
    }
}
