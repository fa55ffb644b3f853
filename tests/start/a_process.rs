//! Group A: what a hostile caller hands down besides the call, and what it takes away.

use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::host::{APP, ENFORCE, Host, OTHER, TOOL, binary};

/// A library that leaves a file when it is loaded.
fn tattler(host: &Host) -> Option<std::path::PathBuf> {
    let (source, library) = (host.bench.path("evil.c"), host.bench.path("evil.so"));
    let mark = host.bench.path("loaded");
    let text = "#include <fcntl.h>\n__attribute__((constructor)) static void f(void)\
        { creat(\"MARK\", 0600); }\nint OSSL_provider_init(void) { return 0; }\n";
    std::fs::write(&source, text.replace("MARK", mark.to_str().unwrap())).unwrap();
    let cc = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).output();
    match cc {
        Ok(output) if output.status.success() => Some(library),
        other => {
            support::skip!("libraries that the environment names: no C compiler: {other:?}")
        }
    }
}

#[test]
fn a10_nothing_of_the_environment_counts() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let Some(library) = tattler(&host) else { return };
    let (good, bad) = (host.container("c", &host.image(APP)), host.container("d", &host.image(OTHER)));
    let conf = format!(
        "openssl_conf = a\n[a]\nproviders = p\n[p]\nevil = e\ndefault = d\n[d]\nactivate = 1\n[e]\nmodule = {}\nactivate = 1\n",
        library.display()
    );
    let conf = host.bench.write("evil.cnf", conf.as_bytes());
    let mark = host.bench.path("loaded");
    // That this configuration does load it, or the test would show nothing.
    let control = Command::new("openssl").args(["list", "-providers"]).env("OPENSSL_CONF", &conf).output();
    if control.is_err() || !mark.exists() {
        support::skip!(part: "OPENSSL_CONF: the openssl command does not load a module: {control:?}");
    }
    let _ = std::fs::remove_file(&mark);
    // A home with another policy and with programs of its own.
    std::fs::create_dir_all(host.bench.path("evil/.config/containers")).unwrap();
    host.bench.write("evil/policy.toml", b"version = 1\n[default]\nmode = \"off\"\n");
    host.bench.write("evil/fuse-overlayfs", b"#!/bin/sh\nexit 0\n");
    let evil = host.bench.path("evil");
    let hostile = |command: &mut Command| {
        for name in
            ["HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "PATH", "LD_LIBRARY_PATH", "CREDENTIALS_DIRECTORY"]
        {
            command.env(name, &evil);
        }
        for name in ["OPENSSL_CONF", "OPENSSL_CONF_INCLUDE", "SSL_CERT_FILE", "SSL_CERT_DIR", "CONTAINERS_STORAGE_CONF"]
        {
            command.env(name, &conf);
        }
        command.env("OPENSSL_MODULES", host.bench.dir.path()).env("OPENSSL_ENGINES", host.bench.dir.path());
        for name in
            ["LAYERSEAL_POLICY", "LAYERSEAL_VAULT", "LAYERSEAL_MODE", "LAYERSEAL_TRUST", "RUST_LOG", "RUST_BACKTRACE"]
        {
            command.env(name, "off");
        }
        command.env("=x", "y").env("STORAGE_DRIVER", "vfs").env("STORAGE_OPTS", "overlay.mount_program=/bin/true");
    };
    let run = |container: &crate::host::Container| {
        // Straight, without a shell that would tidy the environment.
        let mut command = host.sandbox.command(binary());
        command.args(["-o", &host.options(container), &host.of(&container.layer, "merged")]);
        // nsenter itself is found before the variables are set.
        let program = std::env::split_paths(&std::env::var_os("PATH").unwrap())
            .map(|dir| dir.join("nsenter"))
            .find(|p| p.exists())
            .unwrap();
        let mut direct = Command::new(program);
        direct.args(command.get_args());
        hostile(&mut direct);
        host.sandbox.run(&mut direct)
    };
    run(&good).ok();
    assert_eq!(host.read(&good, "usr/bin/tool").unwrap(), TOOL);
    run(&bad).refused(3, "C07");
    assert!(!mark.exists(), "a library that the environment named was loaded");
}

