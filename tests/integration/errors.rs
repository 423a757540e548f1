//! What a new user will get wrong: one clear message, the mend, the documented exit code, and
//! nothing half-written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use baker_tests::archive::{Defect, Key, Suite};
use baker_tests::bakery::minimal;
use baker_tests::deb::Deb;
use baker_tests::program::{Baker, Said, said};
use baker_tests::skip;

/// A tiny archive of today, signed by a key of the test, and a recipe for it.
struct Shop {
    baker: Baker,
    archive: PathBuf,
    keyring: PathBuf,
    recipe: PathBuf,
    key: Key,
}

const RECIPE: &str = r#"name = "tiny"
version = "1.0.0"

[debian]
suite = "tiny"
suites = ["tiny"]
packages = ["hello"]

[kernel]
package = "linux-image-tiny"
"#;

fn now() -> i64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

fn suite() -> Suite {
    let packages = [
        Deb::new("hello", "1.0").file("./usr/bin/hello", 0o755, "hello"),
        Deb::new("needy", "1.0").depends("hello (>= 2)"),
        Deb::new("scripted", "1.0").script("postinst", "#!/bin/sh\nrm -rf /\n"),
        Deb::new("linux-image-tiny", "1.0").file("./boot/vmlinuz-1.0-tiny", 0o644, "kernel"),
        Deb::new("systemd-boot-efi", "1.0"),
    ];
    let mut suite = packages
        .into_iter()
        .fold(Suite::new("tiny"), Suite::package);
    suite.date = now() - 3600;
    suite.signed_at = now() - 3600;
    suite.valid_until = Some(now() + 86_400);
    suite
}

impl Shop {
    fn new() -> Self {
        Self::with(&suite())
    }

    fn with(suite: &Suite) -> Self {
        let baker = Baker::new();
        let (archive, keyring) = (
            baker.home().join("archive"),
            baker.home().join("archive.gpg"),
        );
        let key = Key::new("test archive").unwrap();
        key.write(&keyring).unwrap();
        suite.write(&archive, &key).unwrap();
        let recipe = baker.home().join("tiny");
        fs::create_dir(&recipe).unwrap();
        fs::write(recipe.join("recipe.toml"), RECIPE).unwrap();
        Self {
            baker,
            archive,
            keyring,
            recipe,
            key,
        }
    }

    fn recipe(&self, from: &str, to: &str) {
        assert!(RECIPE.contains(from));
        fs::write(self.recipe.join("recipe.toml"), RECIPE.replace(from, to)).unwrap();
    }

    fn run(&self, args: &[&str]) -> Said {
        let mirror = format!("file:{}", self.archive.display());
        let mut command = self.baker.command(args);
        command
            .env("BAKER_MIRROR", mirror)
            .env("BAKER_KEYRING", &self.keyring);
        said(&command.output().unwrap())
    }

    fn lock(&self) -> Said {
        let said = self.run(&["lock", "tiny"]);
        let written = self.recipe.join("recipe.lock").exists();
        assert_eq!(written, said.code == Some(0), "{said:#?}");
        said
    }
}

#[test]
fn mistakes_in_a_recipe_are_named_with_their_place() {
    let shop = Shop::new();
    let rows = [
        (
            "packages =",
            "pakages =",
            "recipe.toml:7:1",
            "did you mean `packages`?",
        ),
        (
            "version = \"1.0.0\"",
            "version = 1",
            "recipe.toml:2:11",
            "invalid type",
        ),
        ("suite = \"tiny\"\n", "", "recipe.toml:", "`suite`"),
    ];
    for (from, to, place, words) in rows {
        shop.recipe(from, to);
        let said = shop.lock();
        said.assert(3, &["error", place]);
        assert!(said.stderr.contains(words), "{said:#?}");
    }
    let source = "packages = [\"hello\"]\n\n[[file]]\npath = \"/x\"\nsource = \"files/x\"\n";
    shop.recipe("packages = [\"hello\"]\n", source);
    shop.lock().assert(3, &["files/x", "because", "help"]);
    shop.run(&["lock", "nowhere"])
        .assert(3, &["cannot read the recipe", "nowhere", "help"]);
    shop.run(&["lokc"]).assert(2, &["lokc", "lock"]);
}

