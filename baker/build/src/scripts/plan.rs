//! What runs, in which order.
//!
//! Packages that dpkg itself stands on cannot be installed by it: their files are unpacked first,
//! all else of them happens as for any other. Every other package is unpacked by dpkg when what it
//! names in `Pre-Depends` is configured, and configured at the end, when dpkg decides the order.

use std::collections::{BTreeMap, BTreeSet};

use baker_contract::sandbox::{Job, SANDBOX_FILES, Step};
use baker_model::lock::{PackageLock, PackageRole};
use baker_model::{Digest, Lock, Objects};

use super::ScriptsError;
use super::transcript::Digests;
use crate::assemble::{Limits, control::Paragraph, stored};
use crate::configure::order;
use crate::{Package, Script};

/// Options of every call of dpkg: it says before each script what it runs (2 is
/// `dbg_scripts`), and on which package it works; nobody is asked; nothing waits for a disk.
const OPTIONS: [&str; 6] = [
    "--debug=2",
    "--status-fd=3",
    "--force-confdef",
    "--force-confold",
    "--force-unsafe-io",
    "--no-pager",
];

/// dpkg closes the descriptor of its status in its children, so that cannot be their output itself.
const CALL: [&str; 5] = ["/bin/sh", "-c", "exec \"$@\" 3>&1", "sh", DPKG];

/// The program that installs packages.
pub(super) const DPKG: &str = "dpkg";

/// The environment of scripts: nothing of the host's.
const ENVIRONMENT: [(&str, &str); 9] = [
    ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("HOME", "/root"),
    ("LANG", "C.UTF-8"),
    ("LC_ALL", "C.UTF-8"),
    (
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    ("SHELL", "/bin/sh"),
    ("TERM", "dumb"),
    ("TZ", "UTC"),
];

/// Where the packages lie.
pub(super) const PACKAGES: &str = "packages";

/// Name of the file with the answers to questions.
pub(super) const ANSWERS: &str = "answers";

/// What a plan is made of.
#[derive(Clone, Copy)]
pub struct PlanRequest<'a> {
    /// Which packages.
    pub lock: &'a Lock,
    /// What is there before they come.
    pub ground: Ground,
    /// Where the package files are.
    pub inputs: &'a dyn Objects,
    /// Lines for `debconf-set-selections`.
    pub answers: &'a str,
    /// Name of the host.
    pub host_name: &'a str,
    /// What `uname -r` says.
    pub kernel_release: &'a str,
}

/// What packages are installed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// Nothing: what dpkg itself stands on is put there first.
    Bare,
    /// A tree in which packages were installed before, all that is Essential among them.
    Installed,
}

/// What commands are made of.
#[derive(Debug, Clone, Copy)]
pub struct CommandRequest<'a> {
    /// The programs and their arguments.
    pub commands: &'a [Vec<String>],
    /// Variables beside those that scripts have.
    pub more: &'a BTreeMap<String, String>,
    /// Seconds since 1970-01-01 UTC that clocks show.
    pub epoch: i64,
    /// Name of the host.
    pub host_name: &'a str,
    /// What `uname -r` says.
    pub kernel_release: &'a str,
    /// What is wanted of the tree afterwards; all of it when empty.
    pub outputs: &'a [String],
}

/// The job of commands that are no scripts of packages.
#[must_use]
pub fn commands(request: CommandRequest<'_>) -> Job {
    let mut environment = environment(request.epoch);
    environment.retain(|(name, _)| !request.more.contains_key(name));
    let more = request.more.iter();
    environment.extend(more.map(|(name, value)| (name.clone(), value.clone())));
    let steps = request.commands.iter().map(|words| step(words.clone()));
    Job {
        epoch: request.epoch,
        host_name: request.host_name.to_owned(),
        kernel_release: request.kernel_release.to_owned(),
        environment,
        steps: steps.collect(),
        wants_tree: true,
        outputs: request.outputs.to_vec(),
    }
}

/// What to do, and what for.
#[derive(Debug, Clone)]
pub struct Plan {
    /// A lock whose packages of role root are those that must be there before dpkg runs.
    pub base: Lock,
    /// All packages in the order in which they are unpacked: their files are numbered by it.
    pub packages: Vec<PackageLock>,
    /// The job.
    pub job: Job,
    /// The digests of all scripts.
    pub digests: Digests,
}

/// Plans how the packages of roles root and tool are installed.
///
/// # Errors
/// A package cannot be read, or there is no dpkg among them.
pub fn plan(request: PlanRequest<'_>) -> Result<Plan, ScriptsError> {
    let roles = [PackageRole::Root, PackageRole::Tool];
    let wanted = request.lock.packages.iter();
    let wanted = wanted.filter(|package| roles.contains(&package.role));
    let packages = wanted.map(|lock| known(lock, request.inputs));
    let packages: Vec<Package> = packages.collect::<Result<_, _>>()?;
    let is_bare = request.ground == Ground::Bare;
    if is_bare && packages.iter().all(|package| package.lock.name != "dpkg") {
        return Err(ScriptsError::NoDpkg);
    }
    let digests = packages.iter().flat_map(|package| {
        let scripts = package.scripts.iter();
        scripts.map(|(script, bytes)| {
            let key = (package.lock.name.clone(), script.name().to_owned());
            (key, Digest::of(bytes))
        })
    });
    let digests = digests.collect();
    let base = match request.ground {
        Ground::Bare => base(&packages),
        Ground::Installed => BTreeSet::new(),
    };
    let ordered = order::configuration_order(&packages);
    let (first, rest): (Vec<&Package>, Vec<&Package>) = ordered
        .into_iter()
        .partition(|package| base.contains(package.lock.name.as_str()));
    let ordered: Vec<&Package> = first.iter().chain(&rest).copied().collect();
    let steps = steps(&first, &rest, !request.answers.is_empty());
    let epoch = request.lock.epoch;
    let mut base = request.lock.clone();
    base.packages = first.iter().map(|package| as_root(&package.lock)).collect();
    base.packages.sort();
    Ok(Plan {
        base,
        packages: ordered.iter().map(|package| package.lock.clone()).collect(),
        job: Job {
            epoch,
            host_name: request.host_name.to_owned(),
            kernel_release: request.kernel_release.to_owned(),
            environment: environment(epoch),
            steps,
            wants_tree: true,
            outputs: Vec::new(),
        },
        digests,
    })
}

