//! Group C of docs/attacks.md: what a registry, a mirror or whoever sits in between can send.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use layerseal::digest::BlobDigest;
use serde_json::{Value, json};

use crate::common::{Bench, Layout, Run, two_layers};
use crate::gateway::{Do, Gateway, Request};
use crate::tools::Site;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A sealed image in a repository of its own, and the name of that.
fn pushed(site: &Site, name: &str) -> (Bench, Layout) {
    let bench = Bench::new();
    let layout = bench.sealed(&two_layers());
    let to = format!("docker://{}:v1", site.repository(name));
    site.run(&bench, &["push", "oci:image", &to, "--signatures"]).ok();
    (bench, layout)
}

/// Verifies it by way of a gateway that does `handler`.
fn verify(
    site: Site,
    bench: &Bench,
    name: &str,
    handler: impl Fn(&Request) -> Do + Send + Sync + 'static,
) -> (Run, Gateway) {
    let gateway = Gateway::new(site, handler);
    let at = format!("docker://{}:v1", gateway.repository(name));
    (site.run(bench, &["verify", &at, "--trust", "signer.crt"]), gateway)
}

/// The entry of the image's one seal, from the layout.
fn entry(layout: &Layout) -> Value {
    let index = layout.index();
    index["manifests"].as_array().unwrap().iter().find(|e| e.get("artifactType").is_some()).unwrap().clone()
}

fn index(entries: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
}

/// Entries of seals that are not there.
fn invented(from: usize, to: usize, kind: &str) -> Vec<Value> {
    let entry = |n: usize| {
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": kind,
               "digest": BlobDigest::of(&n.to_le_bytes()).to_string(), "size": 500})
    };
    (from..to).map(entry).collect()
}

const ALONGSIDE: &str = "application/vnd.composefs.erofs-alongside.v1";

#[test]
fn c01_without_the_api_the_fallback_tag_counts() {
    let Some(site) = Site::plain() else { return };
    let (bench, _) = pushed(&site, "c/one");
    for status in [404, 405, 501] {
        let (run, gateway) =
            verify(site, &bench, "c/one", move |r| if r.is("/referrers/") { Do::status(status) } else { Do::Pass });
        run.ok();
        assert!(gateway.asked("/referrers/") > 0 && gateway.asked("/manifests/sha256-") > 0);
    }
    // An API that fails is not one that is not there; the tag still counts, and without it nothing is known.
    let broken = |r: &Request| if r.is("/referrers/") { Do::status(500) } else { Do::Pass };
    verify(site, &bench, "c/one", broken).0.ok();
    let both = |r: &Request| match r {
        r if r.is("/referrers/") => Do::status(500),
        r if r.is("/manifests/sha256-") => Do::status(404),
        _ => Do::Pass,
    };
    verify(site, &bench, "c/one", both).0.refused(7, "C17");
    let tag = |r: &Request| if r.is("/manifests/sha256-") { Do::status(502) } else { Do::Pass };
    verify(site, &bench, "c/one", tag).0.refused(7, "C17");
}

/// GitLab's registry takes the fallback tag for the digest that is in it.
#[test]
fn c20_a_registry_that_answers_the_tag_with_the_image_lists_no_seals() {
    let Some(site) = Site::plain() else { return };
    let gateway = Gateway::new(site, |r| match r {
        r if r.is("/referrers/") => Do::status(404),
        r if r.method != "PUT" && r.is("/manifests/sha256-") => {
            let mut other = r.clone();
            other.path = r.path.replace("/sha256-", "/sha256:");
            Do::Raw(other.again())
        }
        _ => Do::Pass,
    });
    let bench = Bench::new();
    bench.sealed(&two_layers());
    let at = format!("docker://{}:v1", gateway.repository("c/twenty"));
    site.run(&bench, &["push", "oci:image", &at]).ok();
    site.run(&bench, &["verify", &at, "--trust", "signer.crt"]).refused(3, "C07");
    let sign = ["sign", &at, "--cert", "signer.crt", "--key", "signer.key"];
    let refused = site.run(&bench, &sign).refused(6, "C20");
    assert!(refused.stderr.contains("this registry lists no seals") && refused.stderr.contains("--output oci:DIR"));
    site.run(&bench, &[&sign[..], &["--output", "oci:seals"]].concat()).ok();
    site.run(&bench, &["verify", &at, "--trust", "signer.crt", "--seal", "oci:seals"]).ok();
}

