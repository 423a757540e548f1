//! A machine that updates itself: booted from slot A, it takes the next version over HTTP into
//! slot B by systemd-sysupdate, refuses a list that somebody has changed, and comes up in the new
//! version, which is called good.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use baker_tests::bakery::{Locked, seated};
use baker_tests::mirror::{Fault, Mirror};
use serde_json::Value;

/// How long the machine may take for both boots and the update; under emulation on a busy host.
const PATIENCE: Duration = Duration::from_secs(900);

/// A GnuPG home with one key that signs; its agent ends with it.
struct Signing {
    home: tempfile::TempDir,
    fingerprint: String,
    public: Vec<u8>,
}

impl Signing {
    fn new() -> Result<Self, String> {
        let home = tempfile::tempdir().unwrap();
        let gpg = |args: &[&str]| {
            let mut command = Command::new("gpg");
            command.args(["--batch", "--quiet"]).args(args);
            let output = command.env("GNUPGHOME", home.path()).output();
            let output = output.map_err(|error| format!("gpg cannot be run: {error}"))?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            output.status.success().then_some(output.stdout).ok_or(said)
        };
        let key = "Updates <updates@example.org>";
        gpg(&[
            "--passphrase",
            "",
            "--quick-generate-key",
            key,
            "ed25519",
            "sign",
            "never",
        ])?;
        let listed = gpg(&["--list-secret-keys", "--with-colons"])?;
        let listed = String::from_utf8(listed).unwrap();
        let line = listed
            .lines()
            .find(|line| line.starts_with("fpr:"))
            .unwrap();
        let fingerprint = line.split(':').nth(9).unwrap().to_owned();
        let public = gpg(&["--export", &fingerprint])?;
        Ok(Self {
            home,
            fingerprint,
            public,
        })
    }
}

impl Drop for Signing {
    fn drop(&mut self) {
        let mut command = Command::new("gpgconf");
        command.args(["--kill", "all"]);
        drop(command.env("GNUPGHOME", self.home.path()).status());
    }
}

/// `recipes/minimal` with two slots that it updates from `url`, and a unit that reports.
fn updating(version: &str, url: &str, keyring: &[u8], unit: &str) -> Locked {
    Locked::with_file("minimal", ("files/updates.gpg", keyring), |text| {
        let text = text
            .replace(
                "\"dbus\"]",
                "\"dbus\", \"systemd-boot\", \"systemd-container\", \"gpg\"]",
            )
            .replace("version = \"1.0.0\"", &format!("version = \"{version}\""));
        let report = "StandardOutput=journal+console\nStandardError=journal+console";
        format!(
            "{text}\n[disk]\nslots = 2\n\n[update]\nurl = \"{url}\"\nkeyring = \"files/updates.gpg\"\n\n\
             [[debian.waive]]\npackage = \"gpg\"\nscript = \"postinst\"\n\
             reason = \"a socket for the managers of users, and nobody logs in here\"\n\n\
             [[file]]\npath = \"/etc/systemd/network/80-dhcp.network\"\n\
             content = \"[Match]\\nName=en* eth*\\n[Network]\\nDHCP=yes\\n\"\n\n\
             [[file]]\npath = \"/usr/lib/systemd/system/fixture.service\"\ncontent = \"\"\"\n\
             [Unit]\nWants=network-online.target\nAfter=network-online.target\n\
             RequiresMountsFor=/efi\n{unit}\n[Service]\nType=oneshot\n{report}\n\
             [Install]\nWantedBy=multi-user.target\n\"\"\"\n\n\
             [services]\nenable = [\"systemd-networkd.service\", \
             \"systemd-networkd-wait-online.service\", \"fixture.service\"]\n"
        )
    })
}

/// Sections of the unit of the old version: an update that is refused, one that is not, a restart.
const RENEWS: &str = "[Service]\n\
    ExecStart=-/usr/lib/systemd/systemd-sysupdate update\n\
    ExecStart=/usr/lib/systemd/systemd-sysupdate list\n\
    ExecStart=/usr/lib/systemd/systemd-sysupdate update\n\
    ExecStart=/usr/bin/systemctl reboot";

