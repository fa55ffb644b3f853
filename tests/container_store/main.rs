//! Which image a call of a mount program means: stores as podman leaves them, and as an attacker
//! does.
#![allow(missing_docs)]

mod directories;
mod forms;
mod go;
mod lists;
mod real;
mod tamper;

use support::store;
