//! The gate before signing, and every hand that can sign.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use baker_model::Manifest;
use baker_tests::bakery::{Locked, copy_folder, minimal, minimal_draft};
use baker_tests::program::{Baker, Said};
use baker_tests::skip;

/// Why the tests of these releases are waived.
const WAIVE: [&str; 2] = ["--waive-tests", "only its signatures are of interest"];

/// Where SoftHSM's module lies on Debian.
const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";

fn manifest(folder: &Path) -> Manifest {
    Manifest::parse(&fs::read(folder.join("manifest.json")).unwrap()).unwrap()
}

/// What no image may hold, as entries of a recipe. The token is put together here, so that no
/// scanner takes this file for a leak.
fn offences() -> String {
    let token = ["ghp", "_", "x8Lr2QvT7mWc4KzN", "9bYd3HsJ6fPg1RtA5uEe"].concat();
    let file = |path: &str, mode: &str, content: &str| {
        format!(
            "[[file]]\npath = \"{path}\"\nmode = \"{mode}\"\ncontent = \"\"\"{content}\n\"\"\"\n\n"
        )
    };
    [
        file("/etc/app.conf", "0644", &format!("# app\ntoken = {token}")),
        file("/etc/ssh/ssh_host_ed25519_key", "0600", "any"),
        file("/var/lib/systemd/random-seed", "0600", "any"),
        file(
            "/var/lib/dbus/machine-id",
            "0444",
            &"0123456789abcdef".repeat(2),
        ),
        file("/var/log/install.log", "0644", "unpacked"),
        file("/var/cache/left-over", "0644", "any"),
        file("/usr/bin/helper", "4755", "#!/x"),
        file("/srv/drop", "0666", "any"),
        file("/usr/bin/zsh", "0755", "#!/x"),
        file("/usr/sbin/dpkg", "0755", "#!/x"),
        file("/usr/bin/gdb", "0755", "#!/x"),
        "[[file]]\npath = \"/etc/tls.key\"\nsource = \"tls.key\"\n\n".to_owned(),
    ]
    .concat()
}

/// The rules that [`offences`] break, and where.
const BROKEN: [(&str, &str); 13] = [
    ("cache", "var/cache/left-over"),
    ("debugger", "usr/bin/gdb"),
    ("log", "var/log/install.log"),
    ("machine-id", "var/lib/dbus/machine-id"),
    ("package-manager", "usr/sbin/dpkg"),
    ("random-seed", "var/lib/systemd/random-seed"),
    ("secret/generic-api-key", "etc/app.conf"),
    ("secret/github-pat", "etc/app.conf"),
    ("secret/private-key", "etc/tls.key"),
    ("setuid", "usr/bin/helper"),
    ("shell", "usr/bin/zsh"),
    ("ssh-host-key", "etc/ssh/ssh_host_ed25519_key"),
    ("world-writable", "srv/drop"),
];

#[test]
fn what_must_not_be_in_an_image_stops_its_release_until_somebody_answers_for_it() {
    let locked = Locked::new("minimal", |text| text);
    let baker = &locked.baker;
    baker.ok(["key", "new", "a.key", "--development"]);
    fs::copy(baker.home().join("a.key"), locked.recipe.join("tls.key")).unwrap();
    let file = locked.recipe.join("recipe.toml");
    let clean = fs::read_to_string(&file).unwrap();
    let release = |text: &str| {
        fs::write(&file, text).unwrap();
        baker.ok(["lock".as_ref(), locked.recipe.as_os_str()]);
        let args = ["release".as_ref(), locked.recipe.as_os_str()];
        let more = ["--key", "a.key", "--to", "releases"].map(OsStr::new);
        baker.run(args.into_iter().chain(more).chain(WAIVE.map(OsStr::new)))
    };
    let dirty = format!("{clean}\n{}", offences());
    let said = release(&dirty);
    let places: Vec<String> = BROKEN
        .iter()
        .map(|(rule, path)| format!("- {rule}: /{path}"))
        .collect();
    let mut words = vec!["13 things must not be in the image:"];
    words.extend(places.iter().map(String::as_str));
    said.assert(11, &words);
    assert!(!said.stderr.contains("x8Lr2QvT7mWc4KzN"), "{said:#?}");
    assert!(!baker.home().join("releases/minimal-1.0.0").exists());

    let waivers = |until: &str| -> String {
        let waive = |(rule, path): &(&str, &str)| {
            format!(
                "[[hygiene.waive]]\nrule = \"{rule}\"\npath = \"/{path}\"\nreason = \"shown\"\n\
                 author = \"ada\"\nuntil = \"{until}\"\n\n"
            )
        };
        BROKEN.iter().map(waive).collect()
    };
    release(&format!("{dirty}{}", waivers("2020-01-31")))
        .assert(11, &["(until 2020-01-31) excuses nothing", "13 things"]);
    let said = release(&format!("{dirty}{}", waivers("2999-12-31")));
    assert_eq!(said.code, Some(0), "{said:#?}");
    let manifest = manifest(&baker.home().join("releases/minimal-1.0.0"));
    let fact = manifest.hygiene.unwrap();
    assert_eq!((fact.open.len(), fact.waived.len()), (0, 13));
    let excuse = |what: &str| manifest.waivers.iter().find(|waiver| waiver.what == what);
    let excuse = excuse("hygiene shell /usr/bin/zsh").unwrap();
    assert_eq!(excuse.author.as_deref(), Some("ada"));
    assert_eq!(excuse.reason, "shown");
    assert!(excuse.expires.is_some());
}

