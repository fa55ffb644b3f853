//! Who asks a registry for what: our own client where skopeo would do the same and no more, and else skopeo.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::common::{Bench, Run, two_layers};
use crate::gateway::{Do, Gateway, Handler, Request};
use crate::tools::Site;

/// Returns whether our own client asks.
fn is_ours(request: &Request) -> bool {
    request.header("user-agent").is_some_and(|agent| agent.starts_with("layerseal/"))
}

fn is_our_blob(request: &Request) -> bool {
    request.is("/blobs/") && is_ours(request)
}

/// A sealed image in the repository `who/asks`.
fn pushed(site: &Site) -> Bench {
    let bench = Bench::new();
    bench.sealed(&two_layers());
    let to = format!("docker://{}:v1", site.repository("who/asks"));
    site.run(&bench, &["push", "oci:image", &to, "--signatures"]).ok();
    bench
}

/// Gives the user a policy.json with these scopes for registries.
fn policy(bench: &Bench, scopes: &Value) {
    let text = json!({"default": [{"type": "insecureAcceptAnything"}], "transports": {"docker": scopes}}).to_string();
    std::fs::create_dir_all(bench.path(".config/containers")).unwrap();
    bench.write(".config/containers/policy.json", text.as_bytes());
}

#[test]
fn blobs_come_by_our_client_or_by_the_proxy() {
    let Some(site) = Site::with_api() else { return };
    let bench = pushed(&site);
    let elsewhere = Arc::new(Gateway::new(site, |_| Do::Pass));
    let moved = format!("http://127.0.0.1:{}", elsewhere.port);
    let ways: [(&str, bool, Box<Handler>); 4] = [
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
        let proxys = blobs.len() - ours;
        match gives_up {
            true => assert!(ours == 1 && proxys > 3, "{what}: {ours} and {proxys}"),
            false => assert!(ours > 3 && proxys == 0, "{what}: {ours} and {proxys}"),
        }
    }
}

/// Where there is a mirror, skopeo knows when to ask whom.
#[test]
fn c12_mirrors_are_left_to_skopeo() {
    let Some(site) = Site::with_api() else { return };
    let bench = pushed(&site);
    let [own, mirror] = [(); 2].map(|()| Gateway::new(site, |_| Do::Pass));
    std::fs::create_dir_all(bench.path(".config/containers")).unwrap();
    for (when, asked) in [("all", &mirror), ("digest-only", &own), ("tag-only", &mirror)] {
        let text = format!(
            "[[registry]]\nprefix = \"q.example.com\"\nlocation = \"127.0.0.1:{}\"\ninsecure = true\n[[registry.mirror]]\n\
             location = \"127.0.0.1:{}\"\ninsecure = true\npull-from-mirror = \"{when}\"\n",
            own.port, mirror.port
        );
        bench.write(".config/containers/registries.conf", text.as_bytes());
        let [before, others] = [&own, &mirror].map(|gateway| gateway.log().len());
        let mut command =
            site.command(&bench, &["verify", "docker://q.example.com/who/asks:v1", "--trust", "signer.crt"]);
        Run::of(command.output().unwrap()).ok();
        let new = [(&own, before), (&mirror, others)].map(|(gateway, before)| gateway.log().split_off(before));
        let ours = |log: &[Request]| log.iter().any(|r| is_ours(r) && !r.is("/referrers/"));
        assert!(!new.iter().any(|log| ours(log)), "{when}");
        let tag = |gateway: &Gateway| gateway.log().iter().filter(|r| r.is("/manifests/v1")).count();
        assert!(tag(asked) > 0, "{when}");
    }
}

/// Whom policy.json says nothing about need not be asked about an image; what it says anything about is skopeo's to judge.
#[test]
fn c19_policy_json_is_asked_where_it_says_anything() {
    for site in Site::all() {
        let bench = pushed(&site);
        let gateway = Gateway::new(site, |_| Do::Pass);
        let name = gateway.repository("who/asks");
        let at = format!("docker://{name}:v1");
        let verify = ["verify", &at, "--trust", "signer.crt"];
        let manifests = || {
            let before = gateway.log().len();
            let run = site.run(&bench, &verify);
            let asked = gateway.log().split_off(before);
            let by = |ours: bool| asked.iter().filter(|r| r.is("/manifests/") && is_ours(r) == ours).count();
            (run, by(true), by(false))
        };
        let (any, reject) = (json!([{"type": "insecureAcceptAnything"}]), json!([{"type": "reject"}]));
        for scopes in [json!({}), json!({"q.example.com": any}), json!({&name: any})] {
            policy(&bench, &scopes);
            let (run, ours, skopeos) = manifests();
            run.ok();
            assert!(ours > 1 && skopeos == 0, "{scopes}: {ours} and {skopeos}");
        }
        policy(&bench, &json!({"q.example.com": reject}));
        let (run, _, skopeos) = manifests();
        run.ok();
        // The image, by tag and by digest, and its seal.
        assert!(skopeos > 2, "{skopeos}");
        for scopes in [json!({&name: reject}), json!({"": reject})] {
            policy(&bench, &scopes);
            manifests().0.refused(5, "C19");
            site.run(&bench, &["pull", &at]).refused(5, "C19");
        }
        // Neither is one that skopeo cannot read taken for one that says nothing.
        bench.write(
            ".config/containers/policy.json",
            b"{\"default\": [{\"type\": \"insecureAcceptAnything\"}], \"x\": 1}",
        );
        let run = manifests().0;
        assert!(run.code != 0 && run.stderr.contains("policy.json"), "{}", run.stderr);
    }
}
