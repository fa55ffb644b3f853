//! Containers of users by podman's own overlay, with the hooks and the service: precreate puts the service's mount in that
//! overlay's place, and createRuntime compares it with what the service has on record.

use crate::image::FRESH;
use crate::podman::{Podman, Program, default_policy, has_verity};
use crate::ready;
use crate::rootless::{User, text};
use crate::service::{Service, user};

const ROOT: &str = "podman exec m cat /proc/self/mountinfo | head -n 1";

#[test]
fn r_smoke_of_hooks() {
    if !ready("hooks of users") {
        return;
    }
    let podman = Podman::pulled(Program::Native);
    let native = User::new(&podman);
    println!("{}", text(&native.run(&format!("podman run --rm {FRESH} head -n 1 /proc/self/mountinfo"))));
    let podman = Podman::pulled(Program::Hooked);
    let user = user(&podman);
    let _service = Service::new(&podman);
    println!("{}", text(&user.run(&format!("podman run --rm {FRESH} head -n 1 /proc/self/mountinfo || true; cat /run/user/1234/layerseal/hooks/*; ls -lR /run/user/1234/layerseal ~/.local/share/containers/storage/layerseal-notes"))));
    panic!()
}
