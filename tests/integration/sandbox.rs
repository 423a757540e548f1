//! Recipes whose packages run their own scripts, on the real archive: equal bytes whenever and
//! wherever they run, a record of what ran, and a way to look into it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use baker_model::Digest;
use baker_model::lock::PackageRole;
use baker_tests::bakery::{Locked, seated};
use baker_tests::program::{Baker, Said};
use serde_json::Value;

/// Packages whose scripts are known to do much: they ask (tzdata, ucf), divert files
/// (molly-guard), make users, keys and certificates (openssh-server, ssl-cert), set capabilities
/// (iputils-ping), wait for triggers (ca-certificates, man-db), keep alternatives (vim-tiny), fill
/// caches (fontconfig), enable units (cron), and look at the host's name (hostname, ssl-cert).
const NASTY: &str = "\"base-files\", \"base-passwd\", \"ca-certificates\", \"cron\", \
    \"fontconfig\", \"iputils-ping\", \"man-db\", \"molly-guard\", \"openssh-server\", \
    \"ssl-cert\", \"systemd\", \"systemd-sysv\", \"tzdata\", \"vim-tiny\"";

/// What the answer of the preseed is seen by.
const ZONE: &str = "America/Bogota";

/// A recipe like `minimal`, with these packages and their scripts.
pub(crate) fn sandboxed(packages: &str, more: &str) -> Locked {
    Locked::new("minimal", |text| {
        let mut recipe: toml::Table = toml::from_str(&text).expect("the recipe is TOML");
        for table in [
            "service", "services", "test", "file", "user", "root", "hygiene",
        ] {
            recipe.remove(table);
        }
        let debian: toml::Table = toml::from_str(&format!(
            "suite = \"trixie\"\npackages = [{packages}]\nscripts = \"sandbox\"\n{more}"
        ))
        .expect("the table is TOML");
        recipe.insert("debian".to_owned(), debian.into());
        toml::to_string(&recipe).expect("a table can be written")
    })
}

fn nasty() -> &'static Locked {
    static LOCKED: OnceLock<Locked> = OnceLock::new();
    LOCKED.get_or_init(|| {
        let answers = [("Areas", "America"), ("Zones/America", "Bogota")].map(|(name, value)| {
            format!(
                "[[preseed]]\npackage = \"tzdata\"\nquestion = \"tzdata/{name}\"\n\
                 type = \"select\"\nvalue = \"{value}\"\n"
            )
        });
        sandboxed(NASTY, &answers.concat())
    })
}

/// The least that is still a system: a machine is emulated.
pub(crate) fn small() -> &'static Locked {
    static LOCKED: OnceLock<Locked> = OnceLock::new();
    let packages = "\"base-files\", \"base-passwd\", \"systemd\", \"ca-certificates\"";
    LOCKED.get_or_init(|| sandboxed(packages, ""))
}

/// Bakes where it is told to, whatever is kept of earlier runs.
pub(crate) fn bake_anew(locked: &Locked, sandbox: &str) -> (PathBuf, Said) {
    bake(locked, &["--sandbox", sandbox, "--anew"])
}

fn bake(locked: &Locked, more: &[&str]) -> (PathBuf, Said) {
    bake_at(&locked.baker, &locked.recipe, more)
}

pub(crate) fn bake_at(baker: &Baker, recipe: &Path, more: &[&str]) -> (PathBuf, Said) {
    let to = tempfile::tempdir_in(baker.home()).unwrap().keep();
    let recipe = recipe.as_os_str();
    let words = ["bake".as_ref(), recipe, "--to".as_ref(), to.as_os_str()];
    let more = more.iter().map(AsRef::as_ref);
    let said = baker.ok(words.into_iter().chain(more));
    (PathBuf::from(said.stdout.trim()), said)
}

pub(crate) fn digest(draft: &Path, ending: &str) -> Digest {
    let mut files = fs::read_dir(draft)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let file = files.find(|path| path.to_string_lossy().ends_with(ending));
    Digest::of(&fs::read(file.unwrap()).unwrap())
}

pub(crate) fn record(draft: &Path) -> Value {
    let name = fs::read_dir(draft)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().ends_with(".scripts.json"));
    serde_json::from_slice(&fs::read(name.unwrap()).unwrap()).unwrap()
}

