//! Our resolver beside apt's simulation, on the real archive, over real requests.
//!
//! apt gets a private root with an empty status and the suites of Debian 13 from the mirrors that
//! the host itself uses; both read the same downloaded indexes. Every difference must stand in
//! [`EXPLAINED`] with its reason.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Command;

use baker_fetch::debian::index;
use baker_fetch::debian::records::Records;
use baker_fetch::resolve::{self, Policy, Request, Universe};
use baker_fetch::sources::{DEBIAN, SECURITY};
use baker_fetch::{ResolveError, Sources};

const SUITES: [&str; 3] = ["trixie", "trixie-updates", "trixie-security"];

/// One line for each thing that somebody would ask for.
const REQUESTS: [&str; 44] = [
    "systemd systemd-sysv udev dbus base-files base-passwd",
    "nginx",
    "apache2",
    "lighttpd",
    "caddy",
    "haproxy",
    "varnish",
    "openssh-server",
    "openssh-client",
    "docker.io",
    "podman",
    "containerd",
    "lxc",
    "libvirt-daemon-system",
    "qemu-system-x86",
    "postgresql",
    "mariadb-server",
    "redis-server",
    "sqlite3",
    "memcached",
    "rabbitmq-server",
    "bind9",
    "unbound",
    "dnsmasq",
    "isc-dhcp-server",
    "postfix",
    "exim4",
    "dovecot-imapd",
    "samba",
    "nfs-kernel-server",
    "openvpn",
    "wireguard-tools",
    "nftables",
    "python3",
    "python3-django",
    "ruby-rails",
    "nodejs npm",
    "default-jdk",
    "golang-go",
    "build-essential",
    "texlive-latex-base",
    "xfce4",
    "gnome-core",
    "task-gnome-desktop",
];

/// Requests whose sets differ: only in apt's set, only in ours, and why.
const EXPLAINED: [Explained; 0] = [];

struct Explained {
    request: &'static str,
    only_apt: &'static [&'static str],
    only_ours: &'static [&'static str],
    reason: &'static str,
}

/// apt with its own root.
struct Apt {
    root: tempfile::TempDir,
}

impl Apt {
    /// Downloads the indexes; none when that is not possible here.
    fn new() -> Result<Self, String> {
        let sources = Sources::from_host(Path::new("/")).map_err(|error| error.to_string())?;
        let keyring = sources
            .keyrings
            .first()
            .ok_or("the host has no archive keyring")?;
        let root = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut list = String::new();
        for suite in SUITES {
            let archive = if suite.ends_with("-security") {
                SECURITY
            } else {
                DEBIAN
            };
            let mirror = sources.mirrors(archive).first();
            let mirror = mirror.ok_or("the host's apt sources name no Debian mirror")?;
            let keyring = keyring.display();
            list.push_str(&format!(
                "deb [signed-by={keyring}] {mirror} {suite} main\n"
            ));
        }
        for folder in ["lists/partial", "cache/archives/partial", "etc"] {
            fs::create_dir_all(root.path().join(folder)).map_err(|error| error.to_string())?;
        }
        fs::write(root.path().join("status"), "").map_err(|error| error.to_string())?;
        fs::write(root.path().join("sources.list"), list).map_err(|error| error.to_string())?;
        let apt = Self { root };
        let output = apt.run(&["update"])?;
        if fs::read_dir(apt.root.path().join("lists")).map_or(0, Iterator::count) < SUITES.len() {
            return Err(format!("the archive cannot be reached: {output}"));
        }
        Ok(apt)
    }

    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let root = self.root.path().display();
        let mut command = Command::new("apt-get");
        for option in [
            format!("Dir::State={root}"),
            format!("Dir::State::lists={root}/lists"),
            format!("Dir::State::status={root}/status"),
            format!("Dir::Cache={root}/cache"),
            format!("Dir::Etc={root}/etc"),
            format!("Dir::Etc::sourcelist={root}/sources.list"),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "APT::Architecture=amd64".to_owned(),
            "APT::Architectures=amd64".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
            "APT::Install-Recommends=false".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::GzipIndexes=false".to_owned(),
            "Debug::NoLocking=true".to_owned(),
            // Container images switch apt's own caches off; without them each run parses all anew.
            "Dir::Cache::pkgcache=pkgcache.bin".to_owned(),
            "Dir::Cache::srcpkgcache=srcpkgcache.bin".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        let output = command.args(arguments).env("LC_ALL", "C").output();
        let output = output.map_err(|error| format!("apt-get cannot be run: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.success() {
            true => Ok(text),
            false => Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr))),
        }
    }

    /// What apt would install, as `name version`.
    fn simulate(&self, request: &str) -> Result<BTreeSet<String>, String> {
        let mut arguments = vec!["-s", "-y", "--no-install-recommends", "install"];
        arguments.extend(request.split(' '));
        let text = self.run(&arguments)?;
        let lines = text.lines().filter_map(|line| line.strip_prefix("Inst "));
        let entries = lines.filter_map(|line| {
            let (name, rest) = line.split_once(" (")?;
            Some(format!("{name} {}", rest.split(' ').next()?))
        });
        Ok(entries.collect())
    }

    fn records(&self) -> Records {
        let mut paths: Vec<PathBuf> = fs::read_dir(self.root.path().join("lists"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().ends_with("_Packages"))
            .collect();
        paths.sort();
        let mut records = Records::default();
        for path in paths {
            let name = path.to_string_lossy().into_owned();
            let suite = SUITES
                .iter()
                .position(|suite| name.contains(&format!("dists_{suite}_main")));
            let suite = u16::try_from(suite.unwrap()).unwrap();
            let reader = BufReader::new(File::open(path).unwrap());
            records.append(index::read(reader, suite).unwrap());
        }
        records
    }
}

