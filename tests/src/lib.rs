//! What the tests of all rooms share: tiny signed archives, a mirror that misbehaves on demand,
//! and a loud way to skip.

pub mod archive;
pub mod bakery;
pub mod cache_server;
pub mod confined;
pub mod deb;
pub mod fixture;
pub mod mirror;
pub mod program;
pub mod servers;
pub mod world;

pub use program::{locked_recipes, tool, workspace};

/// Says on standard error that a test cannot run here and why; with `BAKER_STRICT` set that is a
/// failure instead.
///
/// # Panics
/// When `BAKER_STRICT` is set.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
pub fn skip(test: &str, reason: &str) {
    assert!(
        std::env::var_os("BAKER_STRICT").is_none(),
        "{test} cannot run: {reason}"
    );
    eprintln!("SKIPPED {test}: {reason}");
}