/// What ran, of a record: package, script, digest.
pub(crate) fn ran(record: &Value) -> Vec<String> {
    let ran = record["scripts"].as_array().unwrap();
    let texts = ran.iter().map(|script| {
        let (package, name) = (&script["package"], &script["script"]);
        format!("{package} {name} {}", script["sha256"])
    });
    texts.collect()
}

/// A command inside, and what it said.
fn inside(locked: &Locked, command: &str) -> String {
    let recipe = locked.recipe.to_str().unwrap();
    let said = locked
        .baker
        .ok(["shell", recipe, "--", "sh", "-c", command]);
    said.stdout
}

#[test]
fn scripts_that_run_at_two_times_give_the_same_disk_and_leave_nothing_of_the_run() {
    let (first, _) = bake_anew(nasty(), "namespaces");
    let (second, said) = bake_anew(nasty(), "namespaces");
    assert!(said.stderr.contains("ran in namespaces"), "{}", said.stderr);
    assert_eq!(digest(&first, ".raw"), digest(&second, ".raw"));
    assert_eq!(digest(&first, ".cdx.json"), digest(&second, ".cdx.json"));
    let (third, said) = bake(nasty(), &[]);
    assert!(said.stderr.contains("reused"), "{}", said.stderr);
    assert_eq!(digest(&first, ".raw"), digest(&third, ".raw"));
    let listed = nasty()
        .baker
        .ok(["inspect", first.to_str().unwrap(), "--files", "/**"]);
    for gone in [
        "/etc/ssh/ssh_host_ed25519_key",
        "/etc/ssl/private/ssl-cert-snakeoil.key",
        "/usr/sbin/policy-rc.d",
        "/etc/ld.so.preload",
        "/var/log/dpkg.log",
    ] {
        assert!(!listed.stdout.contains(gone), "{gone}");
    }
    // What only the scripts needed is not there, nor does the database know it.
    let lock = fs::read_to_string(nasty().recipe.join("recipe.lock")).unwrap();
    let lock = baker_model::Lock::parse(&lock).unwrap();
    let tools = lock
        .packages
        .iter()
        .filter(|package| package.role == PackageRole::Tool);
    let tools: Vec<&str> = tools.map(|package| package.name.as_str()).collect();
    assert!(tools.contains(&"sed"), "{tools:?}");
    for tool in tools {
        assert!(
            !listed.stdout.contains(&format!("/dpkg/info/{tool}.")),
            "{tool}"
        );
    }
    assert!(!listed.stdout.contains("/usr/bin/sed\t"));
    // Diverted by a script, and in its place what diverted it.
    for there in [
        "/usr/sbin/halt.no-molly-guard",
        "/usr/sbin/halt",
        "/etc/ssl/certs/ca-certificates.crt",
    ] {
        assert!(listed.stdout.contains(there), "{there}");
    }
    let zone = listed
        .stdout
        .lines()
        .find(|line| line.contains("/etc/localtime"));
    assert!(zone.is_some_and(|line| line.ends_with(ZONE)), "{zone:?}");
}

#[test]
fn the_record_names_every_script_with_its_digest() {
    let (draft, _) = bake(nasty(), &[]);
    let record = record(&draft);
    let ran = record["scripts"].as_array().unwrap();
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for script in ran {
        *count.entry(script["script"].as_str().unwrap()).or_default() += 1;
        let is_command = script["package"] == "";
        assert!(
            is_command || script["sha256"].as_str().is_some(),
            "{script}"
        );
        assert!(script["milliseconds"].as_u64().is_some(), "{script}");
    }
    assert!(count["preinst"] > 5 && count["postinst"] > 20, "{count:?}");
    let named = |package: &str, arguments: &str| {
        ran.iter().any(|script| {
            script["package"] == package
                && script["arguments"].as_str().unwrap().starts_with(arguments)
        })
    };
    assert!(named("openssh-server", "configure"), "{count:?}");
    assert!(named("man-db", "triggered") || named("libc-bin", "triggered"));
}