#[test]
fn c02_lists_have_an_end() {
    let Some(site) = Site::with_api() else { return };
    let (bench, layout) = pushed(&site, "c/two");
    let good = entry(&layout);
    // As many of other kinds as are looked at hide nothing; one more is too many.
    for (others, accepted) in [(9_999, true), (10_000, false)] {
        let all = [invented(0, others, "application/spdx+json"), vec![good.clone()]].concat();
        let body = index(&all).to_string();
        let (run, _) =
            verify(site, &bench, "c/two", move |r| if r.is("/referrers/") { Do::json(&body) } else { Do::Pass });
        if accepted {
            run.ok()
        } else {
            run.refused(4, "C02")
        };
    }
    // More seals than anybody makes.
    let body = index(&invented(0, 65, ALONGSIDE)).to_string();
    let seals = move |r: &Request| if r.is("/referrers/") { Do::json(&body) } else { Do::Pass };
    verify(site, &bench, "c/two", seals).0.refused(4, "C02");
    // Page after page, each with a link to another.
    let page = AtomicUsize::new(0);
    let body = index(&[]).to_string();
    let (run, gateway) = verify(site, &bench, "c/two", move |r| {
        if !r.is("/referrers/") {
            return Do::Pass;
        }
        let next = page.fetch_add(1, Ordering::Relaxed);
        let link = format!("<{}&n={next}>; rel=\"next\"", r.path.split("&n=").next().unwrap());
        Do::Say(200, vec![("Content-Type", INDEX.into()), ("Link", link)], body.clone().into_bytes())
    });
    run.refused(4, "C02");
    assert_eq!(gateway.asked("/referrers/"), 100);
}

/// All pages count, however the link is written.
#[test]
fn c02_every_page_is_read() {
    let Some(site) = Site::with_api() else { return };
    let (bench, layout) = pushed(&site, "c/pages");
    let good = index(&[entry(&layout)]).to_string();
    for form in ["?page=2", "/v2/c/pages/referrers/IMAGE?page=2", "http://HOST/v2/c/pages/referrers/IMAGE?page=2"] {
        let (good, image) = (good.clone(), layout.digest.to_string());
        let (run, gateway) = verify(site, &bench, "c/pages", move |r| match r {
            r if r.is("page=2") => Do::json(&good),
            r if r.is("/referrers/") => {
                let link = form.replace("IMAGE", &image).replace("HOST", r.header("host").unwrap());
                let links = format!("</first>; rel=\"first\", <{link}>; rel=\"next\"");
                Do::Say(200, vec![("Link", links)], index(&[]).to_string().into_bytes())
            }
            _ => Do::Pass,
        });
        run.ok();
        assert_eq!(gateway.asked("page=2"), 1, "{form}");
    }
}

/// Legal forms that few registries use, and one that nobody can read.
#[test]
fn c02_links_are_read_in_every_form() {
    let Some(site) = Site::with_api() else { return };
    let (bench, layout) = pushed(&site, "c/links");
    let good = index(&[entry(&layout)]).to_string();
    let ask = |link: String| {
        let good = good.clone();
        verify(site, &bench, "c/links", move |r| match r {
            r if r.is("page2=1") => Do::json(&good),
            r if r.is("/referrers/") => Do::Say(200, vec![("Link", link.clone())], index(&[]).to_string().into_bytes()),
            r if r.is("/manifests/sha256-") => Do::status(404),
            _ => Do::Pass,
        })
    };
    let path = format!("/v2/c/links/referrers/{}?page2=1", layout.digest);
    for link in [
        format!("<{path}&last=a,b>; rel=\"next\""),
        format!("<{path}>; rel=\"next last\""),
        format!("<{path}>; Rel=\"next\""),
        format!("<{path}>; rel=\"NEXT\""),
        format!("<{path}>;rel = \"next\""),
        format!("</first>; title=\"a, <b>; rel=next\"; rel=first , <{path}> ; rel=next"),
        format!("<{path}>; title=\";\"; rel=\"next\""),
    ] {
        let (run, gateway) = ask(link.clone());
        run.ok();
        assert_eq!(gateway.asked("page2=1"), 1, "{link}");
    }
    // No page is the last one because of words that cannot be read.
    for link in [format!("<{path}; rel=next"), format!("<{path}>; rel=\"next"), format!("{path}; rel=next")] {
        ask(link).0.refused(7, "C17");
    }
    // The last page is one.
    ask("</first>; rel=first".into()).0.refused(3, "C07");
}

/// A page that does not come takes nothing from those that came, and is not one without seals.
#[test]
fn c02_pages_that_came_are_used() {
    let Some(site) = Site::with_api() else { return };
    let (bench, layout) = pushed(&site, "c/missing");
    let ask = |entries: Vec<Value>, last: fn() -> Do| {
        let first = index(&entries).to_string();
        verify(site, &bench, "c/missing", move |r| match r {
            r if r.is("page=2") => last(),
            r if r.is("/referrers/") => {
                Do::Say(200, vec![("Link", "<?page=2>; rel=next".into())], first.clone().into_bytes())
            }
            r if r.is("/manifests/sha256-") => Do::status(404),
            _ => Do::Pass,
        })
        .0
    };
    for last in [|| Do::status(500), || Do::json("{}"), || Do::Raw(b"HTTP/1.1 200 OK\r\n".to_vec())] {
        ask(vec![entry(&layout)], last).ok();
        let none = ask(vec![], last);
        assert!(none.code == 7 || none.stderr.contains("D14"), "{} {}", none.code, none.stderr);
    }
    // An entry that is no seal is no answer either.
    let image = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": layout.digest.to_string(), "size": 500});
    ask(vec![image], || Do::status(500)).refused(7, "C17");
}

