//! What we tell people and scripts: refusals, exit codes, progress.

mod disk;
pub mod journal;
pub mod refusal;
mod room;

pub use disk::{is_of_write, write_failed};
pub use refusal::{Case, Class, Refusal, Result, one_line};
pub use room::check_room;
