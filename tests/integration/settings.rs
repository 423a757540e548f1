//! Settings of the system, proven from outside: who logs in, what outlives a version, and what a bake
//! says when a setting cannot be had.

use std::path::Path;

use baker_tests::bakery::{Locked, seated};
use baker_tests::program::Said;
use baker_tests::{skip, tool};
use serde_json::Value;

/// Boots a draft by the test of its recipe.
fn test(locked: &Locked, draft: &Path) -> (Said, Value) {
    let evidence = locked.baker.home().join("evidence");
    let said = seated(|| {
        locked.baker.run([
            "test".as_ref(),
            draft.as_os_str(),
            "--evidence".as_ref(),
            evidence.as_os_str(),
        ])
    });
    let name = locked.recipe.file_name().unwrap().to_str().unwrap();
    let report = evidence.join(format!("{name}-1.0.0/uefi/report.json"));
    (said, read(&report))
}

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    serde_json::from_str(&text).unwrap()
}

/// Whether the check with these words held; the words must be there.
fn held(report: &Value, words: &str) -> bool {
    let checks = report["checks"].as_array().unwrap();
    let found = checks
        .iter()
        .find(|check| check["what"].as_str().unwrap().contains(words));
    let check = found.unwrap_or_else(|| panic!("nothing asks for {words}: {report:#}"));
    check["holds"].as_bool().unwrap_or(false)
}

/// The keys are made for the run and go in as credentials; OpenSSH's own client judges. A key that
/// is not let in though the plan says so fails the test, whatever else holds.
#[test]
fn a_host_lets_in_the_keys_of_its_credentials_and_no_others() {
    let wrong = "[[test.ssh]]\nuser = \"operator\"\nkey = \"admin\"\n";
    let locked = Locked::new("ssh-host", |text| format!("{text}\n{wrong}"));
    let draft = locked.bake(&locked.baker.home().join("drafts"));
    let (said, report) = test(&locked, &draft);
    said.assert(
        6,
        &["operator by SSH on port 22 with the key `admin` logs in"],
    );
    assert!(held(
        &report,
        "root by SSH on port 22 with the key `admin` logs in"
    ));
    assert!(held(
        &report,
        "operator by SSH on port 22 with the key `operator` logs in"
    ));
    assert!(held(
        &report,
        "root by SSH on port 22 with the key `operator` is refused"
    ));
    assert!(held(
        &report,
        "root by SSH on port 22 with the key `stranger` is refused"
    ));
}

/// `recipes/keeper` with its data encrypted by a credential, and `/etc` that can be written.
fn keeper(version: &str) -> Locked {
    Locked::new("keeper", |text| {
        text.replace("version = \"1.0.0\"", &format!("version = \"{version}\""))
            .replace(
                "root root - keeper 1.0.0",
                &format!("root root - keeper {version}"),
            )
            .replace("\"e2fsprogs\"", "\"e2fsprogs\", \"systemd-cryptsetup\"")
            .replace("[root]\n", "[root]\netc-overlay = true\n")
            .replace("mib = 256\n", "mib = 256\nencrypt = \"key\"\n")
            .replace("\" /var ext4 rw,\"", "\"/dev/mapper/data /var ext4 rw,\"")
            + "\n[[test.file]]\npath = \"/proc/self/mounts\"\ncontains = \"overlay /etc overlay rw,\"\n\
               [[test.credential]]\nname = \"cryptsetup.passphrase\"\nvalue = \"for one run\"\n\
               [[credential]]\nname = \"cryptsetup.passphrase\"\npurpose = \"opens the data\"\n"
    })
}

/// The first start makes, encrypts and formats the partition; the next version finds what the
/// first one wrote, and writes nothing over it.
#[test]
fn data_outlives_the_version_that_wrote_it() {
    let (old, new) = (keeper("1.0.0"), keeper("2.0.0"));
    let drafts = old.baker.home().join("drafts");
    let (first, second) = (old.bake(&drafts), new.bake(&drafts));
    let evidence = old.baker.home().join("evidence");
    let said = seated(|| {
        new.baker.run([
            "test".as_ref(),
            second.as_os_str(),
            "--after".as_ref(),
            first.as_os_str(),
            "--evidence".as_ref(),
            evidence.as_os_str(),
        ])
    });
    assert_eq!(said.code, Some(0), "{said:#?}");
    let folder = evidence.join("keeper-2.0.0/after-1.0.0");
    let report = read(&folder.join("report.json"));
    assert!(held(&report, "file /var/lib/keeper/first has content"));
    assert!(held(&report, "`/dev/mapper/data /var ext4 rw,`"));
    assert!(held(&report, "`overlay /etc overlay rw,`"));
    assert_eq!(read(&folder.join("upgrade.json"))["ending"], "blessed");
}

/// The key never leaves the TPM: the machine is told nothing, and opens its data again at the next
/// start.
#[test]
fn a_tpm_opens_the_data_at_the_next_start() {
    if tool("swtpm").is_none() {
        return skip("data behind a TPM", "swtpm is not installed");
    }
    let locked = Locked::new("keeper", |text| {
        let packages = "\"e2fsprogs\", \"systemd-cryptsetup\", \"libtss2-esys-3.0.2-0t64\", \
                        \"libtss2-rc0t64\", \"libtss2-tcti-device0t64\"";
        text.replace("\"e2fsprogs\"", packages)
            .replace("mib = 256\n", "mib = 256\nencrypt = \"tpm2\"\n")
            .replace("\" /var ext4 rw,\"", "\"/dev/mapper/data /var ext4 rw,\"")
            .replace("firmware = \"uefi\"\n", "firmware = \"uefi\"\ntpm = true\n")
    });
    let draft = locked.bake(&locked.baker.home().join("drafts"));
    let (said, report) = test(&locked, &draft);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(held(&report, "`/dev/mapper/data /var ext4 rw,`"));
    assert!(held(&report, "/var/lib/keeper survives"), "{report:#}");
}

/// What no package of the image can do is refused with the package that could.
#[test]
fn settings_that_the_root_cannot_have_are_refused() {
    let rows = [
        (
            "[system]\nlocales = [\"de_DE.UTF-8\"]\n",
            "add \"locales-all\"",
        ),
        ("[disk.data]\n", "add \"systemd-repart\""),
        (
            "[[user]]\nname = \"ann\"\nauthorized-keys = [\"ssh-ed25519 AAAAC3 ann\"]\n",
            "add \"openssh-server\"",
        ),
        (
            "[[credential]]\nname = \"x\"\nrequired = false\nunit = \"gone.service\"\npurpose = \"x\"\n",
            "gone.service",
        ),
    ];
    let locked = Locked::new("minimal", |text| text);
    let file = locked.recipe.join("recipe.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let to = locked.baker.home().join("drafts");
    for (tables, words) in rows {
        std::fs::write(&file, format!("{text}\n{tables}")).unwrap();
        locked
            .baker
            .ok(["lock".as_ref(), locked.recipe.as_os_str()]);
        let said = locked.baker.run([
            "bake".as_ref(),
            locked.recipe.as_os_str(),
            "--to".as_ref(),
            to.as_os_str(),
        ]);
        said.assert(5, &[words]);
    }
}
