//! A real release on its way by the real program: published, promoted, confirmed, pulled and
//! withdrawn in a folder, in a registry and in a bucket; and offered to systemd-sysupdate.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use baker_tests::bakery::Locked;
use baker_tests::program::Said;
use baker_tests::servers::{BUCKET, PASSWORD, Server, USER};
use serde_json::Value;

/// A release of `recipes/minimal` with two slots, untested on purpose: what is asked here is what
/// happens to it afterwards.
struct Released {
    locked: Locked,
    key: PathBuf,
    /// The key of a second builder.
    other: PathBuf,
    folder: PathBuf,
}

/// Memory (data segment and private mappings) in which a pull must get by.
const MEMORY_KIB: u64 = 24 << 10;

const CHANNELS: &str = "[promote.staging]\nafter = \"dev\"\nhygiene = true\n\n\
    [promote.prod]\nafter = \"staging\"\nrebuilt = true\n";

/// Made once: every test brings it somewhere else.
fn released() -> &'static Released {
    static RELEASED: OnceLock<Released> = OnceLock::new();
    RELEASED.get_or_init(Released::new)
}

impl Released {
    fn new() -> Self {
        let locked = Locked::new("minimal", |text| {
            let text = text.replace("\"dbus\"]", "\"dbus\", \"systemd-boot\"]");
            format!("{text}\n[disk]\nslots = 2\n\n{CHANNELS}")
        });
        let home = locked.baker.home().to_owned();
        let new_key = |name: &str| {
            let key = home.join(name);
            locked
                .baker
                .ok(["key".as_ref(), "new".as_ref(), key.as_os_str()]);
            key
        };
        let (key, other) = (new_key("key"), new_key("other"));
        let to = home.join("made");
        let args = [
            "release".as_ref(),
            locked.recipe.as_os_str(),
            "--to".as_ref(),
            to.as_os_str(),
            "--key".as_ref(),
            key.as_os_str(),
            "--waive-tests".as_ref(),
            "only its way is of interest".as_ref(),
        ];
        locked.baker.ok(args);
        let folder = to.join("minimal-1.0.0");
        Self {
            locked,
            key,
            other,
            folder,
        }
    }

    fn made(&self) -> String {
        self.folder.display().to_string()
    }

    /// Runs baker with key, trust and credentials in the environment.
    fn run(&self, args: &[&str]) -> Said {
        self.run_with(&self.key, &[], args)
    }

    fn run_with(&self, key: &Path, variables: &[(&str, String)], args: &[&str]) -> Said {
        let mut command = self.command(key, variables, args);
        baker_tests::program::said(&command.output().unwrap())
    }

    fn command(&self, key: &Path, variables: &[(&str, String)], args: &[&str]) -> Command {
        let trust = [&self.key, &self.other].map(|key| key.with_extension("pub"));
        let trust = trust.map(|path| path.display().to_string()).join(",");
        let mut command = self.locked.baker.command(args);
        command
            .env("BAKER_TRUST", trust)
            .env("BAKER_KEY", key)
            .env("BAKER_AUTHOR", "ada")
            .envs(variables.iter().cloned());
        command
    }
}

/// A place for releases, and what it takes to get in.
struct Site {
    place: String,
    variables: Vec<(&'static str, String)>,
}

impl Site {
    fn of(&self, which: &str) -> String {
        format!("{}/minimal{which}", self.place)
    }

    fn run(&self, args: &[&str]) -> Said {
        let released = released();
        released.run_with(&released.key, &self.variables, args)
    }

    /// The same with memory for a fraction of a release.
    fn small(&self, args: &[&str]) -> Said {
        let released = released();
        let size = fs::metadata(released.folder.join("minimal_1.0.0.raw")).unwrap();
        assert!(size.len() > 3 * (MEMORY_KIB << 10), "{size:?}");
        let plain = released.command(&released.key, &self.variables, args);
        let mut limited = Command::new("sh");
        limited
            .args(["-c", &format!("ulimit -d {MEMORY_KIB}; exec \"$0\" \"$@\"")])
            .arg(plain.get_program())
            .args(plain.get_args())
            .env_clear()
            .envs(
                plain
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            );
        let said = baker_tests::program::said(&limited.output().unwrap());
        assert_eq!(said.code, Some(0), "{said:#?}");
        said
    }

