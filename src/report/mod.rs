//! What we tell people and scripts: refusals, exit codes, progress.

pub mod journal;
pub mod refusal;

pub use refusal::{Case, Class, Refusal, Result, one_line};
