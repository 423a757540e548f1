//! What `builtin` makes of a recipe's packages beside what dpkg makes of them in a real chroot.
//!
//! The chroot gets the same packages and the helpers that their scripts call; scripts run there
//! in the order in which baker configures. Then both trees are compared in every attribute but
//! time: kinds, modes, owners, link targets, contents. Whatever differs must stand in
//! [`EXPLAINED`] with its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use baker_build::assemble::{self, assemble};
use baker_build::configure::{self, ConfigureReport};
use baker_build::{Spool, dpkg_database};
use baker_fetch::{FetchOptions, LockRequest, Sources, Store};
use baker_model::lock::{GuestLock, PackageRole};
use baker_model::tree::{Content, Contents as _, Kind};
use baker_model::{Digest, Interrupt, Lock, Recipe, Silent, Tree};

/// What the scripts of our packages call, unpacked in the chroot but never configured.
const HELPERS: [&str; 22] = [
    "adduser",
    "base-files",
    "coreutils",
    "dash",
    "debconf",
    "debianutils",
    "diffutils",
    "dpkg",
    "findutils",
    "grep",
    "init-system-helpers",
    "libc-bin",
    "lsb-base",
    "mawk",
    "perl-base",
    "runit-helper",
    "sed",
    "sensible-utils",
    "sysvinit-utils",
    "tar",
    "ucf",
    "util-linux",
];

/// A path (with `*` for anything), or a folder and all below (`/**`), where the two differ, and why.
struct Explained {
    path: &'static str,
    reason: &'static str,
}

const fn explained(path: &'static str, reason: &'static str) -> Explained {
    Explained { path, reason }
}

/// Every difference, with its reason.
const EXPLAINED: &[Explained] = &[
    // What only a running system or a package manager needs.
    explained(
        "/etc/.pwd.lock",
        "a lock file of the tools that edit accounts",
    ),
    explained("/etc/passwd-", "a backup of the tools that edit accounts"),
    explained("/etc/group-", "a backup of the tools that edit accounts"),
    explained("/etc/shadow-", "a backup of the tools that edit accounts"),
    explained("/etc/gshadow-", "a backup of the tools that edit accounts"),
    explained(
        "/etc/rc?.d/**",
        "links for System V init, which is not in the image",
    ),
    explained(
        "/var/cache/debconf/**",
        "answers to questions that an image does not ask",
    ),
    explained(
        "/var/cache/ldconfig/**",
        "notes that make the next run of ldconfig faster",
    ),
    explained(
        "/var/lib/systemd/deb-systemd-helper-enabled/**",
        "notes for removing a package",
    ),
    explained(
        "/var/lib/systemd/deb-systemd-helper-masked/**",
        "notes for removing a package",
    ),
    explained(
        "/var/lib/dpkg/**",
        "written by dpkg_database, which has its own comparison",
    ),
    explained(
        "/usr/share/info/dir",
        "the index of info pages, kept by a helper here",
    ),
    // What this baker leaves out.
    explained(
        "/var/lib/systemd/catalog/**",
        "only `journalctl -x` reads the message catalogue",
    ),
    explained(
        "/usr/lib/udev/hwdb.bin",
        "names of devices, for people at a shell",
    ),
    // What an image has and a chroot has not.
    explained(
        "/usr/share/factory/var/**",
        "second names of what fills /var at boot",
    ),
    explained(
        "/usr/share/factory",
        "second names of what fills /var at boot",
    ),
    explained(
        "/usr/lib/tmpfiles.d/baker-var.conf",
        "rules that fill /var at boot",
    ),
    explained(
        "/usr/lib/systemd/system/var.mount",
        "/var is a file system of its own",
    ),
    explained(
        "/usr/lib/systemd/system/local-fs.target.wants/var.mount",
        "the same",
    ),
    explained("/usr/lib/baker/**", "the list of what init mounts"),
    explained("/etc/machine-id", "empty: the id is made at boot"),
    explained(
        "/etc/.updated",
        "says that nothing is to be updated at boot",
    ),
    explained(
        "/var/.updated",
        "says that nothing is to be updated at boot",
    ),
    explained("/etc/fstab", "empty: mounts are units"),
    explained(
        "/etc/systemd/system/default.target",
        "a server has no graphical target",
    ),
    explained("/etc/ssh/ssh_host_*", "every machine makes its own"),
    explained("/etc/hosts.*", "nothing but comments"),
    explained(
        "/etc/systemd/system/*.wants/sshd-keygen.service",
        "a key made at boot cannot be written to /etc",
    ),
    explained(
        "/etc/systemd/user/sockets.target.wants/**",
        "no session of a user that would start an agent",
    ),
    explained(
        "/var/lib/systemd/deb-systemd-user-helper-enabled/**",
        "notes for removing a package",
    ),
    explained("/etc/shells", "written by a helper"),
    explained("/var/log/journal", "not kept when /var is a tmpfs"),
    explained(
        "/etc/systemd/system/getty.target.wants/**",
        "no agetty in the image, so no getty",
    ),
    explained(
        "/etc/systemd/system/sysinit.target.wants/systemd-pstore.service",
        "masked: it would move crash records to a tmpfs",
    ),
    // What the helpers in the chroot bring about.
    explained("/dev/**", "device nodes for the scripts"),
    explained("/proc/**", "mounted for the scripts"),
    explained("/usr/bin/awk", "a link for the scripts"),
    explained(
        "/var/lib/ucf/**",
        "notes of a tool that asks about changed files",
    ),
    explained("/var/lib/pam/**", "notes for the next change of the stacks"),
    explained(
        "/usr/sbin/policy-rc.d",
        "keeps the scripts from starting services",
    ),
    explained("/tmp/**", "the packages and the list of work"),
    explained("/root/**", "notes of tools that ran there"),
    explained("/run/**", "file system of a running machine"),
    explained("/etc/alternatives", "made by a helper"),
    explained("/var/log/alternatives.log", "the log of a tool"),
    explained("/var/log/dpkg.log", "the log of a tool"),
    explained(
        "/etc/ld.so.cache",
        "compared entry by entry: helpers bring libraries",
    ),
    explained(
        "/var/lib/dbus/machine-id",
        "a link to the id of this boot, not a copy of another",
    ),
];