#[test]
fn c03_answers_have_a_size() {
    let Some(site) = Site::with_api() else { return };
    let (bench, layout) = pushed(&site, "c/three");
    let endless = |r: &Request| if r.is("/referrers/") { Do::Endless } else { Do::Pass };
    verify(site, &bench, "c/three", endless).0.refused(7, "C03");
    // A manifest without end, and a signature of another size than it says.
    let seal = entry(&layout)["digest"].as_str().unwrap().to_owned();
    let manifest = seal.clone();
    let (run, _) = verify(site, &bench, "c/three", move |r| {
        if r.method == "GET" && r.is(&format!("/manifests/{manifest}")) { Do::Endless } else { Do::Pass }
    });
    assert!([4, 7].contains(&run.code), "{}", run.stderr);
    let artifact: Value = serde_json::from_slice(&layout.read(&seal)).unwrap();
    let layers = artifact["layers"].as_array().unwrap();
    let signature = layers.last().unwrap()["digest"].as_str().unwrap().to_owned();
    for longer in [true, false] {
        let mut bytes = layout.read(&signature);
        if longer {
            bytes.push(0)
        } else {
            bytes.truncate(10)
        }
        let name = signature.clone();
        let (run, _) = verify(site, &bench, "c/three", move |r| {
            let wanted = r.method == "GET" && r.is(&format!("/blobs/{name}"));
            if wanted { Do::Say(200, vec![], bytes.clone()) } else { Do::Pass }
        });
        run.refused(4, "C04");
    }
    // A seal that says it is larger than any.
    let mut huge = artifact.clone();
    huge["layers"][0]["size"] = json!(2_u64 << 30);
    let (bytes, digest) = (huge.to_string().into_bytes(), BlobDigest::of(huge.to_string().as_bytes()).to_string());
    let body = index(&[json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": ALONGSIDE,
        "digest": digest, "size": bytes.len()})]);
    let (run, _) = verify(site, &bench, "c/three", move |r| match r {
        r if r.is("/referrers/") => Do::json(&body),
        r if r.is(&digest) => {
            Do::Say(200, vec![("Content-Type", "application/vnd.oci.image.manifest.v1+json".into())], bytes.clone())
        }
        _ => Do::Pass,
    });
    run.refused(7, "C03");
}

#[test]
fn c04_bytes_are_those_of_their_digest() {
    for site in Site::all() {
        let (bench, layout) = pushed(&site, "c/four");
        let config = layout.manifest["config"]["digest"].as_str().unwrap().to_owned();
        let layer = layout.manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
        for digest in [config, layer.clone()] {
            let mut bytes = layout.read(&digest);
            *bytes.last_mut().unwrap() ^= 1;
            let name = digest.clone();
            let (run, gateway) = verify(site, &bench, "c/four", move |r| {
                let wanted = r.method == "GET" && r.is(&format!("/blobs/{name}"));
                if wanted { Do::Say(200, vec![], bytes.clone()) } else { Do::Pass }
            });
            let at = format!("docker://{}:v1", gateway.repository("c/four"));
            let whole = site.run(&bench, &["verify", &at, "--trust", "signer.crt", "--layers"]);
            whole.refused(4, "C04");
            if digest == layer {
                // The signed statement names it, and nothing is run from here.
                let said = run.ok().stdout;
                assert!(said.contains("layers were not read"), "{said}");
                site.run(&bench, &["verify", &at]).refused(4, "C04");
            } else {
                run.refused(4, "C04");
            }
            site.run(&bench, &["pull", &at, "--name", "bad"]).refused(4, "C04");
            let left = bench.vault_files();
            assert!(!left.iter().any(|f| f.starts_with("images/") || f.starts_with("tags/")), "{left:?}");
        }
        // The manifest itself, asked for by its digest.
        let image = layout.digest.to_string();
        let (mut bytes, name) = (layout.read(&image), image.clone());
        bytes.push(b' ');
        let gateway = Gateway::new(site, move |r| {
            let kind = ("Content-Type", "application/vnd.oci.image.manifest.v1+json".to_owned());
            if r.is(&format!("/manifests/{name}")) { Do::Say(200, vec![kind], bytes.clone()) } else { Do::Pass }
        });
        let at = format!("docker://{}@{image}", gateway.repository("c/four"));
        site.run(&bench, &["verify", &at, "--trust", "signer.crt"]).refused(4, "C04");
    }
}

