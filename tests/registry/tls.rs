//! C10: certificates of registries.

use std::process::Command;

use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod, SslVerifyMode};

use crate::common::{Bench, Run, two_layers};
use crate::gateway::{Do, Gateway};
use crate::tools::Site;

/// A certificate authority, a server's certificate for `name`, and one of a client.
fn certificates(bench: &Bench, name: &str) {
    let script = format!(
        "set -e; cd '{}'; mkdir -p tls
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout tls/ca.key -out tls/ca.crt
        for who in server client; do
            openssl req -newkey rsa:2048 -nodes -subj /CN=$who -keyout tls/$who.key -out tls/$who.csr
            echo 'subjectAltName={name}' >tls/ext
            openssl x509 -req -in tls/$who.csr -CA tls/ca.crt -CAkey tls/ca.key -CAcreateserial -days 2 \
                -extfile tls/ext -out tls/$who.crt
        done",
        bench.dir.path().display()
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn acceptor(bench: &Bench, wants_client: bool) -> SslAcceptor {
    let mut builder = SslAcceptor::mozilla_intermediate(SslMethod::tls()).unwrap();
    builder.set_private_key_file(bench.path("tls/server.key"), SslFiletype::PEM).unwrap();
    builder.set_certificate_file(bench.path("tls/server.crt"), SslFiletype::PEM).unwrap();
    if wants_client {
        builder.set_ca_file(bench.path("tls/ca.crt")).unwrap();
        builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    }
    builder.build()
}

#[test]
fn c10_certificates_are_checked() {
    let Some(site) = Site::with_api() else { return };
    let bench = Bench::new();
    bench.sealed(&two_layers());
    site.run(&bench, &["push", "oci:image", &format!("docker://{}:v1", site.repository("c/ten")), "--signatures"]).ok();
    certificates(&bench, "IP:127.0.0.1");
    let run = |at: &str, more: &[&str]| {
        let args = [&["verify", at, "--trust", "signer.crt"][..], more].concat();
        Run::of(site.command(&bench, &args).output().unwrap())
    };
    let gateway = Gateway::secure(site, acceptor(&bench, false), |_| Do::Pass);
    let at = format!("docker://{}:v1", gateway.repository("c/ten"));
    run(&at, &[]).refused(7, "C10");
    assert!(gateway.log().is_empty(), "something was asked of a stranger");
    run(&at, &["--tls-verify=false"]).ok();
    std::fs::create_dir(bench.path("certs")).unwrap();
    std::fs::copy(bench.path("tls/ca.crt"), bench.path("certs/ca.crt")).unwrap();
    run(&at, &["--cert-dir", "certs"]).ok();
    assert!(gateway.asked("/referrers/") > 1);
    // As the containers tools find it.
    let place = bench.path(&format!(".config/containers/certs.d/127.0.0.1:{}", gateway.port));
    std::fs::create_dir_all(&place).unwrap();
    std::fs::copy(bench.path("tls/ca.crt"), place.join("ca.crt")).unwrap();
    run(&at, &[]).ok();

    // One that asks who we are.
    let strict = Gateway::secure(site, acceptor(&bench, true), |_| Do::Pass);
    let at = format!("docker://{}:v1", strict.repository("c/ten"));
    assert_eq!(run(&at, &["--cert-dir", "certs"]).code, 7);
    std::fs::copy(bench.path("tls/client.crt"), bench.path("certs/us.cert")).unwrap();
    std::fs::copy(bench.path("tls/client.key"), bench.path("certs/us.key")).unwrap();
    run(&at, &["--cert-dir", "certs"]).ok();

    // A certificate of the right authority for another name.
    certificates(&bench, "DNS:other.example.com");
    let other = Gateway::secure(site, acceptor(&bench, false), |_| Do::Pass);
    let at = format!("docker://{}:v1", other.repository("c/ten"));
    std::fs::remove_file(bench.path("certs/us.cert")).unwrap();
    std::fs::copy(bench.path("tls/ca.crt"), bench.path("certs/ca.crt")).unwrap();
    run(&at, &["--cert-dir", "certs"]).refused(7, "C10");
}

/// The referrers are asked for by a client of our own: it must be as careful as skopeo. Here skopeo gets
/// through, by a registry that it may trust blindly, and we are sent to one that nobody may.
#[test]
fn c10_our_own_client_checks_too() {
    let Some(site) = Site::with_api() else { return };
    let bench = Bench::new();
    bench.sealed(&two_layers());
    let name = site.repository("c/own");
    site.run(&bench, &["push", "oci:image", &format!("docker://{name}:v1"), "--signatures"]).ok();
    certificates(&bench, "IP:127.0.0.1");
    let stranger = Gateway::secure(site, acceptor(&bench, false), |_| Do::Pass);
    let text = format!(
        "[[registry]]\nprefix = \"q.example.com\"\nlocation = \"127.0.0.1:{}\"\ninsecure = true\n\
         [[registry.mirror]]\nlocation = \"127.0.0.1:{}\"\n",
        site.port, stranger.port
    );
    std::fs::create_dir_all(bench.path(".config/containers")).unwrap();
    bench.write(".config/containers/registries.conf", text.as_bytes());
    let run = Run::of(
        site.command(&bench, &["verify", "docker://q.example.com/c/own:v1", "--trust", "signer.crt", "-v"])
            .output()
            .unwrap(),
    )
    .ok();
    assert!(run.stderr.contains("[R-C10]"), "{}", run.stderr);
    assert!(stranger.log().is_empty());
}