#[test]
fn inside_there_is_one_time_one_name_and_no_way_out() {
    let locked = nasty();
    let lock = fs::read_to_string(locked.recipe.join("recipe.lock")).unwrap();
    let lock = baker_model::Lock::parse(&lock).unwrap();
    let facts = inside(
        locked,
        "date +%s; perl -e 'print time, qq(\\n)'; sleep 1; date +%s; hostname; id -u; \
         ls /sys | wc -l; grep -c : /proc/net/dev; ls /tmp | wc -l; echo $TZ $LC_ALL",
    );
    let epoch = lock.epoch.to_string();
    let expected = [
        &epoch,
        &epoch,
        &epoch,
        "baker",
        "0",
        "0",
        "1",
        "0",
        "UTC C.UTF-8",
    ];
    assert_eq!(facts.lines().collect::<Vec<_>>(), expected, "{facts}");
    // Every process of the sandbox is one of its own, and the host's files are not there.
    let home = inside(locked, "ls -d /proc/[0-9]* | wc -l; ls /home /root | wc -c");
    let count: u32 = home.lines().next().unwrap().parse().unwrap();
    assert!(count < 10, "{home}");
    let recipe = locked.recipe.to_str().unwrap();
    let failed = locked
        .baker
        .run(["shell", recipe, "--", "sh", "-c", "echo why; exit 3"]);
    failed.assert(5, &["ended with code 3"]);
    assert_eq!(failed.stdout, "why\n");
}

#[test]
fn a_machine_gives_the_same_disk_as_namespaces() {
    // A machine is emulated: with few packages it is what unprivileged.rs tests.
    if std::env::var("BAKER_FIXTURES").is_ok_and(|value| value == "all") {
        let (host, _) = bake_anew(nasty(), "namespaces");
        let (machine, said) = seated(|| bake_anew(nasty(), "machine"));
        assert!(said.stderr.contains("ran in machine"), "{}", said.stderr);
        assert_eq!(digest(&host, ".raw"), digest(&machine, ".raw"));
        assert_eq!(ran(&record(&host)), ran(&record(&machine)));
    }
}

#[test]
fn a_machine_dies_with_the_baker_that_started_it() {
    let recipe = small().recipe.to_str().unwrap();
    // Left alone, it would run for ever.
    let words = [
        "shell",
        recipe,
        "--sandbox",
        "machine",
        "--",
        "sleep",
        "infinity",
    ];
    let mut baker = small().baker.command(words).spawn().unwrap();
    let machine = soon("a machine is started", || {
        assert!(baker.try_wait().unwrap().is_none(), "baker has ended");
        machine_of(baker.id())
    });
    baker.kill().unwrap();
    baker.wait().unwrap();
    let gone = soon_or_never(|| (!is_running(machine)).then_some(()));
    if gone.is_none() {
        let machine = machine.to_string();
        Command::new("kill")
            .args(["-9", &machine])
            .status()
            .unwrap();
        panic!("the machine runs on");
    }
}

fn soon<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    let found = soon_or_never(look);
    found.unwrap_or_else(|| panic!("it never comes about that {what}"))
}

/// What comes about within a minute.
fn soon_or_never<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    (0..600).find_map(|_| {
        std::thread::sleep(Duration::from_millis(100));
        look()
    })
}

/// The machine among the children of a process: the one that is given the input of a sandbox.
fn machine_of(parent: u32) -> Option<u32> {
    let folders = fs::read_dir("/proc").unwrap();
    let mut ids = folders.filter_map(|folder| folder.ok()?.file_name().to_str()?.parse().ok());
    ids.find(|id| is_running(*id) && stat(*id).is_some_and(|(_, of)| of == parent))
}

/// Whether a process is such a machine, and does anything any more.
fn is_running(id: u32) -> bool {
    let command = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).into_owned();
    command.contains("sandbox.input") && stat(id).is_some_and(|(state, _)| state != "Z")
}

/// State and parent of a process, as proc(5) has them.
fn stat(id: u32) -> Option<(String, u32)> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let mut words = text.rsplit_once(')')?.1.split_whitespace();
    Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
}

#[test]
fn what_only_a_sandbox_can_do_is_refused_without_one() {
    let locked = baker_tests::bakery::minimal();
    let recipe = locked.recipe.to_str().unwrap();
    locked
        .baker
        .run(["shell", recipe])
        .assert(3, &["no script of this recipe runs"]);
}