/// What the registry says the digest is makes no difference: bytes are hashed.
#[test]
fn c05_a_digest_in_a_header_is_not_believed() {
    let Some(site) = Site::plain() else { return };
    let (bench, layout) = pushed(&site, "c/five");
    let lie = format!("Docker-Content-Digest: sha256:{}", "0".repeat(64));
    let (image, other) = (layout.digest.to_string(), lie.clone());
    let (run, _) = verify(site, &bench, "c/five", move |r| {
        if r.method != "GET" || !r.is("/manifests/") || r.is("sha256-") {
            return Do::Pass;
        }
        let answer = String::from_utf8(r.pass()).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let head: Vec<&str> =
            head.lines().filter(|l| !l.to_ascii_lowercase().starts_with("docker-content-digest")).collect();
        Do::Raw(format!("{}\r\n{other}\r\n\r\n{body}", head.join("\r\n")).into_bytes())
    });
    // Either the tools between notice the lie, or we go by the bytes; nobody goes by the header.
    match run.code {
        0 => assert!(run.stdout.contains(&image), "{}", run.stdout),
        _ => drop(run.refused(4, "C04")),
    }
}

/// Bad seals beside a good one: a list of the registry's own, with something for every taste in it.
#[test]
fn c06_one_bad_seal_does_not_hide_a_good_one() {
    for site in Site::all() {
        let (bench, layout) = pushed(&site, "c/six");
        let at = format!("docker://{}:v1", site.repository("c/six"));
        let good = entry(&layout);
        let artifact: Value = serde_json::from_slice(&layout.read(good["digest"].as_str().unwrap())).unwrap();
        let mut about_another = artifact.clone();
        about_another["subject"]["digest"] = json!(BlobDigest::of(b"other").to_string());
        let mut one_missing = artifact.clone();
        one_missing["layers"].as_array_mut().unwrap().pop();
        // A blob that cannot be had: skopeo is started again for the next seal.
        let mut not_there = artifact.clone();
        not_there["layers"][0]["digest"] = json!(BlobDigest::of(b"nowhere").to_string());
        let bad = [about_another.to_string(), one_missing.to_string(), "{".into(), not_there.to_string()];
        let mut entries = invented(0, 1, ALONGSIDE);
        entries.extend(bad.iter().map(|text| {
            json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": ALONGSIDE,
                   "digest": BlobDigest::of(text.as_bytes()).to_string(), "size": text.len()})
        }));
        entries.push(
            json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:../../x", "size": 1}),
        );
        entries.push(good);
        let list = index(&entries);
        let handler = move |r: &Request| {
            if r.is("/referrers/") || r.is("/manifests/sha256-") {
                return Do::json(&list);
            }
            let found = bad.iter().find(|text| r.is(&BlobDigest::of(text.as_bytes()).to_string()));
            let kind = ("Content-Type", "application/vnd.oci.image.manifest.v1+json".to_owned());
            found.map_or(Do::Pass, |text| Do::Say(200, vec![kind], text.as_bytes().to_vec()))
        };
        let (run, _) = verify(site, &bench, "c/six", handler);
        let run = run.ok();
        assert!(run.stderr.matches("left behind").count() >= 4, "{}", run.stderr);
        site.run(&bench, &["verify", &at, "--trust", "signer.crt"]).ok();
    }
}

/// C07, C08: a registry that keeps the seals from us gives no image.
#[test]
fn c08_a_registry_without_seals_gives_no_image() {
    for site in Site::all() {
        let (bench, _) = pushed(&site, "c/eight");
        let strip = |r: &Request| match r {
            r if r.is("/referrers/") => Do::json(json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []})),
            r if r.is("/manifests/sha256-") => Do::status(404),
            _ => Do::Pass,
        };
        let (run, gateway) = verify(site, &bench, "c/eight", strip);
        run.refused(3, "C07");
        let at = format!("docker://{}:v1", gateway.repository("c/eight"));
        site.run(&bench, &["pull", &at, "--trust", "signer.crt", "--require-signature"]).refused(3, "C07");
        assert!(!bench.vault_files().iter().any(|f| f.starts_with("images/")));
    }
}