#[test]
fn a10_the_name_of_the_program_does_not_matter() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let (good, bad) = (host.container("c", &host.image(APP)), host.container("d", &host.image(OTHER)));
    let link = host.bench.path("fuse-overlayfs");
    std::os::unix::fs::symlink(binary(), &link).unwrap();
    let run = |container: &crate::host::Container, name: &str| {
        let mut command = host.sandbox.command("bash");
        command.args(["-c", "exec -a \"$0\" \"$@\"", name]).arg(&link);
        command.args(["-o", &host.options(container), &host.of(&container.layer, "merged")]);
        host.sandbox.run(&mut command)
    };
    for name in ["fuse-overlayfs", "", "--version", "-o", "layerseal\nPRIORITY=6"] {
        run(&good, name).ok();
        host.unmount(&good);
        run(&bad, name).refused(3, "C07");
    }
}

#[test]
fn a11_without_standard_descriptors() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let (good, bad) = (host.container("c", &host.image(APP)), host.container("d", &host.image(OTHER)));
    let run = |container: &crate::host::Container| {
        let mut command = host.sandbox.command("sh");
        command.args(["-c", "exec \"$@\" <&- >&- 2>&-", "sh", binary()]);
        command.args(["-o", &host.options(container), &host.of(&container.layer, "merged")]);
        host.sandbox.run(&mut command)
    };
    assert_eq!(run(&good).code, 0);
    assert_eq!(host.read(&good, "usr/bin/tool").unwrap(), TOOL);
    let before = host.files();
    let refused = run(&bad);
    assert_eq!((refused.code, refused.records.len()), (3, 1), "{refused:?}");
    assert_eq!(host.files(), before);
}

/// CVE-2024-21626: a descriptor that the caller left open, kept by what stays behind.
#[test]
fn a11_no_descriptor_of_the_caller_is_kept() {
    let Some(host) = Host::new(&format!("{ENFORCE}[mount]\ntop = \"fuse-overlayfs\"\n")) else { return };
    let container = host.container("c", &host.image(APP));
    let marker = host.bench.write("leak", b"");
    let script = "for n in $(seq 10 209); do eval \"exec $n<\\\"$LEAK\\\"\"; done; exec \"$@\"";
    let mut command = host.sandbox.command("bash");
    command.env("LEAK", &marker).args(["-c", script, "bash", binary()]);
    command.args(["-o", &host.options(&container), &host.of(&container.layer, "merged")]);
    let ran = host.sandbox.run(&mut command);
    if ran.stderr.contains("[R-I11]") {
        support::skip!("a daemon in the background: {}", ran.stderr.trim());
    }
    ran.ok();
    assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL);
    let mut daemons = 0;
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(fds) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let mut leaked = 0;
        for fd in fds.flatten() {
            leaked += usize::from(std::fs::read_link(fd.path()).is_ok_and(|to| to == marker));
        }
        let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        daemons += usize::from(name.trim() == "fuse-overlayfs");
        assert_eq!(leaked, 0, "{name}");
    }
    assert!(daemons > 0, "no daemon was looked at");
    host.unmount(&container);
}

/// A pipe that nobody reads, as full as it can be.
#[test]
fn l07_a_full_or_broken_standard_error_keeps_nobody() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let container = host.container("d", &host.image(OTHER));
    let (options, target) = (host.options(&container), host.of(&container.layer, "merged"));
    let run = |stderr: std::io::PipeWriter| {
        let mut command = host.sandbox.command(binary());
        command.args(["-o", &options, &target]).stderr(Stdio::from(stderr));
        let started = Instant::now();
        let mut child = command.spawn().unwrap();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            if started.elapsed() > Duration::from_secs(20) {
                // In the namespace it is the same process: nsenter became it.
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("it waits for a reader");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let (reader, mut writer) = std::io::pipe().unwrap();
    let flags = rustix::fs::fcntl_getfl(writer.as_fd()).unwrap();
    rustix::fs::fcntl_setfl(writer.as_fd(), flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    while std::io::Write::write(&mut writer, &[b' '; 4096]).is_ok() {}
    while std::io::Write::write(&mut writer, b" ").is_ok() {}
    rustix::fs::fcntl_setfl(writer.as_fd(), flags).unwrap();
    assert_eq!(run(writer), Some(3));
    assert_eq!(host.sandbox.records().len(), 1);
    drop(reader);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(run(writer), Some(3));
    assert_eq!(host.sandbox.records().len(), 1);
}