/// What one path is, in one line; contents by digest.
type Listing = BTreeMap<String, String>;

struct Network {
    sources: Sources,
    store: Store,
    now: i64,
    _folder: tempfile::TempDir,
}

impl Network {
    /// Everything that the comparison needs of this machine, or why it cannot run.
    fn new() -> Result<Self> {
        let owner = fs::metadata("/proc/self")?.uid();
        ensure!(owner == 0, "it needs root for a chroot");
        for tool in ["unshare", "dpkg-deb", "tar"] {
            let found = Command::new(tool).arg("--version").output();
            ensure!(found.is_ok(), "it needs {tool}");
        }
        let sources = Sources::from_host(Path::new("/"))?;
        let mirror = sources.mirrors("debian").first();
        mirror.context("the host's apt sources name no Debian mirror")?;
        let folder = tempfile::tempdir()?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let now = i64::try_from(now.as_secs())?;
        Ok(Self {
            sources,
            store: Store::open(folder.path())?,
            now,
            _folder: folder,
        })
    }

    /// The root packages of a recipe, locked and fetched.
    fn lock(&self, recipe: &Recipe) -> Result<Lock> {
        let interrupt = Interrupt::new();
        let guest = GuestLock {
            size: 0,
            sha256: Digest::of(b""),
        };
        let request = LockRequest {
            recipe,
            previous: None,
            parent: None,
            guest: &guest,
            files: &[],
            sources: &self.sources,
            store: &self.store,
            now: self.now,
            listener: &Silent,
            interrupt: &interrupt,
        };
        let mut lock = baker_fetch::lock(&request)?;
        lock.packages
            .retain(|package| package.role == PackageRole::Root);
        let options = FetchOptions::default();
        baker_fetch::fetch(
            &lock,
            &self.sources,
            &self.store,
            &Silent,
            &interrupt,
            options,
        )?;
        Ok(lock)
    }
}

