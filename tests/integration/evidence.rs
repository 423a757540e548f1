//! Bills of materials and provenance of a release, as others read them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use baker_fetch::Store;
use baker_formats::gpt;
use baker_model::layout::Role;
use baker_model::manifest::FileRole;
use baker_model::{Digest, Lock, Manifest};
use baker_tests::bakery::{Locked, copy_folder, minimal, minimal_draft};
use baker_tests::program::{Said, said, workspace};
use baker_tests::skip;
use base64ct::{Base64, Encoding as _};
use serde_json::Value;

/// `minimal` with two slots and Secure Boot: a disk with all that a disk of baker's can have.
pub(crate) fn locked() -> &'static Locked {
    static LOCKED: OnceLock<Locked> = OnceLock::new();
    LOCKED.get_or_init(|| {
        Locked::with_secure_boot("minimal", |text| {
            let text = text.replace("\"dbus\"]", "\"dbus\", \"systemd-boot\"]");
            text + "\n[disk]\nslots = 2\n"
        })
    })
}

/// The draft of `web`, baked once.
pub(crate) fn web_draft() -> &'static Path {
    static DRAFT: OnceLock<(Locked, PathBuf)> = OnceLock::new();
    let (_, draft) = DRAFT.get_or_init(|| {
        let web = Locked::new("web", |text| text);
        let draft = web.bake(&web.baker.home().join("drafts"));
        (web, draft)
    });
    draft
}

/// A release, never booted, and the key that signed it.
pub(crate) struct Release {
    pub(crate) folder: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) public: PathBuf,
    /// What was said while it was made.
    pub(crate) talk: String,
}

pub(crate) fn release() -> &'static Release {
    static RELEASE: OnceLock<Release> = OnceLock::new();
    RELEASE.get_or_init(|| {
        let home = locked().baker.home().join("evidence");
        fs::create_dir_all(&home).unwrap();
        let key = new_key(&home, "evidence");
        let boot = home.join("secure-boot");
        let new = ["key".as_ref(), "secure-boot".as_ref(), boot.as_os_str()];
        let development = ["--development".as_ref()];
        locked().baker.ok(new.into_iter().chain(development));
        let args = [
            "release".as_ref(),
            locked().recipe.as_os_str(),
            "--key".as_ref(),
            key.as_os_str(),
            "--secure-boot".as_ref(),
            boot.as_os_str(),
            "--to".as_ref(),
            home.as_os_str(),
            // A stage that finds its result tells no less, but this test is about those that do work.
            "--anew".as_ref(),
            "--waive-tests".as_ref(),
            "only its evidence is of interest".as_ref(),
        ];
        let said = locked().baker.ok(args);
        Release {
            folder: PathBuf::from(said.stdout.trim()),
            public: key.with_extension("key.pub"),
            key,
            talk: said.stderr,
        }
    })
}

pub(crate) fn new_key(folder: &Path, name: &str) -> PathBuf {
    let key = folder.join(format!("{name}.key"));
    let new = ["key".as_ref(), "new".as_ref(), key.as_os_str()];
    let development = ["--development".as_ref()];
    locked().baker.ok(new.into_iter().chain(development));
    key
}

pub(crate) fn verify(folder: &Path, more: &[&str]) -> Said {
    let args = [
        "verify".as_ref(),
        folder.as_os_str(),
        "--trust".as_ref(),
        release().public.as_os_str(),
    ];
    let more = more.iter().map(|word| std::ffi::OsStr::new(*word));
    locked().baker.run(args.into_iter().chain(more))
}

pub(crate) fn manifest(folder: &Path) -> Manifest {
    Manifest::parse(&fs::read(folder.join("manifest.json")).unwrap()).unwrap()
}

pub(crate) fn file(folder: &Path, role: FileRole) -> PathBuf {
    folder.join(&manifest(folder).file(role).unwrap().name)
}

/// The root of a disk, unpacked into `to` by the judge of EROFS.
fn unpacked_root(disk: &Path, to: &Path) -> Option<PathBuf> {
    let Some(fsck) = std::env::var_os("BAKER_EROFS_JUDGE") else {
        skip("unpacked_root", "BAKER_EROFS_JUDGE names no fsck.erofs");
        return None;
    };
    let mut file = File::open(disk).unwrap();
    let layout = gpt::read(&mut file).unwrap();
    let mut roots = layout.partitions.iter().filter(|p| p.role == Role::Root);
    let root = roots.next().unwrap();
    let mut bytes = vec![0; usize::try_from(root.size).unwrap()];
    file.read_exact_at(&mut bytes, root.offset).unwrap();
    let (image, tree) = (to.join("root.image"), to.join("root"));
    fs::write(&image, bytes).unwrap();
    fs::create_dir(&tree).unwrap();
    let extract = format!("--extract={}", tree.display());
    let output = Command::new(fsck)
        .args([&extract, "--overwrite"])
        .arg(&image)
        .output();
    let output = said(&output.unwrap());
    assert_eq!(output.code, Some(0), "{output:#?}");
    Some(tree)
}