fn ours(records: &Records, request: &str) -> Result<BTreeSet<String>, ResolveError> {
    let suites = SUITES.map(str::to_owned);
    let requests: Result<Vec<_>, _> = request
        .split(' ')
        .map(|name| Request::parse(name, "amd64"))
        .collect();
    let requests = requests?;
    let policy = Policy {
        architecture: "amd64",
        suites: &suites,
        assumed: BTreeSet::new(),
        recommends: false,
    };
    let universe = Universe::new(records, policy, &requests)?;
    let asked: Vec<_> = requests
        .iter()
        .filter_map(|r| universe.candidate(r.name))
        .collect();
    let resolution = resolve::resolve(&universe, &asked)?;
    let text = |id| {
        let record = universe.record(id);
        format!("{} {}", record.name, record.version)
    };
    Ok(resolution.packages.into_iter().map(text).collect())
}

#[test]
fn real_requests_give_the_set_of_apt() {
    let apt = match Apt::new() {
        Ok(apt) => apt,
        Err(reason) => return baker_tests::skip("real_requests_give_the_set_of_apt", &reason),
    };
    let records = apt.records();
    assert!(
        records.len() > 50_000,
        "only {} packages were read",
        records.len()
    );
    let (mut equal, mut unexplained) = (0, Vec::new());
    for request in REQUESTS {
        let theirs = apt
            .simulate(request)
            .unwrap_or_else(|error| panic!("apt: {request}: {error}"));
        let ours = ours(&records, request).unwrap_or_else(|error| panic!("{request}: {error}"));
        let names = |set: Vec<&String>| -> Vec<String> {
            set.iter()
                .map(|entry| entry.split(' ').next().unwrap_or_default().to_owned())
                .collect()
        };
        let only_apt = names(theirs.difference(&ours).collect());
        let only_ours = names(ours.difference(&theirs).collect());
        if only_apt.is_empty() && only_ours.is_empty() {
            println!("equal  {:4} packages  {request}", ours.len());
            equal += 1;
            continue;
        }
        let known = EXPLAINED.iter().find(|known| {
            known.request == request && known.only_apt == only_apt && known.only_ours == only_ours
        });
        let reason = known.map_or("UNEXPLAINED", |known| known.reason);
        println!(
            "differs {} / {} packages  {request}: only apt {only_apt:?}, only ours {only_ours:?}: {reason}",
            theirs.len(),
            ours.len()
        );
        if known.is_none() {
            unexplained.push(request);
        }
    }
    println!("{equal} of {} requests give the same set", REQUESTS.len());
    assert_eq!(unexplained, [""; 0], "these differ for no written reason");
}
