//! Where programs that came with an image run: the packages' own scripts and the recipe's commands.
//!
//! Takes a job with its tree as one file (see [`baker_contract::sandbox`]); gives what the steps
//! said and the tree as it is afterwards. Nothing of the host is reachable from inside: no file, no
//! network, no process. There are two runners, and both run the same program as the first process
//! of the same world, so they give the same tree:
//!
//! * [`Namespaces`]: user namespaces of the host's kernel, for root and for users who have
//!   subordinate ids;
//! * [`ThrowawayMachine`]: a QEMU machine that holds everything in memory, for hosts that have no
//!   namespaces to give.
//!
//! Never decides what runs: that is the job's. Never keeps anything: when a run ends, however it
//! does, all that it made is gone.

mod conversation;
mod error;
mod ids;
mod machine;
mod namespaces;

use std::fmt;
use std::path::Path;

use baker_model::Interrupt;

pub use conversation::Hear;
pub use error::SandboxError;
pub use machine::{INITRD_MODULES, ThrowawayMachine};
pub use namespaces::Namespaces;

/// What a runner is given.
#[derive(Clone, Copy)]
pub struct Errand<'a> {
    /// The file with the sections: job and archives.
    pub input: &'a Path,
    /// Ends the work early.
    pub interrupt: &'a Interrupt,
}

/// A place where a job can run.
pub trait Runner {
    /// Which one this is, for the build record.
    fn kind(&self) -> Kind;

    /// Runs the job to its end; `hear` is told of everything, in order.
    ///
    /// # Errors
    /// See [`SandboxError`]. A step that fails is none: `hear` was told of its code.
    fn run(&self, errand: Errand<'_>, hear: &mut dyn Hear) -> Result<(), SandboxError>;
}

/// The two runners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`Namespaces`].
    Namespaces,
    /// [`ThrowawayMachine`].
    Machine,
}

impl Kind {
    /// Its name on the command line and in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Machine => "machine",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