/// The tree as `builtin` makes it, and its loader cache.
fn ours(
    lock: &Lock,
    recipe: &Recipe,
    store: &Store,
) -> Result<(Listing, ConfigureReport, Vec<u8>)> {
    let (spool, interrupt) = (Spool::new(&std::env::temp_dir())?, Interrupt::new());
    let mut assembled = assemble(assemble::Request {
        lock,
        inputs: store,
        keep: None,
        spool: &spool,
        threads: std::num::NonZero::<usize>::MIN,
        limits: assemble::Limits::default(),
        clashes: assemble::Clashes::Refused,
        listener: &Silent,
        interrupt: &interrupt,
    })?;
    dpkg_database::record(&mut assembled, &spool, lock.epoch)?;
    let prepared = configure::prepare(assembled, recipe, &spool, lock.epoch)?;
    let (tree, report) = configure::finish(prepared, recipe, &spool, lock.epoch, &Silent)?;
    let cache = tree
        .walk()
        .find(|(path, _)| path.as_bytes() == b"etc/ld.so.cache");
    let cache = match cache.map(|(_, node)| &node.kind) {
        Some(Kind::File { content, .. }) => bytes(content, &spool)?,
        _ => bail!("our tree has no loader cache"),
    };
    Ok((list_tree(&tree), report, cache))
}

fn bytes(content: &Content, spool: &Spool) -> Result<Vec<u8>> {
    Ok(match content {
        Content::Inline(bytes) => bytes.to_vec(),
        Content::Extern { digest, size } => {
            let mut bytes = vec![0; usize::try_from(*size)?];
            spool.read_exact_at(digest, 0, &mut bytes)?;
            bytes
        }
    })
}

fn list_tree(tree: &Tree) -> Listing {
    let line = |(path, node): (&baker_model::tree::TreePath, &baker_model::tree::Node)| {
        let data = &node.metadata;
        let access = format!("{:04o} {}:{}", data.mode, data.uid, data.gid);
        let text = match &node.kind {
            Kind::Directory => format!("directory {access}"),
            Kind::File { content, .. } => {
                format!(
                    "file {access} {} bytes {}",
                    content.size(),
                    content.digest().short()
                )
            }
            Kind::Symlink { target } => format!("link to {}", String::from_utf8_lossy(target)),
            other => format!("{other:?} {access}"),
        };
        (path.to_string(), text)
    };
    tree.walk().map(line).collect()
}

fn list_folder(root: &Path, at: &Path, out: &mut Listing) -> Result<()> {
    for entry in fs::read_dir(at)? {
        let path = entry?.path();
        let data = fs::symlink_metadata(&path)?;
        let access = format!("{:04o} {}:{}", data.mode() & 0o7777, data.uid(), data.gid());
        let kind = data.file_type();
        let text = if kind.is_dir() {
            list_folder(root, &path, out)?;
            format!("directory {access}")
        } else if kind.is_symlink() {
            let target = fs::read_link(&path)?;
            format!(
                "link to {}",
                String::from_utf8_lossy(target.as_os_str().as_bytes())
            )
        } else if kind.is_file() {
            let digest = Digest::of(&fs::read(&path)?);
            format!("file {access} {} bytes {}", data.len(), digest.short())
        } else {
            format!("special {access} {}", kind.is_char_device())
        };
        out.insert(format!("/{}", path.strip_prefix(root)?.display()), text);
    }
    Ok(())
}