/// Bakes `recipe` with `name` taken for the version `old`, which its package then says, too.
fn with_old_package(locked: &Locked, name: &str, old: &str, to: &Path) -> Option<PathBuf> {
    let recipe = to.join("recipe");
    copy_folder(&locked.recipe, &recipe);
    let path = recipe.join("recipe.lock");
    let mut lock = Lock::parse(&fs::read_to_string(&path).unwrap()).unwrap();
    let store = Store::open(locked.baker.store()).unwrap();
    let package = lock.packages.iter_mut().find(|p| p.name == name).unwrap();
    let (tree, deb) = (to.join("tree"), to.join("old.deb"));
    let dpkg_deb = |args: [&std::ffi::OsStr; 3]| Command::new("dpkg-deb").args(args).output();
    let stored = store.path(&package.sha256);
    let Ok(output) = dpkg_deb(["-R".as_ref(), stored.as_os_str(), tree.as_os_str()]) else {
        skip("with_old_package", "dpkg-deb is not installed");
        return None;
    };
    assert!(output.status.success(), "{output:?}");
    let control = tree.join("DEBIAN/control");
    let text = fs::read_to_string(&control).unwrap();
    let version = format!("\nVersion: {}\n", package.version);
    assert!(text.contains(&version));
    fs::write(
        &control,
        text.replace(&version, &format!("\nVersion: {old}\n")),
    )
    .unwrap();
    let output = dpkg_deb(["-b".as_ref(), tree.as_os_str(), deb.as_os_str()]).unwrap();
    assert!(output.status.success(), "{output:?}");
    (package.sha256, package.size) = store.put_file(&deb).unwrap();
    old.clone_into(&mut package.version);
    fs::write(&path, lock.to_text()).unwrap();
    let args = [
        "bake".as_ref(),
        recipe.as_os_str(),
        "--to".as_ref(),
        to.as_os_str(),
    ];
    Some(PathBuf::from(locked.baker.ok(args).stdout.trim()))
}

/// A Python with the libraries that judge.
fn python(test: &str) -> Option<std::ffi::OsString> {
    let python = std::env::var_os("BAKER_SBOM_PYTHON");
    if python.is_none() {
        skip(
            test,
            "BAKER_SBOM_PYTHON names no Python with SBOM libraries",
        );
    }
    python
}

#[test]
fn others_read_the_bills_of_materials_and_find_an_old_package() {
    let Some(python) = python("others_read_the_bills_of_materials") else {
        return;
    };
    let scratch = tempfile::tempdir().unwrap();
    let (name, old, fixed) = ("libcap2", "1:2.44-1", "1:2.66-4+deb12u1");
    let Some(draft) = with_old_package(minimal(), name, old, scratch.path()) else {
        return;
    };
    let judge = |draft: &Path, version: &str, fixed: &str| {
        let scratch = tempfile::tempdir().unwrap();
        let root = unpacked_root(&file(draft, FileRole::Disk), scratch.path())?;
        let output = Command::new(&python)
            .arg(workspace().join("tests/judges/sbom.py"))
            .arg(file(draft, FileRole::Spdx))
            .arg(file(draft, FileRole::Cyclonedx))
            .arg(root)
            .args([name, version, fixed])
            .output();
        Some(said(&output.unwrap()))
    };
    let Some(found) = judge(&draft, old, fixed) else {
        return;
    };
    assert_eq!(found.code, Some(0), "{found:#?}");
    println!("minimal: {}", found.stdout.trim());
    // The judge can say no: of the same image without the plant it does.
    let good = judge(minimal_draft(), old, fixed).unwrap();
    assert_eq!(good.code, Some(1), "{good:#?}");
    assert!(good.stdout.contains(&format!("not {old}")), "{good:#?}");
    let packages = manifest(web_draft()).packages;
    let version = &packages.iter().find(|p| p.name == name).unwrap().version;
    let web = judge(web_draft(), version, "9:0").unwrap();
    assert_eq!(web.code, Some(0), "{web:#?}");
    println!("web: {}", web.stdout.trim());
}

