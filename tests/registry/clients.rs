//! Who asks a registry for what: signatures come by our own client, and by skopeo's proxy where that brings nothing.

use std::sync::Arc;

use crate::common::{Bench, two_layers};
use crate::gateway::{Do, Gateway, Request};
use crate::tools::Site;

/// Returns whether our own client asks, for a blob.
fn is_our_blob(request: &Request) -> bool {
    request.is("/blobs/") && request.header("user-agent").is_some_and(|agent| agent.starts_with("layerseal/"))
}

#[test]
fn signatures_come_by_our_client_or_by_the_proxy() {
    let Some(site) = Site::with_api() else { return };
    let bench = Bench::new();
    bench.sealed(&two_layers());
    let to = format!("docker://{}:v1", site.repository("who/asks"));
    site.run(&bench, &["push", "oci:image", &to, "--signatures"]).ok();
    let elsewhere = Arc::new(Gateway::new(site, |_| Do::Pass));
    let moved = format!("http://127.0.0.1:{}", elsewhere.port);
    type Handler = Box<dyn Fn(&Request) -> Do + Send + Sync>;
    let ways: [(&str, bool, Handler); 4] = [
        ("passed on", false, Box::new(|_| Do::Pass)),
        (
            "moved",
            true,
            Box::new(move |r| match r.is("/blobs/") {
                true => Do::Say(307, vec![("Location", format!("{moved}{}", r.path))], vec![]),
                false => Do::Pass,
            }),
        ),
        (
            "other bytes",
            true,
            Box::new(|r| if is_our_blob(r) { Do::Say(200, vec![], b"x".to_vec()) } else { Do::Pass }),
        ),
        ("an error", true, Box::new(|r| if is_our_blob(r) { Do::status(500) } else { Do::Pass })),
    ];
    for (what, gives_up, handler) in ways {
        let gateway = Gateway::new(site, handler);
        let at = format!("docker://{}:v1", gateway.repository("who/asks"));
        site.run(&bench, &["verify", &at, "--trust", "signer.crt"]).ok();
        let blobs: Vec<Request> = gateway.log().into_iter().filter(|r| r.method == "GET" && r.is("/blobs/")).collect();
        let ours = blobs.iter().filter(|r| is_our_blob(r)).count();
        // The proxy brings the image's config in any case.
        let proxys = blobs.len() - ours;
        match gives_up {
            true => assert!(ours == 1 && proxys > 2, "{what}: {ours} and {proxys}"),
            false => assert!(ours > 2 && proxys == 1, "{what}: {ours} and {proxys}"),
        }
    }
    // Where there is a mirror, skopeo knows whom to ask.
    let mirror = Gateway::new(site, |_| Do::Pass);
    std::fs::create_dir_all(bench.path(".config/containers")).unwrap();
    let text = format!(
        "[[registry]]\nprefix = \"q.example.com\"\nlocation = \"127.0.0.1:{}\"\ninsecure = true\n\
         [[registry.mirror]]\nlocation = \"127.0.0.1:{}\"\ninsecure = true\n",
        elsewhere.port, mirror.port
    );
    bench.write(".config/containers/registries.conf", text.as_bytes());
    let at = "docker://q.example.com/who/asks:v1";
    let mut command = site.command(&bench, &["verify", at, "--trust", "signer.crt"]);
    crate::common::Run::of(command.output().unwrap()).ok();
    assert!(mirror.asked("/blobs/") > 2 && !mirror.log().iter().any(is_our_blob));
}