/// Wherever a registry sends us, we do not go there, and least of all with what it knows us by.
#[test]
fn c09_nobody_is_followed_elsewhere() {
    let Some(site) = Site::with_api() else { return };
    let (bench, layout) = pushed(&site, "c/nine");
    let credentials = json!({"auths": {"127.0.0.1": {"auth": "bmFtZTpzZWNyZXQ="}}});
    let image = layout.digest.to_string();
    for way in ["location", "link", "realm"] {
        let lure = std::sync::Arc::new(Gateway::new(site, |_| Do::json(index(&[]))));
        let (elsewhere, name) = (format!("http://127.0.0.1:{}/v2/c/nine/referrers/{image}", lure.port), way.to_owned());
        let gateway = Gateway::new(site, move |r| {
            if !r.is("/referrers/") {
                return Do::Pass;
            }
            match name.as_str() {
                "location" => Do::Say(307, vec![("Location", elsewhere.clone())], vec![]),
                "link" => {
                    let link = format!("<{elsewhere}>; rel=\"next\"");
                    Do::Say(200, vec![("Link", link)], index(&[]).to_string().into_bytes())
                }
                _ => {
                    let bearer = format!("Bearer realm=\"ftp://127.0.0.1:{}/token\",service=\"x\"", 1);
                    Do::Say(401, vec![("WWW-Authenticate", bearer)], vec![])
                }
            }
        });
        let mut auth = credentials.clone();
        auth["auths"][format!("127.0.0.1:{}", gateway.port)] = auth["auths"]["127.0.0.1"].clone();
        bench.write("auth.json", auth.to_string().as_bytes());
        let at = format!("docker://{}:v1", gateway.repository("c/nine"));
        let run = site.run(&bench, &["verify", &at, "--trust", "signer.crt", "--authfile", "auth.json"]);
        run.refused(7, "C09");
        assert!(lure.log().is_empty(), "{way}: {:?}", lure.log());
    }
    // In circles.
    let circles = |r: &Request| {
        if r.is("/referrers/") { Do::Say(302, vec![("Location", r.path.clone())], vec![]) } else { Do::Pass }
    };
    verify(site, &bench, "c/nine", circles).0.refused(7, "C09");
    // Within the registry it is followed.
    let within = |r: &Request| match r {
        r if r.is("/moved") => Do::Raw({
            let mut moved = r.clone();
            moved.path = moved.path.replace("/moved", "");
            moved.again()
        }),
        r if r.is("/referrers/") => Do::Say(307, vec![("Location", r.path.replace("/v2/c", "/moved/v2/c"))], vec![]),
        _ => Do::Pass,
    };
    verify(site, &bench, "c/nine", within).0.ok();
}

