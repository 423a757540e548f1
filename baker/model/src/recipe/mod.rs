//! What a person writes: `recipes/<name>/recipe.toml`.
//!
//! Parsing is strict: an unknown or misspelt key, a wrong type and an impossible value are errors
//! with line, column and, where there is one, the nearest known key.

mod accounts;
mod credential;
mod debian;
mod disk;
mod entries;
mod error;
pub mod family;
mod format;
mod hygiene;
mod network;
mod parse;
mod promote;
mod root;
mod run;
mod schema;
mod settings;
#[cfg(test)]
mod settings_tests;
mod snippet;
mod system;
mod tests_table;
mod update;

pub use accounts::{AUTHORIZED_KEYS, Group, User};
pub use credential::{Credential, SSH_KEYS};
pub use debian::{Assumed, Debian, Preseed, Scripts, Waive};
pub use disk::{DATA_KEY, Data, DataFormat, Disk, Encryption};
pub use entries::{Directory, FileEntry, FileSource, Link, Mode};
pub use error::RecipeError;
pub use format::Format;
pub use hygiene::{Hygiene, HygieneWaive};
pub use network::{Dhcp, Network, Resolver};
pub use parse::is_name;
pub(crate) use parse::{find_value, text_error};
pub use promote::{CHANNELS, Promote, is_channel_name};
pub use root::{Compression, Root, RootFormat};
pub use run::{Input, Output, Run, Stage};
pub use schema::schema;
pub use settings::{Architecture, Boot, Kernel, ModuleWord, Profiles, Recipe, RootModules, Sbom};
pub use snippet::{Modules, Snippet, SysctlValue};
pub use system::{BUILT_IN, CERTIFICATES, Services, System};
pub(crate) use tests_table::check_tests;
pub use update::{KEYRING, Update};
