//! What we tell people and scripts: refusals, exit codes, progress.

mod disk;
pub mod journal;
pub mod refusal;

pub use disk::{check_room, is_of_write, write_failed};
pub use refusal::{Case, Class, Refusal, Result, one_line};
