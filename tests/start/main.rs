//! The program as containers-storage runs it, against stores, policies and environments that an attacker
//! has had in his hands. Every test has a mount namespace of its own, with its own `/run` and
//! `/etc/layerseal`; the cases of the attack catalogue that need podman itself are elsewhere, and those
//! that need fs-verity are in the VM's suite.
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../attacks/forge.rs"]
#[allow(dead_code)]
mod forge;

mod a_call;
mod a_process;
mod b_store;
mod f_policy;
mod host;
mod i_mount;
mod j_races;
mod lost;
mod m_upper;
mod names;
mod sandbox;
mod vault;