    fn ok(&self, args: &[&str]) -> Said {
        let said = self.run(args);
        assert_eq!(said.code, Some(0), "{said:#?}");
        assert!(!format!("{said:?}").contains(PASSWORD), "{said:#?}");
        said
    }
}

/// The whole life of a release, from the folder that it was made in to its withdrawal.
fn lives(site: &Site) {
    let released = released();
    let (made, home) = (released.made(), tempfile::tempdir().unwrap());
    let folder = |name: &str| home.path().join(name).display().to_string();
    let published = site.ok(&["publish", &made, &site.place]);
    assert_eq!(published.stdout.trim(), site.of(":1.0.0"));
    let again = site.ok(&["publish", &made, &site.place, "--json"]);
    let again: Value = serde_json::from_str(again.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(again["reused"], true, "{again:#}");
    climbs(site);
    let here = folder("here");
    let pulled = site.small(&["pull", &site.of("@prod"), "--to", &here]);
    site.ok(&["verify", pulled.stdout.trim()]);
    let receipt = fs::read(Path::new(&here).join("minimal-1.0.0.receipt.json")).unwrap();
    let receipt: Value = serde_json::from_slice(&receipt).unwrap();
    assert_eq!(receipt["verified"], true, "{receipt:#}");
    assert_eq!(receipt["channel"]["name"], "prod", "{receipt:#}");
    site.ok(&["withdraw", &site.of("@prod"), "--reason", "eats data"]);
    let there = folder("there");
    let refused = site.run(&["pull", &site.of("@prod"), "--to", &there]);
    refused.assert(7, &["was withdrawn: eats data (ada, ", "--force"]);
    site.run(&["promote", &site.of(":1.0.0"), "dev"])
        .assert(7, &["it was withdrawn: eats data"]);
    let forced = site.ok(&["pull", &site.of("@prod"), "--to", &there, "--force"]);
    assert!(forced.stderr.contains("WAS WITHDRAWN"), "{forced:#?}");
}

/// From `dev` to `prod`: each channel refuses what it has not seen, a second builder included.
fn climbs(site: &Site) {
    let released = released();
    let release = site.of(":1.0.0");
    site.run(&["promote", &release, "staging"])
        .assert(7, &["may not enter minimal@staging", "it was never in dev"]);
    site.ok(&["promote", &release, "dev"]);
    site.ok(&["promote", &site.of("@dev"), "staging"]);
    site.run(&["promote", &release, "prod"])
        .assert(7, &["may not enter minimal@prod", "that it was rebuilt"]);
    let made = released.made();
    let rebuild = ["verify", &made, "--rebuild", "--confirm", &site.place];
    let said = released.run_with(&released.other, &site.variables, &rebuild);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.stdout.contains("confirmed in "), "{said:#?}");
    site.ok(&["promote", &release, "prod"]);
    let history = site.ok(&["channel", "history", &site.of("@prod"), "--json"]);
    let history: Value = serde_json::from_str(history.stdout.trim()).unwrap();
    assert_eq!(history[0]["sequence"], 1, "{history:#}");
    assert_eq!(history[0]["author"], "ada");
    let listed = site.ok(&["channel", "list", &site.of("")]);
    for line in ["minimal:1.0.0", "minimal@prod -> minimal:1.0.0"] {
        assert!(listed.stdout.contains(line), "{listed:#?}");
    }
}

#[test]
fn a_release_lives_in_a_folder_and_is_offered_to_machines() {
    let home = tempfile::tempdir().unwrap();
    let releases = home.path().join("releases");
    let site = Site {
        place: releases.display().to_string(),
        variables: Vec::new(),
    };
    site.ok(&["publish", &released().made(), &site.place]);
    is_offered(&releases, &released().folder);
    lives(&site);
    assert_eq!(offered(&releases), Vec::<String>::new());
    let to = home.path().display().to_string();
    released()
        .run(&["pull", "oci://me:secret@host/minimal:1", "--to", &to])
        .assert(2, &[]);
}

#[test]
fn a_release_lives_in_a_registry() {
    let server = match Server::registry() {
        Ok(server) => server,
        Err(reason) => return baker_tests::skip("a_release_lives_in_a_registry", &reason),
    };
    let config = server.authority().with_file_name("config.toml");
    let text = format!("[targets]\nauthority = {:?}\n", server.authority());
    fs::write(&config, text).unwrap();
    let variable = |name: &'static str, value: &str| (name, value.to_owned());
    let mut site = Site {
        place: format!("oci://localhost:{}/{}", server.port(), server.place()),
        variables: vec![
            variable("BAKER_CONFIG", &config.display().to_string()),
            variable("BAKER_REGISTRY_USER", USER),
            variable("BAKER_REGISTRY_PASSWORD", "guessed"),
        ],
    };
    let made = released().made();
    site.run(&["publish", &made, &site.place])
        .assert(8, &["localhost does not let us do that"]);
    site.variables
        .push(variable("BAKER_REGISTRY_PASSWORD", PASSWORD));
    lives(&site);
    assert!(!server.log().contains(PASSWORD));
}

#[test]
fn a_release_lives_in_a_bucket() {
    let server = match Server::bucket() {
        Ok(server) => server,
        Err(reason) => return baker_tests::skip("a_release_lives_in_a_bucket", &reason),
    };
    let site = Site {
        place: format!("s3://{BUCKET}/{}", server.place()),
        variables: vec![
            (
                "AWS_ENDPOINT_URL_S3",
                format!("http://127.0.0.1:{}", server.port()),
            ),
            ("AWS_ACCESS_KEY_ID", USER.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", PASSWORD.to_owned()),
        ],
    };
    lives(&site);
}

/// Names in the list for updaters.
fn offered(releases: &Path) -> Vec<String> {
    let sums = fs::read_to_string(releases.join("sysupdate/minimal/SHA256SUMS")).unwrap();
    let names = sums
        .lines()
        .map(|line| line.split("  ").nth(1).unwrap().to_owned());
    names.collect()
}

/// sha256sum takes the list, and veritysetup the images: root hash, tree and root fit.
fn is_offered(releases: &Path, release: &Path) {
    let folder = releases.join("sysupdate/minimal");
    let names = offered(releases);
    assert_eq!(names.len(), 3, "{names:?}");
    let judge = |program: &str, args: &[&str]| {
        let output = Command::new(program)
            .args(args)
            .current_dir(&folder)
            .output();
        match output {
            Ok(output) => assert!(output.status.success(), "{program}: {output:?}"),
            Err(error) => baker_tests::skip("is_offered", &format!("{program}: {error}")),
        }
    };
    judge(
        "sha256sum",
        &["--check", "--strict", "--quiet", "SHA256SUMS"],
    );
    let manifest = fs::read_to_string(release.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let hash = manifest["root-hash"].as_str().unwrap();
    let (head, tail) = hash.split_at(32);
    let name = |of: &str| {
        names
            .iter()
            .find(|name| name.contains(of))
            .unwrap()
            .as_str()
    };
    // The partition's UUID is the half of the root hash that the guest looks for.
    for (image, half) in [("root", head), ("verity", tail)] {
        let plain = name(&format!(".{image}.raw")).replace('-', "");
        assert!(plain.contains(half), "{plain}");
    }
    judge(
        "veritysetup",
        &["verify", name(".root.raw"), name(".verity.raw"), hash],
    );
}
