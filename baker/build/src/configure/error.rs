//! What can stop the configure stage.

use std::fmt;
use std::io;

use baker_model::Digest;
use baker_model::tree::{TreeError, TreePathError};

/// The configure stage could not finish; the tree it was given is gone with it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    /// Scripts that nothing covers.
    #[error("{} not covered:{}{}", count(.scripts), Lines(.scripts), WAYS_OUT)]
    Uncovered {
        /// All of them, by package and script.
        scripts: Vec<UncoveredScript>,
    },
    /// The ledger compiled into this baker is broken.
    #[error("cannot read the ledger `{file}`")]
    Ledger {
        /// Which of its files.
        file: &'static str,
        /// What is wrong in it.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// An effect of a ledger entry failed.
    #[error("cannot do what {script} of {package} would do")]
    Effect {
        /// The package.
        package: String,
        /// The script.
        script: &'static str,
        /// What went wrong.
        #[source]
        source: Box<Self>,
    },
    /// A content of the tree cannot be read.
    #[error("cannot read {path} of the tree")]
    Read {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A content cannot be kept.
    #[error("cannot keep the content of {path}")]
    Keep {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A node does not fit into the tree.
    #[error("cannot put {path} into the tree")]
    Put {
        /// The node.
        path: String,
        /// Why not.
        #[source]
        source: TreeError,
    },
    /// Text that should be a path is none.
    #[error("cannot use a path that {place} names")]
    Path {
        /// Who names it.
        place: String,
        /// What is wrong with it.
        #[source]
        source: TreePathError,
    },
    /// Something is needed that the tree does not hold.
    #[error("{path} is needed but not in the tree")]
    Missing {
        /// What is needed.
        path: String,
    },
    /// Something stands in the way.
    #[error("{path} is no {expected}")]
    Unexpected {
        /// The node.
        path: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A configuration file of the tree breaks its own format.
    #[error("{file}, line {line}: {problem}")]
    Syntax {
        /// The file.
        file: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A user or a group that nobody has made.
    #[error("{place} names {kind} `{name}`, which does not exist; add a [[{kind}]] to the recipe")]
    NoAccount {
        /// Who names it.
        place: String,
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// Two accounts want the same.
    #[error("{kind} `{name}` cannot be added: {problem}")]
    Account {
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
        /// What is in the way.
        problem: String,
    },
    /// A unit that is to be enabled, masked or booted to.
    #[error("unit `{unit}`: {problem}")]
    Unit {
        /// The unit.
        unit: String,
        /// What is wrong, and the mend.
        problem: String,
    },
    /// Two slots count boots, and nothing in the root can call one good.
    #[error(
        "slots = 2 counts boots, but {path} is not in the root; add \"systemd-boot\" to [debian] packages"
    )]
    Blessing {
        /// What is missing.
        path: &'static str,
    },
    /// `[update]` is given, and nothing in the root can update the machine.
    #[error(
        "[update] is given, but {path} is not in the root; add \"{package}\" to [debian] packages"
    )]
    Updating {
        /// What is missing.
        path: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// A setting of the recipe that the root cannot have.
    #[error("{table}: {problem}")]
    Setting {
        /// The table and its key.
        table: &'static str,
        /// What is wrong, and the mend.
        problem: String,
    },
    /// A shared library that cannot be listed in the loader cache.
    #[error("cannot read {path} as a shared library: {problem}")]
    Library {
        /// The file.
        path: String,
        /// What is wrong.
        problem: &'static str,
    },
}

/// One script that nothing covers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UncoveredScript {
    /// Package name.
    pub package: String,
    /// Its version.
    pub version: String,
    /// Name of the script.
    pub script: &'static str,
    /// SHA-256 of the script.
    pub digest: Digest,
    /// Why it is not covered: no entry, an entry for other bytes, an unknown section.
    pub problem: String,
}

const WAYS_OUT: &str = "\nno script runs in this mode, so what it would do has to be known; the ways out are:\n  \
    - waive it: [[debian.waive]] with package, script and the reason why its effects are not needed\n  \
    - add an entry for its digest to baker's ledger\n  \
    - do without the package: drop it, or [[debian.assume]] it when something only depends on it";

fn count(scripts: &[UncoveredScript]) -> String {
    match scripts.len() {
        1 => "one package script is".to_owned(),
        more => format!("{more} package scripts are"),
    }
}

/// One line for each script.
struct Lines<'a>(&'a [UncoveredScript]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|script| {
            let UncoveredScript {
                package,
                version,
                script,
                digest,
                problem,
            } = script;
            write!(f, "\n  {package} {version} {script} ({digest}): {problem}")
        })
    }
}
