//! The program as containers-storage runs it, against stores, policies and environments that an attacker
//! has had in his hands. Every test has a mount namespace of its own, with its own `/run` and
//! `/etc/layerseal`; the cases of docs/attacks.md that need podman itself are elsewhere, and those
//! that need fs-verity are in the VM's suite.
#![allow(missing_docs)]

mod a_call;
mod a_process;
mod b_store;
mod f_policy;
mod i_mount;
mod j_races;
mod lost;
mod m_upper;
mod names;
mod report;
mod upkeep;
mod vault;
mod vault_place;

use support::{common, disk, forge, host, sandbox, skip};
