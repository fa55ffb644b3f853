//! What we tell people and scripts: refusals, exit codes, records in the journal.

mod class;
mod disk;
mod free_space;
pub mod journal;
pub mod refusal;
mod toml;

pub use class::Class;
pub use disk::{is_of_write, write_failed};
pub use free_space::check_room;
pub use refusal::{Case, Refusal, Result, one_line};
pub use toml::in_toml;