/// The statement inside of an envelope.
fn statement(folder: &Path) -> Value {
    let text = fs::read(folder.join("provenance.intoto.json")).unwrap();
    let envelope: Value = serde_json::from_slice(&text).unwrap();
    let payload = Base64::decode_vec(envelope["payload"].as_str().unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

#[test]
fn others_verify_the_provenance() {
    let Some(python) = python("others_verify_the_provenance") else {
        return;
    };
    let stranger = new_key(&locked().baker.home().join("evidence"), "stranger");
    let stranger = stranger.with_extension("key.pub");
    let judge = |public: &Path, stranger: &Path| {
        let output = Command::new(&python)
            .arg(workspace().join("tests/judges/provenance.py"))
            .args([&release().folder, public, stranger])
            .output();
        said(&output.unwrap())
    };
    let good = judge(&release().public, &stranger);
    assert_eq!(good.code, Some(0), "{good:#?}");
    println!("{}", good.stdout.trim());
    let swapped = judge(&stranger, &release().public);
    assert_eq!(swapped.code, Some(1), "{swapped:#?}");
    assert!(
        swapped.stdout.contains("openssl refuses it"),
        "{swapped:#?}"
    );
    assert!(
        swapped
            .stdout
            .contains("securesystemslib: Accepted signatures do not"),
        "{swapped:#?}"
    );
}

#[test]
fn every_input_of_the_lock_is_a_material_and_every_stage_is_told() {
    let statement = statement(&release().folder);
    let definition = &statement["predicate"]["buildDefinition"];
    let materials = definition["resolvedDependencies"].as_array().unwrap();
    let digests: BTreeSet<&str> = materials
        .iter()
        .filter_map(|material| material["digest"]["sha256"].as_str())
        .collect();
    let lock = fs::read_to_string(release().folder.join("recipe.lock")).unwrap();
    // Every digest that the lock spells, whatever it calls it.
    let named: BTreeSet<&str> = lock
        .split('"')
        .filter(|word| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit()))
        .collect();
    let own = Lock::parse(&lock).unwrap();
    assert!(named.len() > own.packages.len() + own.archives.len());
    let recipe = manifest(&release().folder).recipe.to_string();
    let lacking: Vec<_> = named
        .into_iter()
        .filter(|digest| *digest != recipe && !digests.contains(digest))
        .collect();
    assert_eq!(lacking, [""; 0]);

    let told = |line: &str| -> Option<String> {
        let mut words = line.split_whitespace();
        let (stage, how) = (words.next()?, words.next()?);
        (how == "done").then(|| stage.to_owned())
    };
    let outside = ["fetch", "sign", "publish"];
    let ran: BTreeSet<String> = release().talk.lines().filter_map(told).collect();
    let ran: BTreeSet<_> = ran
        .into_iter()
        .filter(|stage| !outside.contains(&stage.as_str()))
        .collect();
    let stages = &definition["internalParameters"]["stages"];
    let stages: BTreeSet<String> = serde_json::from_value(stages.clone()).unwrap();
    assert_eq!(ran, stages);
}

#[test]
fn a_dirty_recipe_is_marked_and_can_be_refused() {
    let home = minimal().baker.home().join("dirty");
    let recipe = home.join("recipe");
    fs::create_dir_all(&home).unwrap();
    copy_folder(&minimal().recipe, &recipe);
    let git = |args: &[&str]| {
        let who = ["-c", "user.name=t", "-c", "user.email=t@localhost"];
        let output = Command::new("git")
            .arg("-C")
            .arg(&home)
            .args(who)
            .args(args)
            .output();
        assert!(output.unwrap().status.success(), "git {args:?}");
    };
    let refused = |words: &str| {
        let args = [
            "release".as_ref(),
            recipe.as_os_str(),
            "--refuse-dirty".as_ref(),
            "--key".as_ref(),
            release().key.as_os_str(),
        ];
        minimal().baker.run(args).assert(3, &[words]);
    };
    refused("is in no commit");
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "A recipe"]);
    fs::write(recipe.join("note"), "not committed").unwrap();
    refused("has changes that are not in commit");
    let manifest = manifest(&release().folder);
    assert_eq!(
        manifest.source, None,
        "the release of this test lies outside of git"
    );
    let nowhere = "the recipe was in no commit (--refuse-dirty)";
    verify(&release().folder, &["--refuse-dirty"]).assert(7, &["in no commit", nowhere]);
    assert_eq!(
        manifest.baker.program,
        Some(Digest::of(
            &fs::read(baker_tests::program::program()).unwrap()
        ))
    );
}
