//! Tells the library which OpenSSL it is compiled for: it is loaded when it is needed, by that name (`sys::openssl`).
//! Has the programs linked with no library but the C library, for one more takes time at every start. And has
//! `layerseal-runtime` linked without a C library, start-up code and dynamic linker, where that is what is installed: in
//! what is built for tests, panics unwind, which needs them all.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let number = std::env::var("DEP_OPENSSL_VERSION_NUMBER").unwrap_or_default();
    let number = u64::from_str_radix(&number, 16).expect("openssl-sys says which OpenSSL it was built for");
    println!("cargo:rustc-env=LAYERSEAL_OPENSSL={}", number >> 28);

    let is = |name: &str, values: &[&str]| std::env::var(name).is_ok_and(|value| values.contains(&value.as_str()));
    let link = |program: &str, arguments: &[&str]| {
        for argument in arguments {
            println!("cargo:rustc-link-arg-bin={program}={argument}");
        }
    };
    let is_known = is("CARGO_CFG_TARGET_ARCH", &["x86_64", "aarch64"]) && is("CARGO_CFG_TARGET_POINTER_WIDTH", &["64"]);
    let is_freestanding = is_known && is("PROFILE", &["release"]);

    if is("CARGO_CFG_TARGET_ENV", &["gnu"]) {
        // What unwinds, for messages of panics.
        let unwinding = ["-Wl,-Bstatic,--whole-archive", "-lgcc_eh", "-Wl,--no-whole-archive,-Bdynamic"];
        link("layerseal", &unwinding);
        if !is_freestanding {
            link("layerseal-runtime", &unwinding);
        }
        if is("PROFILE", &["release"]) {
            // Nothing unwinds there, and a message of a panic is one line: frames would be 480 KB, and their index 70.
            let script =
                std::path::Path::new(&std::env::var_os("OUT_DIR").expect("cargo says where")).join("frames.ld");
            let text = "SECTIONS { /DISCARD/ : { *(.eh_frame) } } INSERT AFTER .text;";
            std::fs::write(&script, text).expect("cargo's own directory can be written");
            link("layerseal", &["-Wl,--no-eh-frame-hdr", &format!("-Wl,-T,{}", script.display())]);
        }
        if is("CARGO_CFG_TARGET_ARCH", &["x86_64"]) {
            // Addresses that the dynamic linker has to fill in: a bit each, and not 24 bytes.
            link("layerseal", &["-Wl,-z,pack-relative-relocs"]);
        }
    }

    println!("cargo:rustc-check-cfg=cfg(known_kernel)");
    println!("cargo:rustc-check-cfg=cfg(freestanding)");
    if is_known {
        println!("cargo:rustc-cfg=known_kernel");
    }
    if is_freestanding {
        println!("cargo:rustc-cfg=freestanding");
        link("layerseal-runtime", &["-nostartfiles", "-nostdlib", "-static", "-no-pie"]);
    }
}
