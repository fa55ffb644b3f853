use super::generation::Version;
use super::*;

struct Host {
    dir: tempfile::TempDir,
    variables: Vec<(&'static str, String)>,
}

impl Host {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self { dir, variables: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.replace("ROOT", self.dir.path().to_str().unwrap())));
        self
    }

    fn read(&self, podman: Version) -> Result<Configured> {
        let variable = |name: &str| self.variables.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
        read(&Surroundings { root: self.dir.path(), variable: &variable, podman: Some(podman.into()) })
    }

    fn of_user(&self, podman: Version, uid: u32) -> Configured {
        let variable = |name: &str| self.variables.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
        let around = Surroundings { root: self.dir.path(), variable: &variable, podman: Some(podman.into()) };
        user::of(&around, uid).unwrap()
    }

    fn graph_root(&self, podman: Version) -> String {
        self.read(podman).unwrap().graph_root.display().to_string()
    }
}

const ETC: &str = "etc/containers/storage.conf";
const USR: &str = "usr/share/containers/storage.conf";
const ALL: [Version; 4] = [(4, 3), (5, 4), (5, 8), (6, 1)];

fn conf(graph_root: &str) -> String {
    format!("[storage]\ndriver = \"overlay\"\nrunroot = \"/r\"\ngraphroot = \"{graph_root}\"\n")
}

#[test]
fn each_generation_looks_where_it_does() {
    let host = Host::new(&[(ETC, &conf("/etc")), (USR, &conf("/usr")), ("x/containers/storage.conf", &conf("/xdg"))]);
    ALL.iter().for_each(|v| assert_eq!(host.graph_root(*v), "/etc", "{v:?}"));
    let host = host.with("XDG_CONFIG_HOME", "ROOT/x");
    for (version, root) in ALL.into_iter().zip(["/xdg", "/etc", "/etc", "/xdg"]) {
        assert_eq!(host.graph_root(version), root, "{version:?}");
    }
    let alone = Host::new(&[("x/containers/storage.conf", &conf("/xdg"))]).with("XDG_CONFIG_HOME", "ROOT/x");
    ALL.iter().for_each(|v| assert_eq!(alone.graph_root(*v), "/xdg", "{v:?}"));
    let host = host.with("CONTAINERS_STORAGE_CONF", "ROOT/usr/share/containers/storage.conf");
    ALL.iter().for_each(|v| assert_eq!(host.graph_root(*v), "/usr", "{v:?}"));
    let host = Host::new(&[]);
    ALL.iter().for_each(|v| assert_eq!(host.graph_root(*v), "/var/lib/containers/storage", "{v:?}"));
}

#[test]
fn drop_ins_are_podman_6s_and_count_by_their_names() {
    let host = Host::new(&[
        (USR, &conf("/usr")),
        ("usr/share/containers/storage.conf.d/50-a.conf", &conf("/usr-a")),
        ("usr/share/containers/storage.rootful.conf.d/90-z.conf", &conf("/usr-z")),
        ("etc/containers/storage.conf.d/50-a.conf", "[storage]\nrunroot = \"/etc-r\"\n"),
        ("etc/containers/storage.conf.d/10-b.txt", &conf("/no")),
        ("etc/containers/storage.rootless.conf.d/99.conf", &conf("/no")),
        ("root/.config/containers/storage.conf.d/20-c.conf", &conf("/home")),
    ]);
    ALL[..3].iter().for_each(|v| assert_eq!(host.graph_root(*v), "/usr", "{v:?}"));
    let six = host.read((6, 1)).unwrap();
    assert_eq!(six.graph_root, Path::new("/usr-z"));
    let names: Vec<_> = six.files.iter().map(|f| f.strip_prefix(host.dir.path()).unwrap().to_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            USR,
            "root/.config/containers/storage.conf.d/20-c.conf",
            "etc/containers/storage.conf.d/50-a.conf",
            "usr/share/containers/storage.rootful.conf.d/90-z.conf"
        ]
    );
}

#[test]
fn a_file_without_graph_root_means_the_default_or_nothing() {
    let host =
        Host::new(&[(ETC, "[storage]\ndriver = \"overlay\"\n[storage.options]\nadditionalimagestores = [\"/a\"]\n")]);
    for version in [(5, 8), (6, 1)] {
        let found = host.read(version).unwrap();
        assert_eq!(found.graph_root, Path::new("/var/lib/containers/storage"));
        assert_eq!(found.additional, [PathBuf::from("/a")], "{version:?}");
    }
    for version in [(4, 3), (4, 5), (5, 4)] {
        assert_eq!(host.read(version).unwrap_err().case(), Case::Usage, "{version:?}");
    }
}

#[test]
fn paths_as_they_are_written_out() {
    let host = Host::new(&[]).with("HOME", "/h").with("EMPTY", "");
    let variable = |name: &str| host.variables.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
    let around = Surroundings { root: Path::new("/"), variable: &variable, podman: None };
    for (text, path) in [
        ("//none//a/./b/", "/none/a/b"),
        ("/none/a/../b", "/none/b"),
        ("/../none", "/none"),
        ("/none/$UID/x", "/none/0/x"),
        ("$HOME/x", "/h/x"),
        ("${HOME}x${EMPTY}/y$NONE", "/hx/y"),
        ("/none/a$/b", "/none/a$/b"),
    ] {
        assert_eq!(expand(&around, text, 0).unwrap(), Path::new(path), "{text}");
    }
    let dir = tempfile::tempdir().unwrap();
    let (link, real) = (dir.path().join("link"), dir.path().join("real"));
    std::fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink("real", &link).unwrap();
    assert_eq!(expand(&around, link.to_str().unwrap(), 0).unwrap(), std::fs::canonicalize(&real).unwrap());
    assert_eq!(expand(&around, &format!("{}/new", link.display()), 0).unwrap(), link.join("new"));
}