#[test]
fn what_cannot_be_resolved_is_explained_in_packages() {
    let shop = Shop::new();
    shop.recipe("\"hello\"", "\"helo\"");
    shop.lock().assert(4, &["helo", "hello"]);
    shop.recipe("\"hello\"", "\"needy\"");
    shop.lock().assert(4, &["needy", "hello (>= 2)"]);
}

#[test]
fn archives_that_cannot_be_trusted_are_refused_each_for_its_reason() {
    let refused = |suite: Suite, words: &[&str]| {
        let shop = Shop::with(&suite);
        shop.lock().assert(4, words);
    };
    refused(suite().defect(Defect::Unsigned), &["sign"]);
    refused(suite().defect(Defect::AlteredRelease), &["sign"]);
    refused(suite().defect(Defect::AlteredIndex), &["Packages"]);
    let mut old = suite();
    old.valid_until = Some(now() - 60);
    let frozen = Shop::with(&old);
    frozen.lock().assert(4, &["expired"]);
    let said = frozen.run(&["lock", "tiny", "--allow-expired"]);
    said.assert(0, &["warning", "expired"]);
    let stranger = Shop::new();
    suite()
        .write(&stranger.archive, &Key::new("a stranger").unwrap())
        .unwrap();
    stranger.lock().assert(4, &["sign"]);
}

#[test]
fn an_older_archive_than_the_last_is_refused() {
    let shop = Shop::new();
    assert_eq!(shop.lock().code, Some(0));
    let mut older = suite();
    older.date -= 7200;
    older.signed_at -= 7200;
    older.write(&shop.archive, &shop.key).unwrap();
    let before = fs::read(shop.recipe.join("recipe.lock")).unwrap();
    shop.run(&["lock", "tiny"]).assert(4, &["older"]);
    assert_eq!(fs::read(shop.recipe.join("recipe.lock")).unwrap(), before);
}

#[test]
fn an_edited_recipe_and_a_changed_file_need_a_new_lock() {
    let shop = Shop::new();
    shop.run(&["bake", "tiny"])
        .assert(4, &["there is no tiny/recipe.lock", "baker lock"]);
    assert_eq!(shop.lock().code, Some(0));
    shop.run(&["lock", "tiny", "--check"]).assert(0, &[]);
    shop.recipe("1.0.0", "1.0.1");
    shop.run(&["bake", "tiny"])
        .assert(4, &["edited after it was locked", "baker lock"]);
    fs::write(shop.recipe.join("recipe.lock"), "version = 99\n").unwrap();
    shop.run(&["fetch", "tiny"])
        .assert(4, &["version 99", "baker lock"]);
}

#[test]
fn no_mirror_and_a_package_that_is_gone_say_what_to_do() {
    let shop = Shop::new();
    let nowhere = shop.baker.home().join("empty");
    fs::create_dir(&nowhere).unwrap();
    let mut command = shop.baker.command(["lock", "tiny"]);
    command.env("BAKER_MIRROR", format!("file:{}", nowhere.display()));
    command.env("BAKER_KEYRING", &shop.keyring);
    said(&command.output().unwrap()).assert(4, &["InRelease"]);

    assert_eq!(shop.lock().code, Some(0));
    fs::remove_dir_all(shop.archive.join("pool")).unwrap();
    shop.run(&["fetch", "tiny"])
        .assert(4, &["gone from the archive", "baker lock"]);
}

#[test]
fn a_script_that_nothing_covers_stops_the_bake_with_three_ways_out() {
    let shop = Shop::new();
    shop.recipe("\"hello\"", "\"hello\", \"scripted\"");
    assert_eq!(shop.lock().code, Some(0));
    assert_eq!(shop.run(&["fetch", "tiny"]).code, Some(0));
    let said = shop.run(&["bake", "tiny", "--to", "out"]);
    said.assert(5, &["scripted", "postinst"]);
    assert!(said.stderr.contains("waive"), "{said:#?}");
    assert!(
        fs::read_dir(shop.baker.home().join("out"))
            .unwrap()
            .next()
            .is_none()
    );
}

