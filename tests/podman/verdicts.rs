//! What the hooks decide where the policy, the seal or the writable layer is not as it must be, and whom they
//! tell.

use std::os::unix::net::UnixDatagram;

use crate::common;
use crate::guard::{NOT_SEALED, RUN, text};
use crate::image::APP;
use crate::podman::{Podman, Program, default_policy, signed};
use crate::ready;

#[test]
fn o02_a_root_that_was_mounted_when_less_was_asked_does_not_start() {
    if !ready("o02") {
        return;
    }
    let podman = Podman::pulled(Program::Guarded);
    let audit = default_policy() + "[[rule]]\nimage = \"registry.example.com/*\"\nmode = \"audit\"\n";
    podman.policy(&audit);
    podman.ok(&["create", "--name", "c", APP, "true"]);
    podman.ok(&["mount", "c"]);
    podman.ok(&["start", "-a", "c"]);
    assert_eq!(podman.last("createRuntime").0, "allowed", "audit lets an unsealed image pass");
    podman.policy(&default_policy());
    let output = podman.run(&["start", "-a", "c"]);
    assert!(!output.status.success());
    assert_eq!(podman.last("precreate"), ("refused".into(), "O02".into()), "{}", text(&output));
    podman.ok(&["umount", "-f", "c"]);
    podman.run(&["rm", "-f", "c"]);
    // The signer is trusted no more.
    podman.prepare(APP);
    podman.ok(&["create", "--name", "c", APP, "true"]);
    podman.ok(&["mount", "c"]);
    podman.ok(&["start", "-a", "c"]);
    podman.host.write("/etc/layerseal/trust.d/acme/acme.crt", common::stranger().cert.to_pem().unwrap());
    assert!(!podman.run(&["start", "-a", "c"]).status.success());
    assert_eq!(podman.last("precreate"), ("refused".into(), "E07".into()));
    // Or denied, in every mode.
    podman.host.write("/etc/layerseal/trust.d/acme/acme.crt", common::signer().cert.to_pem().unwrap());
    podman.ok(&["start", "-a", "c"]);
    podman.policy(&audit);
    podman.host.write("/etc/layerseal/deny.d/acme.crt", common::signer().cert.to_pem().unwrap());
    assert!(!podman.run(&["start", "-a", "c"]).status.success());
    assert_eq!(podman.last("precreate"), ("refused".into(), "F06".into()));
}

