//! Bills of materials, provenance, the account of a disk, and bundles.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use baker_build::anatomy::{Structure, anatomy};
use baker_fetch::Store;
use baker_formats::io::Slice;
use baker_formats::{erofs, gpt};
use baker_model::layout::Role;
use baker_model::manifest::FileRole;
use baker_model::tree::{Content, Contents, Kind, TreePath};
use baker_model::{Digest, Lock, Manifest};
use baker_tests::bakery::{Locked, copy_folder, minimal, minimal_draft};
use baker_tests::program::{Said, said, workspace};
use baker_tests::skip;

/// A release of `minimal`, never booted, and the key that signed it.
struct Release {
    folder: PathBuf,
    key: PathBuf,
    public: PathBuf,
}

fn release() -> &'static Release {
    static RELEASE: OnceLock<Release> = OnceLock::new();
    RELEASE.get_or_init(|| {
        let home = minimal().baker.home().join("evidence");
        fs::create_dir_all(&home).unwrap();
        let key = home.join("evidence.key");
        let new = ["key".as_ref(), "new".as_ref(), key.as_os_str()];
        minimal()
            .baker
            .ok(new.into_iter().chain(["--development".as_ref()]));
        let args = [
            "release".as_ref(),
            minimal().recipe.as_os_str(),
            "--key".as_ref(),
            key.as_os_str(),
            "--to".as_ref(),
            home.as_os_str(),
            "--waive-tests".as_ref(),
            "only its evidence is of interest".as_ref(),
        ];
        let said = minimal().baker.ok(args);
        Release {
            folder: PathBuf::from(said.stdout.trim()),
            public: key.with_extension("key.pub"),
            key,
        }
    })
}

fn verify(folder: &Path, more: &[&str]) -> Said {
    let args = [
        "verify".as_ref(),
        folder.as_os_str(),
        "--trust".as_ref(),
        release().public.as_os_str(),
    ];
    let more = more.iter().map(|word| std::ffi::OsStr::new(*word));
    minimal().baker.run(args.into_iter().chain(more))
}

fn manifest(folder: &Path) -> Manifest {
    Manifest::parse(&fs::read(folder.join("manifest.json")).unwrap()).unwrap()
}

fn file(folder: &Path, role: FileRole) -> PathBuf {
    folder.join(&manifest(folder).file(role).unwrap().name)
}

