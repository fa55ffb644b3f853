//! Tells the library which OpenSSL it is compiled for: it is loaded when it is needed, by that name (`sys::openssl`).

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let number = std::env::var("DEP_OPENSSL_VERSION_NUMBER").unwrap_or_default();
    let number = u64::from_str_radix(&number, 16).expect("openssl-sys says which OpenSSL it was built for");
    println!("cargo:rustc-env=LAYERSEAL_OPENSSL={}", number >> 28);
}
