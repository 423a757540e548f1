//! Why a sandbox did not work.

use std::io;
use std::path::PathBuf;

/// A job could not be run to its end; its steps have nothing to do with it.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The host gives no namespaces, or not to this user.
    #[error("this host has no sandbox of namespaces for this user: {why}")]
    NoNamespaces {
        /// What was missing.
        why: String,
    },
    /// A program of the host could not be started.
    #[error("cannot start {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file with the job cannot be read or handed over.
    #[error("cannot hand {} to the sandbox", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The host has not what the machine needs.
    #[error(
        "the machine in which packages' scripts run needs {needed} MiB of memory, and {available} \
         MiB are free"
    )]
    Memory {
        /// What it needs, MiB.
        needed: u64,
        /// What there is, MiB.
        available: u64,
    },
    /// What the sandbox says cannot be understood, or it ended early.
    #[error("the sandbox ended without a result{}", ending(console))]
    Died {
        /// The last lines of its console.
        console: String,
        /// What was wrong with the last message.
        #[source]
        source: io::Error,
    },
    /// The program inside could not do its work.
    #[error("the sandbox does not work: {why}")]
    Broken {
        /// What it could not do.
        why: String,
    },
    /// Whoever heard the messages could not go on.
    #[error("cannot take what the sandbox gives")]
    Taker(#[source] io::Error),
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
}

fn ending(console: &str) -> String {
    match console.trim() {
        "" => String::new(),
        text => format!("; its console ended with:\n{text}"),
    }
}
