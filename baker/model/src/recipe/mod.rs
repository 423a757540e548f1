//! What a person writes: `recipes/<name>/recipe.toml`.
//!
//! Parsing is strict: an unknown or misspelt key, a wrong type and an impossible value are errors
//! with line, column and, where there is one, the nearest known key.

mod error;
mod format;
mod hygiene;
mod parse;
mod promote;
mod settings;
mod tests_table;
mod update;

pub use error::RecipeError;
pub use format::Format;
pub use hygiene::{Hygiene, HygieneWaive};
pub(crate) use parse::{find_value, text_error};
pub use promote::{CHANNELS, Promote, is_channel_name};
pub use settings::{
    Architecture, Assumed, Boot, Compression, Debian, Directory, Disk, FileEntry, FileSource,
    Group, Kernel, Link, Mode, ModuleWord, Recipe, Root, RootFormat, RootModules, Sbom, Scripts,
    Services, System, User, Waive,
};
pub(crate) use tests_table::check_tests;
pub use update::{KEYRING, Update};