/// Of the new one: once the boot is called good, what runs and what the updater thinks of it.
const TELLS: &str = "DefaultDependencies=no\nAfter=systemd-bless-boot.service\n[Service]\n\
    ExecStart=/usr/bin/journalctl -k -o cat -g roothash\n\
    ExecStart=/usr/lib/systemd/systemd-bless-boot status\n\
    ExecStart=/usr/lib/systemd/systemd-sysupdate list\n\
    ExecStart=/usr/bin/systemctl poweroff";

/// Both versions, released, published and signed for machines.
struct World {
    old: Locked,
    made: PathBuf,
}

impl World {
    fn new(signing: &Signing, mirror: &Mirror, releases: &Path) -> Self {
        let url = mirror.url().replace("127.0.0.1", "10.0.2.2");
        let old = updating("1.0.0", &url, &signing.public, RENEWS);
        let new = updating("1.1.0", &url, &signing.public, TELLS);
        let (made, key) = (old.baker.home().join("made"), old.baker.home().join("key"));
        old.baker
            .ok(["key".as_ref(), "new".as_ref(), key.as_os_str()]);
        for locked in [&old, &new] {
            old.baker.ok([
                "release".as_ref(),
                locked.recipe.as_os_str(),
                "--to".as_ref(),
                made.as_os_str(),
                "--key".as_ref(),
                key.as_os_str(),
                "--waive-tests".as_ref(),
                "what it does afterwards is of interest".as_ref(),
            ]);
        }
        let world = Self { old, made };
        for version in ["1.0.0", "1.1.0"] {
            let release = world.made.join(format!("minimal-{version}"));
            let publish = [
                "publish".as_ref(),
                release.as_os_str(),
                releases.as_os_str(),
            ];
            let mut command = world.old.baker.command(publish);
            command
                .env("BAKER_TRUST", key.with_extension("pub"))
                .env("BAKER_GPG_KEY", &signing.fingerprint)
                .env("GNUPGHOME", signing.home.path());
            let said = baker_tests::program::said(&command.output().unwrap());
            assert_eq!(said.code, Some(0), "{said:#?}");
        }
        world
    }

    /// The console of the old version, from its first boot until the machine is switched off.
    fn console(&self) -> String {
        let path = self.old.baker.home().join("console");
        let release = self.made.join("minimal-1.0.0");
        let mut command = self
            .old
            .baker
            .command(["run".as_ref(), release.as_os_str()]);
        command.stdout(File::create(&path).unwrap());
        let ended = seated(|| {
            let mut running = Running(command.stderr(Stdio::inherit()).spawn().unwrap());
            let since = Instant::now();
            while running.0.try_wait().unwrap().is_none() && since.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(100));
            }
            running.0.try_wait().unwrap()
        });
        let console = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        assert!(ended.is_some(), "the machine goes on:\n{console}");
        console
    }
}

/// A machine that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_machine_updates_itself_over_http_and_takes_no_list_that_was_changed() {
    let signing = match Signing::new() {
        Ok(signing) => signing,
        Err(reason) => return baker_tests::skip("self_update", &reason),
    };
    let releases = tempfile::tempdir().unwrap();
    let mirror = Mirror::serve(releases.path()).unwrap();
    let world = World::new(&signing, &mirror, releases.path());
    mirror.plan("/SHA256SUMS", Fault::Altered, 1);
    let console = world.console();
    let manifest = fs::read_to_string(world.made.join("minimal-1.1.0/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let hash = manifest["root-hash"].as_str().unwrap();
    let expected = [
        "BAD signature",
        // The refused update has left nothing: the new version is only on offer.
        "Good signature",
        "1.1.0                 ✓     candidate",
        "1.0.0       ✓         ✓     current",
        "Good signature",
        "reboot: Restarting system",
        &format!("baker.roothash={hash}"),
        "good",
        "1.1.0       ✓         ✓     current",
        "1.0.0       ✓         ✓     installed",
        "reboot: Power down",
    ];
    let mut rest = console.as_str();
    for word in expected {
        let Some(at) = rest.find(word) else {
            panic!("`{word}` is missing (in this order) in:\n{console}");
        };
        rest = &rest[at + word.len()..];
    }
    let asked = mirror.log();
    let images = |ending: &str| asked.iter().filter(|line| line.contains(ending)).count();
    assert_eq!(
        [".verity.raw", ".root.raw", ".efi"].map(images),
        [1, 1, 1],
        "{asked:#?}"
    );
    // The new version has looked whether there is a newer one.
    let last = asked.last().unwrap();
    assert!(last.contains("/SHA256SUMS"), "{asked:#?}");
}