/// A folder with the trusted keys and lists of a test.
fn trusted(home: &Path, files: &[&Path]) -> PathBuf {
    let folder = tempfile::Builder::new()
        .prefix("trust-")
        .tempdir_in(home)
        .unwrap()
        .keep();
    for file in files {
        fs::copy(file, folder.join(file.file_name().unwrap())).unwrap();
    }
    folder
}

/// A draft of `minimal` that can be signed: its tests are waived.
fn draft() -> &'static Path {
    static DRAFT: OnceLock<PathBuf> = OnceLock::new();
    DRAFT.get_or_init(|| {
        let baker = &minimal().baker;
        let args = ["release".as_ref(), minimal().recipe.as_os_str()];
        let more = ["--unsigned", "--to", "unsigned"].map(OsStr::new);
        let said = baker.ok(args.into_iter().chain(more).chain(WAIVE.map(OsStr::new)));
        baker.home().join(said.stdout.trim())
    })
}

/// A copy of the draft under a name of its own.
pub(super) fn copied(home: &Path, name: &str) -> PathBuf {
    let folder = home.join(name);
    fs::create_dir(&folder).unwrap();
    let copy = folder.join(draft().file_name().unwrap());
    copy_folder(draft(), &copy);
    copy
}

fn signed(baker: &Baker, name: &str, more: &[&str]) -> PathBuf {
    let copy = copied(baker.home(), name);
    let args = [
        "sign".as_ref(),
        copy.as_os_str(),
        "--to".as_ref(),
        name.as_ref(),
    ];
    let said = baker.ok(args.into_iter().chain(more.iter().map(OsStr::new)));
    baker.home().join(said.stdout.trim())
}

fn verify(baker: &Baker, release: &Path, trust: &Path, more: &[&str]) -> Said {
    let args = [
        "verify".as_ref(),
        release.as_os_str(),
        "--trust".as_ref(),
        trust.as_os_str(),
    ];
    baker.run(args.into_iter().chain(more.iter().map(OsStr::new)))
}

#[test]
fn a_release_signed_elsewhere_has_the_bytes_of_one_signed_here() {
    let baker = Baker::new().with_kept_store();
    let home = baker.home();
    baker.ok(["key", "new", "a.key", "--development"]);
    baker.ok(["key", "new", "b.key", "--algorithm", "ecdsa-p256"]);
    let here = signed(&baker, "here", &["--key", "a.key"]);
    baker.ok([
        "sign".as_ref(),
        here.as_os_str(),
        "--key".as_ref(),
        "b.key".as_ref(),
    ]);

    let there = copied(home, "there");
    let request = ["sign".as_ref(), there.as_os_str()];
    let to_file = ["--request", "request.json"].map(OsStr::new);
    let said = baker.ok(request.into_iter().chain(to_file));
    assert!(said.stdout.contains("minimal 1.0.0"), "{said:#?}");
    for key in ["a.key", "b.key"] {
        baker.ok(["sign", "request.json", "--key", key]);
    }
    let apply = ["--apply", "request.json", "--to", "there"].map(OsStr::new);
    let said = baker.ok(request.into_iter().chain(apply));
    let there = home.join(said.stdout.trim());
    let compared = Command::new("diff")
        .arg("-r")
        .args([&here, &there])
        .output();
    let compared = compared.unwrap();
    assert!(compared.status.success(), "{compared:?}");

    let both = trusted(home, &[&home.join("a.key.pub"), &home.join("b.key.pub")]);
    let one = trusted(home, &[&home.join("b.key.pub")]);
    verify(&baker, &there, &both, &["--threshold", "2"]).assert(0, &[]);
    verify(&baker, &there, &one, &["--threshold", "2"]).assert(7, &["2"]);
    judged_by_openssl(&there, &home.join("a.key.pub"), &home.join("b.key.pub"));
}