#[test]
fn options_of_the_environment_take_the_place_of_all_others() {
    let text = "[storage]\ndriver = \"overlay\"\nrunroot = \"/r\"\ngraphroot = \"/g\"\n[storage.options]\n\
                additionalimagestores = [\"/a/\", \"/b,/c\"]\nmount_program = \"/p\"\n\
                [storage.options.overlay]\nmount_program = \"/q\"\nuse_composefs = \"true\"\n";
    let host = Host::new(&[(ETC, text)]);
    for version in ALL {
        let found = host.read(version).unwrap();
        assert_eq!(found.additional, ["/a", "/b", "/c"].map(PathBuf::from));
        assert_eq!(found.mount_program.as_deref(), Some("/q"));
        assert!(found.composefs);
    }
    let host = host.with("STORAGE_OPTS", "overlay.imagestore=/x,.mount_program=/y");
    let found = host.read((5, 8)).unwrap();
    assert_eq!((found.additional, found.mount_program), (vec!["/x".into()], Some("/y".into())));
    assert!(!found.composefs);
    let host = Host::new(&[(ETC, text)]).with("STORAGE_DRIVER", "vfs");
    assert_eq!(host.read((5, 8)).unwrap().driver.as_deref(), Some("vfs"));
}

#[test]
fn image_stores_are_those_of_podman_since_4_6() {
    let text = "[storage]\nrunroot = \"/r\"\ngraphroot = \"/g\"\nimagestore = \"/i/\"\ntransient_store = true\n\
                [storage.options]\nimagestore = \"/no\"\n[storage.options.overlay]\nimagestore = \"/no\"\n";
    let host = Host::new(&[(ETC, text)]);
    let old = host.read((4, 3)).unwrap();
    assert_eq!((old.image_store, old.transient), (None, false));
    for version in [(5, 4), (5, 8), (6, 1)] {
        let found = host.read(version).unwrap();
        assert_eq!((found.image_store, found.transient), (Some("/i".into()), true));
    }
    let same = Host::new(&[(ETC, &text.replace("\"/i/\"", "\"/g\""))]);
    assert_eq!(same.read((6, 1)).unwrap_err().case(), Case::Usage);
}

/// Finds containers.conf and registries.conf like storage.conf.
#[test]
fn other_files_of_podman_6() {
    let host = Host::new(&[
        ("usr/share/containers/containers.conf", ""),
        ("etc/containers/containers.conf", ""),
        ("usr/share/containers/containers.rootful.conf.d/20.conf", ""),
        ("usr/share/containers/containers.conf.d/10.conf", ""),
        ("etc/containers/containers.conf.d/10.conf", ""),
        ("etc/containers/containers.rootless.conf.d/30.conf", ""),
        ("etc/containers/registries.conf.d/10.conf", ""),
        ("root/.config/containers/containers.conf.d/40.conf", ""),
        ("named", ""),
    ]);
    let named = host.dir.path().join("named");
    let files = |variables: &[(&str, &Path)]| {
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_os_str().to_owned());
        let files = files_of_podman_6(host.dir.path(), "containers", "CONTAINERS_CONF", &variable).unwrap();
        let short = files.into_iter().map(|f| f.strip_prefix(host.dir.path()).unwrap().display().to_string());
        short.collect::<Vec<_>>()
    };
    let all = [
        "etc/containers/containers.conf",
        "etc/containers/containers.conf.d/10.conf",
        "usr/share/containers/containers.rootful.conf.d/20.conf",
        "root/.config/containers/containers.conf.d/40.conf",
    ];
    assert_eq!(files(&[]), all);
    assert_eq!(files(&[("CONTAINERS_CONF", &named)]), ["named"]);
    assert_eq!(files(&[("CONTAINERS_CONF_OVERRIDE", &named)]), [&all[..], &["named"]].concat());
}

#[test]
fn an_ordinary_user_has_a_store_of_their_own() {
    let places = |host: &Host, version| {
        let found = host.of_user(version, 7);
        [found.graph_root, found.run_root]
            .map(|path| path.display().to_string().replace(host.dir.path().to_str().unwrap(), "ROOT"))
    };
    let rootless = format!("{}rootless_storage_path = \"/s/$UID\"\n", conf("/etc"));
    for version in ALL {
        let host = Host::new(&[]).with("HOME", "/h");
        assert_eq!(
            places(&host, version),
            ["/h/.local/share/containers/storage", "/run/user/7/containers"],
            "{version:?}"
        );
        let host = host.with("XDG_DATA_HOME", "/d").with("XDG_RUNTIME_DIR", "/x");
        assert_eq!(places(&host, version), ["/d/containers/storage", "/x/containers"], "{version:?}");
        let host = Host::new(&[(ETC, &conf("/etc")), ("h/.config/containers/storage.conf", &conf("/own"))])
            .with("HOME", "ROOT/h");
        assert_eq!(places(&host, version), ["/own", "/r"], "{version:?}");
    }
    // Podman before 6 takes nothing else from root's file; podman 6 begins with it.
    let host = Host::new(&[(ETC, &rootless)]).with("HOME", "/h");
    assert_eq!(places(&host, (5, 4)), ["/s/7", "/run/user/7/containers"]);
    assert_eq!(places(&host, (6, 1))[0], "/etc");
}