/// Unpacks everything as files first, so that the scripts find their tools; then lets dpkg unpack
/// and configure for real.
const SCRIPT: &str = r#"
set -e
root=$1
cd "$root"
mount --bind . .
cd "$root"
for deb in tmp/debs/*.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x; done
mkdir -p var/lib/dpkg/info var/lib/dpkg/updates proc dev
: >var/lib/dpkg/status
: >var/lib/dpkg/available
mount -t proc proc proc
[ -e dev/null ] || mknod -m 666 dev/null c 1 3
[ -e usr/bin/awk ] || ln -s mawk usr/bin/awk
printf '#!/bin/sh\nexit 101\n' >usr/sbin/policy-rc.d
chmod 755 usr/sbin/policy-rc.d
chroot . dpkg --force-depends --force-confold --unpack --recursive /tmp/debs
# Only those that baker configures too, one by one in the same order.
while read -r package; do
    chroot . dpkg --force-depends --force-breaks --configure "$package"
done <tmp/order
while read -r unit; do
    chroot . env SYSTEMCTL_SKIP_SYSV=1 systemctl enable "$unit"
done <tmp/enable
chroot . ldconfig
umount proc
"#;

/// The tree as dpkg makes it.
fn theirs(
    root: &Path,
    packages: &Lock,
    order: &[String],
    recipe: &Recipe,
    store: &Store,
) -> Result<Listing> {
    let debs = root.join("tmp/debs");
    fs::create_dir_all(&debs)?;
    for package in &packages.packages {
        let name = format!("{}_{}.deb", package.name, package.architecture);
        fs::copy(store.path(&package.sha256), debs.join(name))?;
    }
    let lines = |names: &[String]| names.iter().map(|n| format!("{n}\n")).collect::<String>();
    fs::write(root.join("tmp/order"), lines(order))?;
    fs::write(root.join("tmp/enable"), lines(&recipe.services.enable))?;
    let epoch = packages.epoch.to_string();
    let output = Command::new("unshare")
        .args([
            "--mount",
            "--pid",
            "--fork",
            "--propagation",
            "private",
            "sh",
            "-c",
            SCRIPT,
            "sh",
        ])
        .arg(root)
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C")
        .env("SOURCE_DATE_EPOCH", epoch)
        .output()?;
    let log =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let lines: Vec<&str> = log.iter().flat_map(|log| log.lines()).collect();
    let last = lines[lines.len().saturating_sub(20)..].join("\n");
    ensure!(output.status.success(), "the chroot failed: {last}");
    let mut listing = Listing::new();
    list_folder(root, root, &mut listing)?;
    Ok(listing)
}

/// Paths that only helpers have.
fn of_helpers(root: &Path, own: &Lock, all: &Lock) -> Result<BTreeSet<String>> {
    let own: BTreeSet<&str> = own
        .packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let (mut helper_paths, mut own_paths) = (BTreeSet::new(), BTreeSet::new());
    for package in &all.packages {
        let info = root.join("var/lib/dpkg/info");
        let names = [
            package.name.clone(),
            format!("{}:{}", package.name, package.architecture),
        ];
        let list = names
            .iter()
            .find_map(|n| fs::read_to_string(info.join(format!("{n}.list"))).ok());
        let list = list.with_context(|| format!("dpkg has no list of {}", package.name))?;
        let paths = list.lines().map(merged);
        match own.contains(package.name.as_str()) {
            true => own_paths.extend(paths),
            false => helper_paths.extend(paths),
        }
    }
    Ok(helper_paths.difference(&own_paths).cloned().collect())
}

/// A path as it really lies on a merged system.
fn merged(path: &str) -> String {
    let top = ["/bin/", "/sbin/", "/lib/", "/lib64/"];
    match top.iter().any(|top| path.starts_with(top)) {
        true => format!("/usr{path}"),
        false => path.to_owned(),
    }
}

/// Sonames and paths of a loader cache, as `ldconfig -p` of the host lists them.
fn cache_entries(folder: &Path, name: &str) -> Result<Vec<String>> {
    let output = Command::new("ldconfig")
        .arg("-p")
        .arg("-C")
        .arg(folder.join(name))
        .output()?;
    ensure!(output.status.success(), "ldconfig refuses {name}");
    let text = String::from_utf8(output.stdout)?;
    Ok(text
        .lines()
        .filter(|line| line.starts_with('\t'))
        .map(str::to_owned)
        .collect())
}

fn is_explained(path: &str, report: &ConfigureReport) -> Option<&'static str> {
    let masked = |name: &str| {
        ["system", "system-generators"]
            .iter()
            .any(|folder| path == format!("/etc/systemd/{folder}/{name}"))
    };
    let folder = path == "/etc/systemd/system-generators";
    if report.masked.iter().any(|(unit, _)| masked(unit)) || (folder && !report.masked.is_empty()) {
        return Some("masked, with its reason in the report");
    }
    // One letter of the run levels stands for all of them.
    let level = path.strip_prefix("/etc/rc").and_then(|rest| rest.get(1..));
    let path = &level.map_or(path.to_owned(), |rest| format!("/etc/rc?{rest}"));
    let fits = |entry: &&Explained| match entry.path.strip_suffix("/**") {
        Some(folder) => path
            .strip_prefix(folder)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        None => match entry.path.split_once('*') {
            Some((head, tail)) => path.starts_with(head) && path.ends_with(tail),
            None => entry.path == path,
        },
    };
    EXPLAINED.iter().find(fits).map(|entry| entry.reason)
}

fn compare(name: &str, network: &Network) -> Result<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../recipes")
        .join(name);
    let mut recipe = Recipe::parse(&fs::read_to_string(path.join("recipe.toml"))?)?;
    // What the recipe itself wants has tests of its own.
    recipe.credentials.clear();
    recipe.networks.clear();
    recipe.users.clear();
    recipe.tmpfiles.clear();
    let mut with_helpers = recipe.clone();
    with_helpers
        .debian
        .packages
        .extend(HELPERS.map(str::to_owned));
    with_helpers
        .debian
        .assumed
        .retain(|a| !HELPERS.contains(&a.package.as_str()));
    let (own, all) = (network.lock(&recipe)?, network.lock(&with_helpers)?);
    let (mine, report, cache) = ours(&own, &recipe, &network.store)?;

    let mut order = Vec::new();
    for script in &report.scripts {
        if !order.contains(&script.package) {
            order.push(script.package.clone());
        }
    }
    for package in &own.packages {
        if !order.contains(&package.name) {
            order.push(package.name.clone());
        }
    }
    let root = tempfile::tempdir()?;
    let real = theirs(root.path(), &all, &order, &recipe, &network.store)?;
    let helpers = of_helpers(root.path(), &own, &all)?;

    let mut differences = Vec::new();
    let paths: BTreeSet<&String> = mine.keys().chain(real.keys()).collect();
    // Helpers are unpacked only, so their configuration files wait beside their places.
    let of_helper = |path: &str| helpers.contains(path.trim_end_matches(".dpkg-new"));
    for path in paths
        .into_iter()
        .filter(|path| !of_helper(path) && *path != "/")
    {
        let (a, b) = (mine.get(path), real.get(path));
        if a != b && is_explained(path, &report).is_none() {
            let text = |line: Option<&String>| line.map_or("nothing", String::as_str).to_owned();
            differences.push(format!("{path}: baker {}, dpkg {}", text(a), text(b)));
        }
    }
    fs::write(root.path().join("tmp/ours.cache"), cache)?;
    let mine = cache_entries(root.path(), "tmp/ours.cache")?;
    let real = cache_entries(root.path(), "etc/ld.so.cache")?;
    let of_helper = |line: &str| {
        let path = line.rsplit(" => ").next().map(merged).unwrap_or_default();
        helpers.contains(&path)
    };
    let real: Vec<String> = real.into_iter().filter(|line| !of_helper(line)).collect();
    if mine != real {
        differences.push(format!("loader cache: baker {mine:#?}, dpkg {real:#?}"));
    }
    Ok(differences)
}

#[test]
fn builtin_makes_what_dpkg_makes() {
    const NAME: &str = "builtin_makes_what_dpkg_makes";
    let network = match Network::new() {
        Ok(network) => network,
        Err(error) => return baker_tests::skip(NAME, &format!("{error:#}")),
    };
    let mut differences = Vec::new();
    for recipe in ["minimal", "web", "ssh-host"] {
        let found = compare(recipe, &network).unwrap();
        differences.extend(found.into_iter().map(|line| format!("{recipe}: {line}")));
    }
    let lines = differences.join("\n");
    assert!(lines.is_empty(), "nothing explains:\n{lines}");
}

/// Reasons are for people: each must say something.
#[test]
fn every_difference_has_a_reason() {
    for entry in EXPLAINED {
        assert!(entry.reason.len() > 7, "{} needs a reason", entry.path);
    }
}