/// Both signatures of the manifest, as SIGNING.md says to check them without baker.
fn judged_by_openssl(release: &Path, ed25519: &Path, ecdsa: &Path) {
    let text = fs::read(release.join("manifest.json.sig")).unwrap();
    let envelope: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let signatures = envelope["signatures"].as_array().unwrap();
    assert_eq!(signatures.len(), 2, "{envelope:#}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("signature");
    let mut good = 0;
    for signature in signatures {
        use base64ct::{Base64, Encoding as _};
        let bytes = Base64::decode_vec(signature["signature"].as_str().unwrap()).unwrap();
        fs::write(&file, bytes).unwrap();
        let manifest = release.join("manifest.json");
        let mut first = Command::new("openssl");
        first
            .args(["pkeyutl", "-verify", "-pubin", "-rawin", "-inkey"])
            .arg(ed25519)
            .arg("-in")
            .arg(&manifest)
            .arg("-sigfile")
            .arg(&file);
        let mut second = Command::new("openssl");
        second
            .args(["dgst", "-sha256", "-verify"])
            .arg(ecdsa)
            .arg("-signature")
            .arg(&file)
            .arg(&manifest);
        for mut openssl in [first, second] {
            match openssl.output() {
                Ok(output) => good += usize::from(output.status.success()),
                Err(_) => return skip("judged_by_openssl", "openssl is not installed"),
            }
        }
    }
    assert_eq!(good, 2, "each key must have made one signature");
}

#[test]
fn keys_follow_each_other_and_can_be_taken_back() {
    let baker = Baker::new().with_kept_store();
    let home = baker.home();
    for name in ["old.key", "new.key"] {
        baker.ok(["key", "new", name]);
    }
    let old = signed(&baker, "old", &["--key", "old.key"]);
    let new = signed(&baker, "new", &["--key", "new.key"]);
    let [old_key, new_key] = ["old.key.pub", "new.key.pub"].map(|name| home.join(name));
    let trust = trusted(home, &[&old_key]);
    verify(&baker, &old, &trust, &[]).assert(0, &[]);
    verify(&baker, &new, &trust, &[]).assert(7, &["no trusted key"]);

    // The old key names the new one, and retires before the day of this release.
    let rotation = trust.join("1.rotation.json");
    let out = ["--out".as_ref(), rotation.as_os_str()];
    let rotate = [
        "key",
        "rotate",
        "new.key.pub",
        "--key",
        "old.key",
        "--retire",
        "2020-01-31",
    ];
    baker.ok(rotate.map(OsStr::new).into_iter().chain(out));
    verify(&baker, &new, &trust, &[]).assert(0, &[]);
    verify(&baker, &old, &trust, &[]).assert(7, &["2020-01-31"]);

    let trust = trusted(home, &[&old_key, &new_key]);
    let list = trust.join("1.revocations.json");
    let out = ["--out".as_ref(), list.as_os_str()];
    let revoke = [
        "key",
        "revoke",
        "--lost",
        "old.key.pub",
        "--reason",
        "laptop stolen",
    ];
    let by = ["--key", "new.key"];
    let words = revoke.iter().chain(&by).map(OsStr::new);
    baker.ok(words.chain(out));
    verify(&baker, &old, &trust, &[]).assert(7, &["laptop stolen"]);
    verify(&baker, &new, &trust, &[]).assert(0, &[]);
    // A list that was changed is no list, and no reason to believe the key again.
    let mut forged: serde_json::Value = serde_json::from_slice(&fs::read(&list).unwrap()).unwrap();
    forged["signatures"][0]["sig"] = format!("{}==", "A".repeat(86)).into();
    fs::write(&list, forged.to_string()).unwrap();
    let said = verify(&baker, &new, &trust, &[]);
    assert_ne!(said.code, Some(0), "{said:#?}");
}

#[test]
fn tokens_and_programs_sign_as_files_do() {
    let baker = Baker::new().with_kept_store();
    let home = baker.home();
    let program = home.join("signer");
    baker.ok(["key", "new", "hook.key", "--algorithm", "ecdsa-p256"]);
    let script = format!(
        "#!/bin/sh\ncase $1 in\npublic-key) cat {0}/hook.key.pub ;;\n\
         sign) openssl dgst -sha256 -sign {0}/hook.key ;;\nesac\n",
        home.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let command = format!("command:{}", program.display());
    let release = signed(&baker, "hooked", &["--key", &command]);
    let trust = trusted(home, &[&home.join("hook.key.pub")]);
    verify(&baker, &release, &trust, &[]).assert(0, &[]);

    if !Path::new(SOFTHSM).exists() {
        return skip("tokens_and_programs_sign_as_files_do", "no SoftHSM");
    }
    baker.ok(["key", "new", "token.key"]);
    fs::create_dir(home.join("tokens")).unwrap();
    let configuration = format!("directories.tokendir = {}/tokens\n", home.display());
    fs::write(home.join("softhsm2.conf"), configuration).unwrap();
    let token = ["--token", "release", "--pin", "4711"];
    let key = home.join("token.key");
    let import = [
        "--import",
        key.to_str().unwrap(),
        "--label",
        "signing",
        "--id",
        "01",
    ];
    let start = [
        "--init-token",
        "--free",
        "--label",
        "release",
        "--so-pin",
        "4711",
        "--pin",
        "4711",
    ];
    for words in [&start[..], &[&import[..], &token[..]].concat()] {
        let status = Command::new("softhsm2-util")
            .args(words)
            .env("SOFTHSM2_CONF", home.join("softhsm2.conf"))
            .status();
        assert!(status.unwrap().success(), "{words:?}");
    }
    let copy = copied(home, "by-token");
    let uri = format!("pkcs11:token=release;object=signing?module-path={SOFTHSM}");
    let args = [
        "sign".as_ref(),
        copy.as_os_str(),
        "--key".as_ref(),
        OsStr::new(&uri),
    ];
    let sign = |pin: &str| {
        let mut command = baker.command(args);
        command.env("SOFTHSM2_CONF", home.join("softhsm2.conf"));
        command.env("BAKER_PKCS11_PIN", pin);
        baker_tests::program::said(&command.output().unwrap())
    };
    sign("1111").assert(8, &["does not let us in"]);
    sign("4711").assert(0, &[]);
    let trust = trusted(home, &[&home.join("token.key.pub")]);
    let release = copy.with_file_name("minimal-1.0.0");
    fs::rename(&copy, &release).unwrap();
    verify(&baker, &release, &trust, &[]).assert(0, &[]);
}

/// Boot programs are signed before the disk is made, in a bake of their own.
#[test]
fn a_disk_whose_programs_were_signed_elsewhere_has_the_same_bytes() {
    let locked = Locked::with_secure_boot("minimal", |text| {
        text.replace("[root]\n", "[disk]\nformats = [\"netboot\"]\n\n[root]\n")
    });
    let (baker, recipe) = (&locked.baker, locked.recipe.as_os_str());
    let home = baker.home();
    let make = [
        "key",
        "secure-boot",
        "boot",
        "--owner",
        "x",
        "--algorithm",
        "ecdsa-p256",
    ];
    baker.ok(make);
    let bake = |to: &str, more: &[&str]| {
        let args = ["bake".as_ref(), recipe, "--to".as_ref(), OsStr::new(to)];
        let boot = ["--secure-boot", "boot"].iter().chain(more).map(OsStr::new);
        baker.run(args.into_iter().chain(boot))
    };
    let here = bake("here", &[]);
    assert_eq!(here.code, Some(0), "{here:#?}");

    let key = home.join("db.key");
    fs::rename(home.join("boot/db.key"), &key).unwrap();
    let said = bake("there", &["--boot-request", "boot.json"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    baker.ok(["sign", "boot.json", "--key", "db.key"]);
    let there = bake("there", &["--secure-boot-key", "reply:boot.json"]);
    assert_eq!(there.code, Some(0), "{there:#?}");
    let [here, there] = [here, there].map(|said| home.join(said.stdout.trim()));
    let compared = Command::new("diff")
        .arg("-r")
        .args([&here, &there])
        .output();
    let compared = compared.unwrap();
    assert!(compared.status.success(), "{compared:?}");
    for program in ["minimal_1.0.0.efi", "minimal_1.0.0.netboot.efi"] {
        let judge = Command::new("sbverify")
            .arg("--cert")
            .arg(home.join("boot/db.crt"))
            .arg(here.join(program))
            .output();
        match judge {
            Ok(output) => assert!(output.status.success(), "{program}: {output:?}"),
            Err(_) => return skip("a_disk_whose_programs", "sbverify is not installed"),
        }
    }
}

#[test]
fn an_untested_draft_is_not_signed() {
    let baker = Baker::new().with_kept_store();
    baker.ok(["key", "new", "a.key", "--development"]);
    let draft = minimal_draft().as_os_str();
    let said = baker.run(["sign".as_ref(), draft, "--key".as_ref(), "a.key".as_ref()]);
    assert_ne!(said.code, Some(0), "{said:#?}");
    assert!(said.stderr.contains("has not run"), "{said:#?}");
    assert!(!minimal_draft().join("manifest.json.sig").exists());
}
