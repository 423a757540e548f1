//! A real release on its way: published into a folder, promoted, pulled, withdrawn, and offered to
//! systemd-sysupdate.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use baker_tests::bakery::Locked;
use baker_tests::program::Said;
use serde_json::Value;

/// A release of `recipes/minimal` with two slots, untested on purpose: what is asked here is what
/// happens to it afterwards.
struct Released {
    locked: Locked,
    key: PathBuf,
    folder: PathBuf,
}

impl Released {
    fn new() -> Self {
        let locked = Locked::new("minimal", |text| {
            let text = text.replace("\"dbus\"]", "\"dbus\", \"systemd-boot\"]");
            format!("{text}\n[disk]\nslots = 2\n\n[promote.prod]\nafter = \"staging\"\n")
        });
        let key = locked.baker.home().join("key");
        locked
            .baker
            .ok(["key".as_ref(), "new".as_ref(), key.as_os_str()]);
        let to = locked.baker.home().join("made");
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
            folder,
        }
    }

    /// Runs baker with key and trust in the environment, and whatever else.
    fn run(&self, args: &[&str]) -> Said {
        let mut command = self.locked.baker.command(args);
        command.env("BAKER_TRUST", self.key.with_extension("pub"));
        command
            .env("BAKER_KEY", &self.key)
            .env("BAKER_AUTHOR", "ada");
        baker_tests::program::said(&command.output().unwrap())
    }

    fn ok(&self, args: &[&str]) -> Said {
        let said = self.run(args);
        assert_eq!(said.code, Some(0), "{said:#?}");
        said
    }
}

#[test]
fn a_release_is_published_promoted_pulled_and_withdrawn() {
    let released = Released::new();
    let home = released.locked.baker.home();
    let releases = home.join("releases").display().to_string();
    let made = released.folder.display().to_string();
    let of = |which: &str| format!("{releases}/minimal{which}");
    let published = released.ok(&["publish", &made, &releases]);
    assert_eq!(published.stdout.trim(), of(":1.0.0"));
    released.ok(&["publish", &made, &releases]);
    let refused = released.run(&["promote", &of(":1.0.0"), "prod"]);
    refused.assert(
        7,
        &["may not enter minimal@prod", "it was never in staging"],
    );
    released.ok(&["promote", &of(":1.0.0"), "staging"]);
    released.ok(&["promote", &of("@staging"), "prod"]);
    let history = released.ok(&["channel", "history", &of("@prod"), "--json"]);
    let history: Value = serde_json::from_str(history.stdout.trim()).unwrap();
    assert_eq!(history[0]["sequence"], 1, "{history:#}");
    assert_eq!(history[0]["author"], "ada");
    let listed = released.ok(&["channel", "list", &of("")]);
    for line in ["minimal:1.0.0", "minimal@prod -> minimal:1.0.0"] {
        assert!(listed.stdout.contains(line), "{listed:#?}");
    }
    let here = home.join("here").display().to_string();
    let pulled = released.ok(&["pull", &of("@prod"), "--to", &here]);
    released.ok(&["verify", pulled.stdout.trim()]);
    is_offered(&home.join("releases"), &released.folder);
    released.ok(&["withdraw", &of("@prod"), "--reason", "eats data"]);
    assert_eq!(offered(&home.join("releases")), Vec::<String>::new());
    let there = home.join("there").display().to_string();
    let refused = released.run(&["pull", &of("@prod"), "--to", &there]);
    refused.assert(7, &["was withdrawn: eats data (ada, ", "--force"]);
    let forced = released.ok(&["pull", &of("@prod"), "--to", &there, "--force"]);
    assert!(forced.stderr.contains("WAS WITHDRAWN"), "{forced:#?}");
    released
        .run(&["pull", "oci://me:secret@host/minimal:1", "--to", &there])
        .assert(2, &[]);
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