#[test]
fn a_swap_that_fails_leaves_nothing_and_no_container() {
    if !ready("failing swaps") {
        return;
    }
    let podman = Podman::pulled(Program::Hooked);
    let stage = "precreate";
    podman.stopped(stage, NOT_SEALED, &["C07"], &RUN);
    let output = podman.try_prepare(APP, &signed(APP, common::stranger()));
    assert!(!output.status.success());
    podman.prepare(APP);
    podman.starts(APP);
    std::fs::remove_file(podman.host.inside("/etc/layerseal/policy.toml")).unwrap();
    podman.stopped(stage, 5, &["F03"], &RUN);
    podman.policy(&default_policy());
    // Somebody is in the container's root.
    podman.ok(&["create", "--name", "c", APP, "true"]);
    let merged = podman.ok(&["mount", "c"]);
    let script = format!("cd {} && echo $$ >/var/tmp/pid && exec sleep 1000", merged.trim());
    let mut sleeper = podman.host.command("sh", &["-c", &script]).spawn().unwrap();
    // Written by one who is there.
    let pid = podman.host.inside("/var/tmp/pid");
    support::eventually("cd", || std::fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n')));
    let output = podman.run(&["start", "-a", "c"]);
    assert!(!output.status.success());
    assert_eq!(podman.last(stage), ("refused".into(), "O06".into()), "{}", text(&output));
    podman.host.sh("kill $(cat /var/tmp/pid)");
    let _ = sleeper.wait();
    // podman counts two mounts of it by now, and that is one.
    podman.ok(&["start", "-a", "c"]);
    podman.ok(&["umount", "-f", "c"]);
    podman.ok(&["rm", "-f", "c"]);
    podman.starts(APP);
    // The writable layer was filled while nobody looked.
    podman.policy(&default_policy().replace("[default]\n", "[default]\nupper = \"empty\"\n"));
    podman.ok(&["create", "--name", "c", APP, "true"]);
    let upper = podman.ok(&["inspect", "--format", "{{.GraphDriver.Data.UpperDir}}", "c"]);
    podman.host.sh(&format!("mkdir -p {}/usr/bin; echo evil >{}/usr/bin/true", upper.trim(), upper.trim()));
    assert!(!podman.run(&["start", "-a", "c"]).status.success());
    assert_eq!(podman.last(stage), ("refused".into(), "M01".into()));
    podman.ok(&["rm", "-f", "c"]);
    assert_eq!(podman.container_mounts(), [""; 0]);
}

#[test]
fn refusals_are_in_the_journal_with_all_that_is_known() {
    if !ready("the journal") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    podman.host.sh("mkdir -p /run/systemd/journal");
    let journal = UnixDatagram::bind(podman.host.inside("/run/systemd/journal/socket")).unwrap();
    journal.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    let records = || {
        let (mut records, mut buffer) = (Vec::new(), [0; 16 << 10]);
        while let Ok(n) = journal.recv(&mut buffer) {
            records.push(String::from_utf8_lossy(&buffer[..n]).into_owned());
            journal.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
        }
        records.retain(|r| r.contains("SYSLOG_IDENTIFIER=layerseal\n"));
        records
    };
    podman.ok(&RUN);
    let said = records();
    let [precreate, create] = &said[..] else { panic!("{said:?}") };
    let fingerprint =
        openssl::hash::hash(openssl::hash::MessageDigest::sha256(), &common::signer().cert.to_der().unwrap());
    let fingerprint: String = fingerprint.unwrap().iter().map(|b| format!("{b:02x}")).collect();
    for (record, stage) in [(precreate, "precreate"), (create, "createRuntime")] {
        for field in [
            "MESSAGE_ID=2cea94d830cc473c98bce2808006f042".to_owned(),
            "LAYERSEAL_DECISION=allowed".into(),
            format!("LAYERSEAL_IMAGE={APP}"),
            "LAYERSEAL_DIGEST=sha256:".into(),
            format!("LAYERSEAL_CERT_SHA256={fingerprint}"),
            format!("LAYERSEAL_STAGE={stage}"),
            "LAYERSEAL_CONTAINER=".into(),
        ] {
            assert!(record.contains(&field), "{field}: {record}");
        }
    }
    assert!(!podman.run(&["run", "--rm", "-v", "/var/tmp:/usr/share/v", APP, "true"]).status.success());
    let said = records();
    let refused = said.iter().find(|r| r.contains("LAYERSEAL_DECISION=refused")).unwrap();
    for field in [
        "MESSAGE_ID=508f57f1a9d04668a6d5faaa35c7f67e",
        "LAYERSEAL_CASE=O04",
        "LAYERSEAL_DIGEST=sha256:",
        "PRIORITY=3",
        "/usr/share/v",
        &fingerprint,
    ] {
        assert!(refused.contains(field), "{field}: {refused}");
    }
}

/// Nothing is enforced: a record that we do not understand and podman does, and a mount that the kernel refuses us, stop
/// no container. What would have been refused is on record.
#[test]
fn audit_starts_what_cannot_be_found_out_or_mounted() {
    if !ready("audit") {
        return;
    }
    let audit = "version = 1\n[default]\nmode = \"audit\"\ntrust = [\"acme\"]\nverity = \"off\"\n";
    let off = "version = 1\n[default]\nmode = \"off\"\n";
    let enforces = format!("{audit}[[rule]]\nimage = \"other.example/*\"\nmode = \"enforce\"\n");
    for program in [Program::Hooked, Program::Guarded] {
        let podman = Podman::new(program);
        podman.policy(audit);
        podman.starts(APP);
        assert_eq!(podman.last("createRuntime").0, "allowed", "{program:?}");
        // Go takes both for one key, and the last counts.
        let _kept = crate::refusals::edit_json(&podman, "overlay-images/images.json", |all| {
            for image in all {
                image["Names"] = image["names"].clone();
            }
        });
        let case = || podman.last("createRuntime");
        podman.starts(APP);
        let (decision, why) = case();
        assert!(decision == "audit" && why.starts_with('B'), "{program:?}: {decision} {why}");
        podman.policy(off);
        podman.starts(APP);
        podman.policy(&enforces);
        assert!(!podman.run(&RUN).status.success(), "{program:?}: it may be what must be sealed");
        podman.policy(audit);
        podman.host.write("/etc/layerseal/deny.d/some.list", format!("sha256:{}\n", "0".repeat(64)));
        assert!(!podman.run(&RUN).status.success(), "{program:?}: it may be what is denied");
    }
    if std::process::Command::new("strace").arg("--version").output().is_err() {
        support::skip!("mounts that fail: needs strace");
    }
    // The kernel says no to the first thing that we mount.
    let wrapper = "#!/bin/sh\nif [ -e /run/refused ]; then exec LAYERSEAL \"$@\"; fi\n: >/run/refused\n\
        exec strace -qqq -o /run/trace -e trace=fsopen -e inject=fsopen:error=EPERM:when=1 LAYERSEAL \"$@\"\n"
        .replace("LAYERSEAL", &common::binary().display().to_string());
    for program in [Program::Hooked, Program::Layerseal] {
        let podman = Podman::new(program);
        podman.host.write("/var/tmp/refused", &wrapper);
        podman.host.sh("chmod +x /var/tmp/refused");
        let binary = common::binary().display().to_string();
        match program {
            Program::Hooked => {
                podman.host.sh(&format!("sed -i 's|{binary}|/var/tmp/refused|' /etc/containers/hooks/precreate.json"));
            }
            _ => podman.storage_conf(Some("/var/tmp/refused"), ""),
        }
        let said = podman.run(&RUN);
        assert!(!said.status.success(), "{program:?}: enforce");
        podman.run(&["rm", "-fa"]);
        podman.host.sh("rm /run/refused");
        podman.policy(audit);
        let show = "cat /usr/share/one | wc -c; ls -A /etc; echo x >/etc/made; cat /etc/made";
        let args = ["run", "--name", "c", APP, "sh", "-c", show];
        let output = podman.run(&args);
        assert!(output.status.success(), "{program:?}: {}", text(&output));
        assert!(podman.host.sh("cat /run/trace").contains("EPERM"), "{program:?}: nothing was refused");
        let seen = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            seen.starts_with("5000\n") && seen.contains("opaque") && seen.ends_with("\nx\n"),
            "{program:?}: {seen}"
        );
        // Once more, as it should be: it is its own writable layer.
        let again = podman.ok(&["start", "-a", "c"]);
        assert!(again.ends_with("\nx\n") && again.contains("\nmade\n"), "{program:?}: {again}");
    }
}
