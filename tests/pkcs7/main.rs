//! PKCS#7 signatures, certificates and trust stores, attacked case by case.

mod anchors;
mod certificates;
mod corpus;
mod openssl_cli;
mod profile;
mod sign;
mod sweep;
mod trust;
mod vectors;
mod verify;

use support::ecdsa;
use support::pkcs7::{forge, keys};