/// A text file out of the root of a disk.
fn text_of_root(disk: &Path, path: &str) -> String {
    let file = File::open(disk).unwrap();
    let size = file.metadata().unwrap().len();
    let layout = gpt::read(&mut Slice::new(&file, 0..size)).unwrap();
    let root = layout
        .partitions
        .iter()
        .find(|p| p.role == Role::Root)
        .unwrap();
    let slice = Slice::new(&file, root.offset..root.offset + root.size);
    let (tree, contents) = erofs::read(&slice).unwrap();
    let node = tree.get(&TreePath::new(path).unwrap()).unwrap();
    let Kind::File { content, .. } = &node.kind else {
        panic!("{path} is no file");
    };
    let bytes = match content {
        Content::Inline(bytes) => bytes.to_vec(),
        Content::Extern { digest, size } => {
            let mut bytes = vec![0; usize::try_from(*size).unwrap()];
            contents.read_exact_at(digest, 0, &mut bytes).unwrap();
            bytes
        }
    };
    String::from_utf8(bytes).unwrap()
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

#[test]
fn others_read_the_bills_of_materials_and_find_an_old_package() {
    const TEST: &str = "others_read_the_bills_of_materials";
    let Some(python) = std::env::var_os("BAKER_SBOM_PYTHON") else {
        return skip(
            TEST,
            "BAKER_SBOM_PYTHON names no Python with SBOM libraries",
        );
    };
    let scratch = tempfile::tempdir().unwrap();
    let (name, old, fixed) = ("libcap2", "1:2.44-1", "1:2.66-4+deb12u1");
    let Some(draft) = with_old_package(minimal(), name, old, scratch.path()) else {
        return;
    };
    let database = text_of_root(
        &file(&draft, FileRole::Disk),
        "usr/share/factory/var/lib/dpkg/status",
    );
    let admin = scratch.path().join("dpkg");
    fs::create_dir_all(admin.join("updates")).unwrap();
    let status = admin.join("status");
    fs::write(&status, &database).unwrap();
    let judge = |draft: &Path, status: &Path, version: &str, fixed: &str| {
        let output = Command::new(&python)
            .arg(workspace().join("tests/judges/sbom.py"))
            .arg(file(draft, FileRole::Spdx))
            .arg(file(draft, FileRole::Cyclonedx))
            .arg(status)
            .args([name, version, fixed])
            .output();
        said(&output.unwrap())
    };
    let found = judge(&draft, &status, old, fixed);
    assert_eq!(found.code, Some(0), "{found:#?}");
    // The judge can say no: of the same image without the plant it does.
    let good = judge(minimal_draft(), &status, old, fixed);
    assert_eq!(good.code, Some(1), "{good:#?}");
    assert!(good.stdout.contains(&format!("not {old}")), "{good:#?}");

    let folder = format!("--admindir={}", admin.display());
    let query = Command::new("dpkg-query")
        .arg(folder)
        .args(["-W", name])
        .output();
    let query = said(&query.unwrap());
    assert_eq!(
        query.stdout.trim().split_whitespace().last(),
        Some(old),
        "{query:#?}"
    );
}

#[test]
fn every_byte_of_the_disk_has_its_holder() {
    let good = verify(&release().folder, &["--pins"]);
    good.assert(0, &[]);
    assert!(
        good.stdout.contains("bytes of the disk are accounted for"),
        "{good:#?}"
    );
    assert!(good.stdout.contains(" package  package libc6"), "{good:#?}");
    assert!(!good.stdout.contains(" SBOM     package"), "{good:#?}");

    // Without the packages the signed bill of materials is what speaks for them.
    let empty = minimal().baker.home().join("empty store");
    let mut command = minimal().baker.command(["verify", "--pins"]);
    command
        .arg(&release().folder)
        .arg("--trust")
        .arg(&release().public);
    let by_sbom = said(&command.env("BAKER_STORE", &empty).output().unwrap());
    by_sbom.assert(0, &[]);
    assert!(
        by_sbom.stdout.contains(" SBOM     package libc6"),
        "{by_sbom:#?}"
    );
}

#[test]
fn a_planted_byte_and_a_planted_file_are_named() {
    let planted = minimal().baker.home().join("planted");
    copy_folder(&release().folder, &planted);
    let path = file(&planted, FileRole::Disk);
    let disk = File::options().read(true).write(true).open(&path).unwrap();
    let map = anatomy(&disk, disk.metadata().unwrap().len()).unwrap();
    let gap = map
        .regions()
        .iter()
        .find(|region| region.structure == Structure::Gap)
        .unwrap();
    disk.write_all_at(b"!", gap.range.start).unwrap();
    let start = gap.range.start;
    let words = format!(
        "bytes {start} to {} (gap between partitions) do not follow",
        start + 1
    );
    verify(&planted, &["--pins"]).assert(7, &["does not verify", &words]);

    // The disk of an image with one file more, under the name of the signed one.
    let more = "\n[[file]]\npath = \"/etc/planted\"\ncontent = \"x\"\n";
    let other = Locked::new("minimal", |text| text + more);
    let draft = other.bake(&other.baker.home().join("drafts"));
    fs::copy(file(&draft, FileRole::Disk), &path).unwrap();
    let said = verify(&planted, &["--pins", "--json"]);
    said.assert(7, &["does not verify"]);
    let foreign = "\"fault\":\"foreign\",\"path\":\"/etc/planted\"";
    assert!(
        said.stdout.replace([' ', '\n'], "").contains(foreign),
        "{}",
        said.stderr
    );
}

#[test]
fn the_disk_of_web_is_accounted_for_too() {
    let web = Locked::new("web", |text| text);
    let draft = web.bake(&web.baker.home().join("drafts"));
    // A draft has no signature; of its disk all is well.
    let args = [
        "verify".as_ref(),
        draft.as_os_str(),
        "--pins".as_ref(),
        "--json".as_ref(),
    ];
    let said = web.baker.run(args);
    let text = said.stdout.replace([' ', '\n'], "");
    assert!(text.contains("\"faults\":[]"), "{said:#?}");
    assert!(
        text.contains("{\"holder\":{\"kind\":\"recipe\"},\"proof\":\"lock\""),
        "{said:#?}"
    );
}

fn bundled(to: &Path) -> PathBuf {
    let path = to.join("minimal.bundle");
    let args = [
        "bundle".as_ref(),
        release().folder.as_os_str(),
        "-o".as_ref(),
        path.as_os_str(),
        "--trust".as_ref(),
        release().public.as_os_str(),
    ];
    minimal().baker.ok(args);
    path
}

/// `baker release --from-bundle` with an empty store, without a network where that can be had.
fn from_bundle(bundle: &Path, to: &Path) -> Said {
    let inner = minimal().baker.command([
        "release".as_ref(),
        "--from-bundle".as_ref(),
        bundle.as_os_str(),
        "--to".as_ref(),
        to.as_os_str(),
        "--key".as_ref(),
        release().key.as_os_str(),
        "--waive-tests".as_ref(),
        "it was tested when it was made".as_ref(),
    ]);
    let is_root =
        fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let mut command = match is_root {
        true => {
            let mut unshare = Command::new("unshare");
            unshare
                .arg("--net")
                .arg(inner.get_program())
                .args(inner.get_args());
            unshare
        }
        false => {
            skip("from_bundle", "only root can make a network namespace");
            let mut plain = Command::new(inner.get_program());
            plain.args(inner.get_args());
            plain
        }
    };
    let environment = inner
        .get_envs()
        .filter_map(|(key, value)| Some((key, value?)));
    command
        .env_clear()
        .envs(environment)
        .env("BAKER_STORE", to.join("store"));
    said(&command.output().unwrap())
}

#[test]
fn a_bundle_makes_the_same_release_again_without_a_network() {
    let scratch = tempfile::tempdir().unwrap();
    let (one, other) = (scratch.path().join("one"), scratch.path().join("other"));
    fs::create_dir_all(&one).unwrap();
    fs::create_dir_all(&other).unwrap();
    let bundle = bundled(&one);
    let again = fs::read(bundled(&other)).unwrap();
    assert!(
        fs::read(&bundle).unwrap() == again,
        "two bundles of one release differ"
    );
    let said = from_bundle(&bundle, &one);
    assert_eq!(said.code, Some(0), "{said:#?}");
    let made = PathBuf::from(said.stdout.trim());
    for name in [
        "minimal_1.0.0.raw",
        "minimal_1.0.0.efi",
        "minimal_1.0.0.cdx.json",
    ] {
        let same =
            fs::read(made.join(name)).unwrap() == fs::read(release().folder.join(name)).unwrap();
        assert!(same, "{name} differs");
    }
    verify(&made, &[]).assert(0, &[]);

    let bytes = fs::read(&bundle).unwrap();
    let mut altered = bytes.clone();
    altered[bytes.len() / 2] ^= 1;
    for (name, bytes) in [
        ("cut", &bytes[..bytes.len() - 9000]),
        ("altered", &altered[..]),
    ] {
        let path = other.join(name);
        fs::write(&path, bytes).unwrap();
        let words = format!("the bundle {} cannot be used", path.display());
        from_bundle(&path, &other).assert(7, &[&words]);
    }
    assert!(!other.join("minimal-1.0.0").exists());
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
    assert_eq!(
        manifest.baker.program,
        Some(Digest::of(
            &fs::read(baker_tests::program::program()).unwrap()
        ))
    );
}
