//! A host, and a registry that has the seal of its image: the store is a real one, the image's name is that of the
//! repository.

use serde_json::json;

use crate::gateway::{Do, Gateway, Request};
use crate::host::{APP, Container, Host, Image, binary, in_dir};
use crate::sandbox::Ran;
use crate::tools::{IMAGE_POLICY, Site, asks_skopeo, tools};

pub const ON_MOUNT: &str = "fetch = \"on-mount\"\n";
pub const ENFORCE: &str = "version = 1\n[default]\nmode = \"enforce\"\ntrust = [\"acme\"]\nverity = \"off\"\n";
pub const AUDIT: &str = "version = 1\n[default]\nmode = \"audit\"\ntrust = [\"acme\"]\nverity = \"off\"\n";

/// A host whose image has its seal in a registry, and nowhere else.
pub struct Scene {
    pub host: Host,
    pub gateway: Gateway,
    /// The image's name without its tag, and its record's.
    pub name: String,
    pub image: Image,
}

impl Scene {
    /// A host without any seal, and a registry that has one for its image.
    pub fn new(
        site: Site,
        repository: &str,
        policy: &str,
        handler: impl Fn(&Request) -> Do + Send + Sync + 'static,
    ) -> Option<Self> {
        let host = Host::bare(policy)?;
        let gateway = Gateway::new(site, handler);
        let name = gateway.repository(repository);
        host.bench.signer("signer", crate::common::signer());
        let there = format!("docker://{}:v1", site.repository(repository));
        site.run(&host.bench, &["push", "oci:app", &there]).ok();
        let sign = ["sign", &there, "--cert", "signer.crt", "--key", "signer.key", "--identity", &name];
        site.run(&host.bench, &sign).ok();
        let image = host.image(APP);
        host.edit("overlay-images/images.json", |all| {
            all.iter_mut()
                .filter(|i| i["id"] == image.id.as_str())
                .for_each(|i| i["names"] = json!([format!("{name}:v1")]));
        });
        let scene = Self { host, gateway, name, image };
        scene.skopeo(site.skopeo);
        let registries = format!("[[registry]]\\nlocation = \"127.0.0.1:{}\"\\ninsecure = true\\n", scene.gateway.port);
        scene.host.sandbox.sh(&format!(
            "mkdir -p /etc/containers/registries.conf.d; printf '{registries}' >/etc/containers/registries.conf.d/test.conf"
        ));
        if asks_skopeo() {
            scene.image_policy();
        }
        Some(scene)
    }

    /// From now on skopeo is asked about every image.
    pub fn image_policy(&self) {
        self.host.sandbox.sh(&format!("printf '%s' '{IMAGE_POLICY}' >/etc/containers/policy.json"));
    }

    /// The skopeo that a program without an environment finds.
    pub fn skopeo(&self, which: &str) {
        let tool = tools().unwrap().join(format!("skopeo-{which}/bin/skopeo"));
        self.host.sandbox.sh(&format!("mount --bind '{}' /usr/bin/skopeo", tool.display()));
    }

    pub fn container(&self, name: &str) -> Container {
        self.host.container(name, &self.image)
    }

    pub fn call(&self, container: &Container) -> Vec<String> {
        vec!["-o".into(), self.host.options(container), self.host.of(&container.layer, "merged")]
    }

    /// Starts it by way of another program.
    pub fn start_by(&self, by: &[&str], container: &Container) -> Ran {
        let mut command = self.host.sandbox.command(by[0]);
        command.args(&by[1..]).arg(binary()).args(self.call(container));
        let mut command = in_dir(&self.host.sandbox, &self.host.root.join("overlay"), command);
        self.host.sandbox.run(&mut command)
    }
}

/// What a gateway does that only listens.
pub fn pass(_: &Request) -> Do {
    Do::Pass
}