/// The object of one package of the lock, in a store of its own, of which nobody baked yet.
fn own_store(name: &str) -> (PathBuf, PathBuf) {
    let store = minimal().baker.home().join(name);
    minimal().copy_inputs(&store);
    let lock = fs::read_to_string(minimal().recipe.join("recipe.lock")).unwrap();
    let lock = baker_model::Lock::parse(&lock).unwrap();
    let package = lock
        .packages
        .iter()
        .find(|package| package.name == "udev")
        .unwrap();
    let object = baker_fetch::Store::open(&store)
        .unwrap()
        .path(&package.sha256);
    assert!(object.is_file());
    (store, object)
}

fn bake_from(store: &Path, to: &Path) -> Said {
    let args = [
        "bake".as_ref(),
        minimal().recipe.as_os_str(),
        "--to".as_ref(),
        to.as_os_str(),
    ];
    said(
        &minimal()
            .baker
            .command(args)
            .env("BAKER_STORE", store)
            .output()
            .unwrap(),
    )
}

#[test]
fn a_spoilt_store_is_named_and_mended() {
    let (store, object) = own_store("spoilt store");
    let to = minimal().baker.home().join("from spoilt store");
    let bytes = fs::read(&object).unwrap();
    let spoil = |bytes: &[u8]| {
        fs::remove_file(&object).unwrap();
        fs::write(&object, bytes).unwrap();
    };
    let mut altered = bytes.clone();
    altered[bytes.len() / 2] ^= 1;
    spoil(&altered);
    bake_from(&store, &to).assert(5, &["udev", "help", "baker fetch"]);
    spoil(&bytes[..bytes.len() / 2]);
    bake_from(&store, &to).assert(5, &["udev", "help", "baker fetch"]);
    fs::remove_file(&object).unwrap();
    bake_from(&store, &to).assert(5, &["udev", "help", "baker fetch"]);
    assert!(
        fs::read_dir(&to).unwrap().next().is_none(),
        "something half-written is left"
    );
    let args = [
        "fetch".as_ref(),
        minimal().recipe.as_os_str(),
        "--check".as_ref(),
    ];
    let mended = minimal()
        .baker
        .command(args)
        .env("BAKER_STORE", &store)
        .output()
        .unwrap();
    assert_eq!(mended.status.code(), Some(0));
    assert_eq!(fs::read(&object).unwrap(), bytes);
}

#[test]
fn a_full_or_read_only_output_folder_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mount = |options: &str| {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(folder.path())
            .stderr(std::process::Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    };
    if !mount("size=16m") {
        return skip("a_full_output_folder", "only root can mount a small tmpfs");
    }
    let bake = || bake_from(minimal().baker.store(), folder.path());
    let full = bake();
    let left = fs::read_dir(folder.path()).unwrap().count();
    let remounted = mount("remount,ro,size=16m");
    let read_only = bake();
    let unmounted = Command::new("umount").arg(folder.path()).status().unwrap();
    assert!(unmounted.success() && remounted);
    full.assert(5, &["error", "No space left"]);
    assert_eq!(left, 0, "{full:#?}");
    read_only.assert(5, &["cannot write into", "Read-only file system", "--to"]);
}

#[test]
fn keys_are_private_and_never_overwritten() {
    let baker = Baker::new();
    baker.ok(["key", "new", "mine"]);
    baker
        .run(["key", "new", "mine"])
        .assert(8, &["mine", "never overwritten", "help"]);
    let mode = |mode| {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(baker.home().join("mine"), permissions).unwrap();
    };
    mode(0o644);
    let release = [
        "release",
        minimal().recipe.to_str().unwrap(),
        "--key",
        "mine",
    ];
    baker
        .run(release)
        .assert(8, &["open to others", "chmod 600"]);
    baker
        .run(["key", "new", "other", "--passphrase"])
        .assert(2, &["BAKER_KEY_PASSPHRASE"]);
    baker.run(["verify", "nowhere"]).assert(7, &["nowhere"]);
}
