//! PKCS#7 signatures, certificates and trust stores, attacked case by case.

mod anchors;
mod certificates;
mod corpus;
#[path = "../common/ecdsa.rs"]
mod ecdsa;
mod forge;
mod openssl_cli;
mod profile;
mod sign;
mod support;
mod sweep;
mod trust;
mod vectors;
mod verify;
