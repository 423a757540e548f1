//! Updates on disks with two slots, played through with the boot loader that is in the image: a
//! good version stays, a bad one is given up by itself.

use std::fs;
use std::path::{Path, PathBuf};

use baker_tests::bakery::{Locked, seated};
use baker_tests::program::Said;
use serde_json::Value;

/// Tries of a new version: the fewest that show a fall back, unless all fixtures are asked for.
fn tries() -> u32 {
    match std::env::var("BAKER_FIXTURES").as_deref() {
        Ok("all") => 3,
        _ => 1,
    }
}

/// `recipes/minimal` with two slots, and more.
fn slotted(version: &str, more: &str) -> Locked {
    Locked::new("minimal", |text| {
        let text = text
            .replace("\"dbus\"]", "\"dbus\", \"systemd-boot\"]")
            .replace("version = \"1.0.0\"", &format!("version = \"{version}\""));
        format!("{text}\n[disk]\nslots = 2\ntries = {}\n{more}", tries())
    })
}

/// A unit that multi-user.target wants.
fn unit(name: &str, start: &str) -> String {
    format!(
        "\n[[file]]\npath = \"/usr/lib/systemd/system/{name}\"\ncontent = \"\"\"\n[Unit]\n\
         Description=Fixture\n[Service]\nType=oneshot\n{start}\n[Install]\n\
         WantedBy=multi-user.target\n\"\"\"\n\n[services]\nenable = [\"{name}\"]\n"
    )
}

struct Updates {
    old: Locked,
    draft: PathBuf,
}

impl Updates {
    fn new() -> Self {
        let old = slotted("1.0.0", "");
        let draft = old.bake(&old.baker.home().join("drafts"));
        Self { old, draft }
    }

    /// The update by a version with this in its recipe; gives what was said and the account.
    fn to(&self, version: &str, more: &str) -> (Said, Value) {
        let new = slotted(version, more);
        let draft = new.bake(&new.baker.home().join("drafts"));
        let evidence = self.old.baker.home().join("evidence");
        let said = seated(|| {
            new.baker.run([
                "test".as_ref(),
                draft.as_os_str(),
                "--after".as_ref(),
                self.draft.as_os_str(),
                "--evidence".as_ref(),
                evidence.as_os_str(),
            ])
        });
        let account = evidence.join(format!("minimal-{version}/after-1.0.0/upgrade.json"));
        (said, read(&account))
    }

    fn falls_back(&self, version: &str, more: &str, words: &[&str]) {
        let (said, account) = self.to(version, more);
        let plural = if tries() == 1 { "try" } else { "tries" };
        let back = format!("fell back to minimal 1.0.0 after {} {plural}", tries());
        said.assert(6, words);
        said.assert(6, &[&back]);
        assert_eq!(account["ending"], "fell-back", "{account:#}");
        let counted = format!("minimal_{version}+0-{}.efi", tries());
        let entries = serde_json::json!(["minimal_1.0.0.efi", counted]);
        assert_eq!(account["entries"], entries, "{account:#}");
    }
}

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path);
    text.map_or(Value::Null, |text| {
        serde_json::from_str(&text).unwrap_or(Value::Null)
    })
}

#[test]
fn updates_stay_or_fall_back_by_themselves() {
    let updates = Updates::new();

    let (said, account) = updates.to("1.1.0", "health = [\"systemd-journald.service\"]\n");
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert_eq!(account["ending"], "blessed", "{account:#}");
    assert_eq!(account["entries"][1], "minimal_1.1.0.efi", "{account:#}");

    let failing = unit("broken.service", "ExecStart=/usr/bin/nothing");
    updates.falls_back("1.2.0", &failing, &["broken.service"]);

    // The first letter that the kernel reads there is an order: c is to crash.
    let panicking = unit(
        "panic.service",
        "StandardOutput=file:/proc/sysrq-trigger\nExecStart=/usr/bin/systemd-escape c",
    );
    updates.falls_back("1.3.0", &panicking, &["kernel-panic"]);

    // systemd crashes and, told not to reboot by itself, freezes: nobody feeds the watchdog.
    let frozen = unit(
        "freeze.service",
        "ExecStart=/usr/bin/systemctl kill --kill-whom=main --signal=SEGV init.scope",
    ) + "\n[[file]]\npath = \"/etc/systemd/system.conf.d/90-freeze.conf\"\n\
         content = \"[Manager]\\nCrashAction=freeze\\nRuntimeWatchdogSec=10s\\n\"\n";
    updates.falls_back("1.4.0", &frozen, &["minimal 1.0.0"]);
}

#[test]
fn two_slots_need_what_blesses_a_boot() {
    let locked = Locked::new("minimal", |text| format!("{text}\n[disk]\nslots = 2\n"));
    let to = locked.baker.home().join("drafts");
    let said = locked.baker.run([
        "bake".as_ref(),
        locked.recipe.as_os_str(),
        "--to".as_ref(),
        to.as_os_str(),
    ]);
    said.assert(
        5,
        &[
            "systemd-bless-boot",
            "add \"systemd-boot\" to [debian] packages",
        ],
    );
}