/// A registry that wants to know who we are, and gives tokens.
fn guarded(token: &'static str) -> impl Fn(&Request) -> Do + Send + Sync {
    move |r| {
        let port = r.header("host").unwrap().split(':').nth(1).unwrap().to_owned();
        if r.path.starts_with("/token") {
            return match r.header("authorization") {
                Some("Basic bmFtZTpzZWNyZXQ=") => Do::json(json!({"token": token})),
                _ => {
                    Do::Say(401, vec![], br#"{"errors":[{"code":"UNAUTHORIZED","message":"wrong password"}]}"#.to_vec())
                }
            };
        }
        if r.header("authorization") == Some("Bearer good") {
            return Do::Pass;
        }
        let realm = format!(
            "Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"registry\",scope=\"repository:c/eleven:pull\""
        );
        Do::Say(401, vec![("WWW-Authenticate", realm)], vec![])
    }
}

#[test]
fn c11_tokens_and_passwords() {
    let Some(site) = Site::with_api() else { return };
    let (bench, _) = pushed(&site, "c/eleven");
    let gateway = Gateway::new(site, guarded("good"));
    let at = format!("docker://{}:v1", gateway.repository("c/eleven"));
    let host = format!("127.0.0.1:{}", gateway.port);
    let args = |file: &'static str| ["verify", at.as_str(), "--trust", "signer.crt", "--authfile", file];
    let auth = |entry: Value| json!({"auths": {&host: entry}}).to_string();
    bench.write("good.json", auth(json!({"auth": "bmFtZTpzZWNyZXQ="})).as_bytes());
    bench.write("bad.json", auth(json!({"auth": "bmFtZTp3cm9uZw=="})).as_bytes());
    bench.write("none.json", b"{}");
    bench.write("broken.json", b"{");
    site.run(&bench, &args("good.json")).ok();
    let with_token =
        gateway.log().iter().filter(|r| r.is("/referrers/") && r.header("authorization").is_some()).count();
    assert!(with_token > 0);
    for bad in ["bad.json", "none.json"] {
        let refused = site.run(&bench, &args(bad)).refused(7, "C11");
        assert!(refused.stderr.contains("login") && !refused.stderr.contains("secret"), "{}", refused.stderr);
    }
    assert_ne!(site.run(&bench, &args("broken.json")).code, 0);
    // The usual place counts too, and a helper's word.
    std::fs::create_dir_all(bench.path(".config/containers")).unwrap();
    std::fs::copy(bench.path("good.json"), bench.path(".config/containers/auth.json")).unwrap();
    site.run(&bench, &["verify", &at, "--trust", "signer.crt"]).ok();
    let helpers = json!({"credHelpers": {&host: "test"}}).to_string();
    bench.write(".config/containers/auth.json", helpers.as_bytes());
    let script = |body: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = bench.write("docker-credential-test", format!("#!/bin/sh\n{body}\n").as_bytes());
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let run = || {
        let mut command = site.command(&bench, &["verify", &at, "--trust", "signer.crt", "--tls-verify=false"]);
        command.env("PATH", format!("{}:{}", bench.dir.path().display(), crate::tools::path(site.skopeo)));
        Run::of(command.output().unwrap())
    };
    script("cat >/dev/null; echo '{\"Username\":\"name\",\"Secret\":\"secret\"}'");
    run().ok();
    script("echo 'no such thing' >&2; exit 1");
    assert_eq!(run().code, 7);
    // A registry that wants name and password themselves.
    let basic = Gateway::new(site, |r| match r.header("authorization") {
        Some("Basic bmFtZTpzZWNyZXQ=") => Do::Pass,
        _ => Do::Say(401, vec![("WWW-Authenticate", "Basic realm=\"registry\"".into())], vec![]),
    });
    let at = format!("docker://{}:v1", basic.repository("c/eleven"));
    let entry = json!({"auths": {format!("127.0.0.1:{}", basic.port): {"auth": "bmFtZTpzZWNyZXQ="}}});
    bench.write("basic.json", entry.to_string().as_bytes());
    site.run(&bench, &["verify", &at, "--trust", "signer.crt", "--authfile", "basic.json"]).ok();
    assert!(basic.log().iter().any(|r| r.is("/referrers/") && r.header("authorization").is_some()));
    site.run(&bench, &["verify", &at, "--trust", "signer.crt", "--authfile", "none.json"]).refused(7, "C11");
    // Both in one header, which skopeo does not read, and a token under the second of its names.
    for header in ["Basic realm=\"registry\", TOKEN", "TOKEN, Basic realm=\"registry\"", "Negotiate,TOKEN"] {
        let both = Gateway::new(site, move |r| match (guarded("good")(r), r.path.starts_with("/token")) {
            (Do::Say(401, headers, body), false) if r.is("/referrers/") => {
                let token = headers[0].1.split(",scope").next().unwrap();
                Do::Say(401, vec![("WWW-Authenticate", header.replace("TOKEN", token))], body)
            }
            (Do::Say(200, ..), true) => Do::json(json!({"token": "", "access_token": "good"})),
            (other, _) => other,
        });
        let at = format!("docker://{}:v1", both.repository("c/eleven"));
        let entry = json!({"auths": {format!("127.0.0.1:{}", both.port): {"auth": "bmFtZTpzZWNyZXQ="}}});
        bench.write("both.json", entry.to_string().as_bytes());
        let run = site.run(&bench, &["verify", &at, "--trust", "signer.crt", "--authfile", "both.json"]);
        let asked = both.log().iter().any(|r| r.is("/referrers/") && r.header("authorization") == Some("Bearer good"));
        run.ok();
        assert!(asked, "{header}");
    }
    // A token that is no good any more.
    let expired = Gateway::new(site, guarded("expired"));
    let at = format!("docker://{}:v1", expired.repository("c/eleven"));
    bench.write(
        "expired.json",
        json!({"auths": {format!("127.0.0.1:{}", expired.port): {"auth": "bmFtZTpzZWNyZXQ="}}}).to_string().as_bytes(),
    );
    site.run(&bench, &["verify", &at, "--trust", "signer.crt", "--authfile", "expired.json"]).refused(7, "C11");
}

#[test]
fn c11_a_busy_registry_is_asked_once_more() {
    let Some(site) = Site::with_api() else { return };
    let (bench, _) = pushed(&site, "c/busy");
    let first = AtomicUsize::new(0);
    let (run, _) = verify(site, &bench, "c/busy", move |r| {
        let busy = r.is("/referrers/") && first.fetch_add(1, Ordering::Relaxed) == 0;
        if busy { Do::Say(429, vec![("Retry-After", "1".into())], vec![]) } else { Do::Pass }
    });
    run.ok();
    for after in ["1", "3600"] {
        let start = Instant::now();
        let (run, _) = verify(site, &bench, "c/busy", move |r| {
            if r.is("/referrers/") { Do::Say(429, vec![("Retry-After", after.into())], vec![]) } else { Do::Pass }
        });
        // The fallback tag was not needed and does not exist: nothing else is known.
        run.refused(7, "C17");
        assert!(start.elapsed().as_secs() < 10);
    }
}

/// A mirror that knows less than the registry does not hide what that knows, and one that knows it will do
/// when the registry is away.
#[test]
fn c12_mirrors_are_asked_first_and_not_alone() {
    let Some(site) = Site::with_api() else { return };
    let (bench, _) = pushed(&site, "c/twelve");
    let stale = Gateway::new(site, |r| if r.is("/referrers/") { Do::json(index(&[])) } else { Do::Pass });
    let origin = Gateway::new(site, |_| Do::Pass);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let good = Gateway::new(site, |_| Do::Pass);
    std::fs::create_dir_all(bench.path(".config/containers")).unwrap();
    for (location, mirror, asked) in
        [(format!("127.0.0.1:{}", origin.port), &stale, &origin), (format!("127.0.0.1:{closed}"), &good, &good)]
    {
        let text = format!(
            "[[registry]]\nprefix = \"q.example.com\"\nlocation = \"{location}\"\ninsecure = true\n\
             [[registry.mirror]]\nlocation = \"127.0.0.1:{}\"\ninsecure = true\n",
            mirror.port
        );
        bench.write(".config/containers/registries.conf", text.as_bytes());
        let mut command =
            site.command(&bench, &["verify", "docker://q.example.com/c/twelve:v1", "--trust", "signer.crt"]);
        Run::of(command.output().unwrap()).ok();
        assert!(asked.asked("/referrers/") > 0 && mirror.asked("/referrers/") > 0);
    }
    bench.write(".config/containers/registries.conf", b"[[registry]]\nlocation = \"q.example.com\"\nblocked = true\n");
    let mut command = site.command(&bench, &["verify", "docker://q.example.com/c/twelve:v1", "--trust", "signer.crt"]);
    Run::of(command.output().unwrap()).refused(7, "C17");
}

/// N03: whatever step fails, what is left verifies or is not found; and the same again mends it.
#[test]
fn n03_a_push_that_breaks_off_leaves_nothing_half() {
    let Some(site) = Site::plain() else { return };
    let bench = Bench::new();
    let layout = bench.sealed(&two_layers());
    let seal = entry(&layout)["digest"].as_str().unwrap().to_owned();
    type Breaks = Box<dyn Fn(&Request) -> bool + Send + Sync>;
    let steps: [(&str, Breaks, bool); 4] = [
        ("blob", Box::new(|r: &Request| r.method == "PUT" && r.is("/blobs/uploads/")), false),
        ("seal", Box::new(move |r: &Request| r.method == "PUT" && r.is(&seal)), true),
        ("tag of referrers", Box::new(|r: &Request| r.method == "PUT" && r.is("/manifests/sha256-")), true),
        ("tag", Box::new(|r: &Request| r.method == "PUT" && r.is("/manifests/v1")), true),
    ];
    for (number, (what, breaks, untagged)) in steps.into_iter().enumerate() {
        let name = format!("n/three{number}");
        let gateway = Gateway::new(site, move |r| if breaks(r) { Do::status(500) } else { Do::Pass });
        let through = format!("docker://{}:v1", gateway.repository(&name));
        let run = site.run(&bench, &["push", "oci:image", &through, "--signatures"]);
        assert_eq!(run.code, 7, "{what}: {}", run.stderr);
        drop(gateway);
        let at = format!("docker://{}:v1", site.repository(&name));
        // It has no name yet, and so nobody starts it unsealed.
        site.run(&bench, &["verify", &at, "--trust", "signer.crt"]).refused(8, "C18");
        let by_digest = format!("docker://{}@{}", site.repository(&name), layout.digest);
        let found = site.run(&bench, &["verify", &by_digest, "--trust", "signer.crt"]);
        assert!(
            match what {
                "tag" => found.code == 0,
                _ => [3, 8].contains(&found.code),
            },
            "{what}: {}",
            found.stderr
        );
        assert!(untagged || found.code == 8, "{what}: {}", found.stderr);
        site.run(&bench, &["push", "oci:image", &at, "--signatures"]).ok();
        site.run(&bench, &["verify", &at, "--trust", "signer.crt"]).ok();
    }
}

/// What a mirror makes up does not hide what the registry has: a seal that is not there, or lists without
/// end.
#[test]
fn c12_a_mirror_that_makes_things_up_hides_nothing() {
    let Some(site) = Site::with_api() else { return };
    let (bench, _) = pushed(&site, "c/lies");
    let bogus = index(&invented(0, 1, ALONGSIDE)).to_string();
    let flood = index(&invented(0, 65, ALONGSIDE)).to_string();
    std::fs::create_dir_all(bench.path(".config/containers")).unwrap();
    for list in [bogus, flood] {
        let mirror = Gateway::new(site, move |r| if r.is("/referrers/") { Do::json(&list) } else { Do::Pass });
        let text = format!(
            "[[registry]]\nprefix = \"q.example.com\"\nlocation = \"127.0.0.1:{}\"\ninsecure = true\n\
             [[registry.mirror]]\nlocation = \"127.0.0.1:{}\"\ninsecure = true\n",
            site.port, mirror.port
        );
        bench.write(".config/containers/registries.conf", text.as_bytes());
        let mut command =
            site.command(&bench, &["verify", "docker://q.example.com/c/lies:v1", "--trust", "signer.crt"]);
        Run::of(command.output().unwrap()).ok();
        assert!(mirror.asked("/referrers/") > 0);
    }
}

/// Seals that say they are enormous take nothing from one that is not.
#[test]
fn c06_large_seals_do_not_starve_a_good_one() {
    let Some(site) = Site::with_api() else { return };
    let (bench, layout) = pushed(&site, "c/starve");
    let good = entry(&layout);
    let artifact: Value = serde_json::from_slice(&layout.read(good["digest"].as_str().unwrap())).unwrap();
    let bogus: Vec<String> = (0..6)
        .map(|n: u32| {
            let mut huge = artifact.clone();
            huge["layers"][0]["size"] = json!(1_u64 << 30);
            huge["layers"][0]["digest"] = json!(BlobDigest::of(&n.to_le_bytes()).to_string());
            huge.to_string()
        })
        .collect();
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let mut entries: Vec<Value> = bogus
        .iter()
        .map(|text| {
            json!({"mediaType": kind, "artifactType": ALONGSIDE, "size": text.len(),
                   "digest": BlobDigest::of(text.as_bytes()).to_string()})
        })
        .collect();
    entries.push(good);
    let list = index(&entries);
    let (run, _) = verify(site, &bench, "c/starve", move |r| {
        if r.is("/referrers/") {
            return Do::json(&list);
        }
        let found = bogus.iter().find(|text| r.is(&BlobDigest::of(text.as_bytes()).to_string()));
        found.map_or(Do::Pass, |t| Do::Say(200, vec![("Content-Type", kind.into())], t.as_bytes().to_vec()))
    });
    run.ok();
}

/// A push reads where it writes: what a mirror has, or has not, is not what the registry has.
#[test]
fn n02_a_push_goes_by_the_registry_and_not_by_its_mirror() {
    let (Some(site), Some(other)) = (Site::plain(), Site::with_api()) else { return };
    let bench = Bench::new();
    bench.sealed(&two_layers());
    let at = format!("docker://{}:v1", site.repository("n/mirrored"));
    // The registry has another signer's seal, the mirror has ours already.
    bench.signer("other", crate::common::stranger());
    site.run(&bench, &["push", "oci:image", &at]).ok();
    site.run(&bench, &["sign", &at, "--cert", "other.crt", "--key", "other.key"]).ok();
    site.run(
        &bench,
        &["push", "oci:image", &format!("docker://{}:v1", other.repository("n/mirrored")), "--signatures"],
    )
    .ok();
    let text = format!(
        "[[registry]]\nlocation = \"127.0.0.1:{}\"\ninsecure = true\n\
         [[registry.mirror]]\nlocation = \"127.0.0.1:{}\"\ninsecure = true\n",
        site.port, other.port
    );
    std::fs::create_dir_all(bench.path(".config/containers")).unwrap();
    let conf = bench.write(".config/containers/registries.conf", text.as_bytes());
    site.run(&bench, &["push", "oci:image", &at, "--signatures"]).ok();
    std::fs::remove_file(conf).unwrap();
    for certificate in ["signer.crt", "other.crt"] {
        site.run(&bench, &["verify", &at, "--trust", certificate]).ok();
    }
}

/// A repository may be called anything; its name says nothing of what went wrong.
#[test]
fn names_of_repositories_are_only_names() {
    let Some(site) = Site::plain() else { return };
    let bench = Bench::new();
    bench.sealed(&two_layers());
    for name in ["acme/credential-store", "web/nginx-tls", "q/denied", "a/certificate", "x/unauthorized"] {
        let at = format!("docker://{}:v1", site.repository(name));
        site.run(&bench, &["verify", &at]).refused(8, "C18");
        site.run(&bench, &["push", "oci:image", &at]).ok();
        site.run(&bench, &["verify", &at, "--trust", "signer.crt"]).refused(3, "C07");
        site.run(&bench, &["push", "oci:image", &at, "--signatures"]).ok();
        site.run(&bench, &["verify", &at, "--trust", "signer.crt"]).ok();
    }
    // Nothing to push, nothing pushed; and a place that skopeo cannot name.
    bench.run(&["push", "oci:image", "oci:bare"]).ok();
    let at = format!("docker://{}:v1", site.repository("x/bare"));
    site.run(&bench, &["push", "oci:bare", &at, "--signatures"]).refused(3, "C07");
    site.run(&bench, &["verify", &at]).refused(8, "C18");
    std::fs::create_dir(bench.path("a:b")).unwrap();
    let mut command = site.command(&bench, &["push", "oci:image", &at, "--tls-verify=false"]);
    Run::of(command.env("TMPDIR", bench.path("a:b")).output().unwrap()).refused(2, "A01");
    assert_eq!(std::fs::read_dir(bench.path("a:b")).unwrap().count(), 0);
}