fn environment(epoch: i64) -> Vec<(String, String)> {
    let all = ENVIRONMENT.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut all = all.to_vec();
    all.push(("SOURCE_DATE_EPOCH".to_owned(), epoch.to_string()));
    all
}

fn as_root(lock: &PackageLock) -> PackageLock {
    PackageLock {
        role: PackageRole::Root,
        ..lock.clone()
    }
}

/// What a package says of itself; its files stay where they are.
fn known(lock: &PackageLock, inputs: &dyn Objects) -> Result<Package, ScriptsError> {
    let limits = Limits::default().of_package(1);
    let mut control = stored::read(lock, inputs, &limits, |deb| Ok(deb.take_control()))?;
    let text = control.get("control").cloned().unwrap_or_default();
    Ok(Package {
        lock: lock.clone(),
        control: String::from_utf8_lossy(&text).into_owned(),
        scripts: Script::ALL
            .into_iter()
            .filter_map(|script| Some((script, control.remove(script.name())?)))
            .collect(),
        members: BTreeMap::new(),
        paths: Vec::new(),
    })
}

/// Names of the Essential packages and of all that they depend on.
fn base(packages: &[Package]) -> BTreeSet<String> {
    let is_essential = |package: &&Package| {
        let paragraph = Paragraph::parse(&package.control).unwrap_or_default();
        paragraph.get("Essential") == Some("yes")
    };
    let roots: Vec<&str> = packages
        .iter()
        .filter(is_essential)
        .map(|package| package.lock.name.as_str())
        .collect();
    let reached = order::reached(packages, &roots);
    reached.into_iter().map(str::to_owned).collect()
}

/// The calls of dpkg.
fn steps(first: &[&Package], rest: &[&Package], has_answers: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let files = |from: usize, packages: &[&Package]| -> Vec<String> {
        (from..from + packages.len()).map(package_file).collect()
    };
    // Everything that it depends on is unpacked already, though dpkg knows nothing of it.
    if !first.is_empty() {
        let force = ["--force-depends", "--install"];
        steps.push(dpkg(&force, files(0, first)));
    }
    if has_answers {
        let answers = format!("/{SANDBOX_FILES}/{ANSWERS}");
        steps.push(step(["debconf-set-selections".to_owned(), answers]));
    }
    let mut unpacked = 0;
    let names: BTreeSet<&str> = rest.iter().map(|p| p.lock.name.as_str()).collect();
    let mut configured: BTreeSet<&str> = BTreeSet::new();
    for (at, package) in rest.iter().enumerate() {
        let needed: Vec<&str> = order::names_of(package, "Pre-Depends")
            .into_iter()
            .filter(|name| names.contains(name) && !configured.contains(name))
            .collect();
        if needed.is_empty() {
            continue;
        }
        // With what it depends on itself: dpkg does not configure what it was not told to.
        let owned: Vec<Package> = rest[..at]
            .iter()
            .map(|package| (*package).clone())
            .collect();
        let reached = order::reached(&owned, &needed);
        let due: Vec<&str> = rest[..at]
            .iter()
            .map(|package| package.lock.name.as_str())
            .filter(|name| reached.contains(name) && !configured.contains(name))
            .collect();
        if due.is_empty() {
            continue;
        }
        if unpacked < at {
            let part = &rest[unpacked..at];
            steps.push(dpkg(&["--unpack"], files(first.len() + unpacked, part)));
            unpacked = at;
        }
        let words = due.iter().map(|name| (*name).to_owned()).collect();
        steps.push(dpkg(&["--configure"], words));
        configured.extend(due);
    }
    if unpacked < rest.len() {
        let part = &rest[unpacked..];
        steps.push(dpkg(&["--unpack"], files(first.len() + unpacked, part)));
    }
    steps.push(dpkg(&["--configure", "--pending"], Vec::new()));
    steps
}

fn dpkg(words: &[&str], more: Vec<String>) -> Step {
    let words = CALL.iter().chain(&OPTIONS).chain(words);
    step(words.map(|word| (*word).to_owned()).chain(more))
}

fn step(argv: impl IntoIterator<Item = String>) -> Step {
    Step {
        argv: argv.into_iter().collect(),
        ..Step::default()
    }
}

/// Where package number such lies inside.
fn package_file(number: usize) -> String {
    format!("/{SANDBOX_FILES}/{PACKAGES}/{number:04}.deb")
}
