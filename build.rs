//! Tells the library which OpenSSL it is compiled for: it is loaded when it is needed, by that name (`sys::openssl`).
//! And has what unwinds linked statically: a library less to load at every start. And `layerseal-runtime` linked without a C library, start-up code and dynamic linker, where that is what is
//! installed: in what is built for tests, panics unwind, which needs them all.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let number = std::env::var("DEP_OPENSSL_VERSION_NUMBER").unwrap_or_default();
    let number = u64::from_str_radix(&number, 16).expect("openssl-sys says which OpenSSL it was built for");
    println!("cargo:rustc-env=LAYERSEAL_OPENSSL={}", number >> 28);

    let is = |name: &str, values: &[&str]| std::env::var(name).is_ok_and(|value| values.contains(&value.as_str()));
    let is_freestanding = is("CARGO_CFG_TARGET_ARCH", &["x86_64", "aarch64"])
        && is("CARGO_CFG_TARGET_POINTER_WIDTH", &["64"])
        && is("PROFILE", &["release"]);
    if is("CARGO_CFG_TARGET_ENV", &["gnu"]) {
        let programs = ["layerseal", "layerseal-runtime"].into_iter().take(if is_freestanding { 1 } else { 2 });
        for program in programs {
            for argument in ["-Wl,-Bstatic,--whole-archive", "-lgcc_eh", "-Wl,--no-whole-archive,-Bdynamic"] {
                println!("cargo:rustc-link-arg-bin={program}={argument}");
            }
        }
    }
    // Addresses that the dynamic linker has to fill in: a bit each, and not 24 bytes.
    if is("CARGO_CFG_TARGET_ENV", &["gnu"]) && is("CARGO_CFG_TARGET_ARCH", &["x86_64"]) {
        println!("cargo:rustc-link-arg-bin=layerseal=-Wl,-z,pack-relative-relocs");
    }
    println!("cargo:rustc-check-cfg=cfg(known_kernel)");
    println!("cargo:rustc-check-cfg=cfg(freestanding)");
    if is("CARGO_CFG_TARGET_ARCH", &["x86_64", "aarch64"]) && is("CARGO_CFG_TARGET_POINTER_WIDTH", &["64"]) {
        println!("cargo:rustc-cfg=known_kernel");
        if is_freestanding {
            println!("cargo:rustc-cfg=freestanding");
            for argument in ["-nostartfiles", "-nostdlib", "-static", "-no-pie"] {
                println!("cargo:rustc-link-arg-bin=layerseal-runtime={argument}");
            }
        }
    }
}
