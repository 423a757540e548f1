//! Bakes of the real archive: the same bytes everywhere, judged by the field's own tools.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use baker_tests::bakery::{copy_folder, minimal, minimal_draft};
use baker_tests::program::{program, said};
use baker_tests::{skip, tool};

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                fs::read(entry.path()).unwrap(),
            )
        })
        .collect();
    all.sort();
    all
}

fn assert_equal(left: &Path, right: &Path) {
    let (left, right) = (files(left), files(right));
    let names = |files: &[(String, Vec<u8>)]| -> Vec<String> {
        files.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(names(&left), names(&right));
    for ((name, one), (_, other)) in left.iter().zip(&right) {
        let first = one.iter().zip(other).position(|(a, b)| a != b);
        assert!(one == other, "{name} differs, first at byte {first:?}");
    }
}

#[test]
fn another_user_folder_locale_zone_umask_clock_and_thread_count_change_nothing() {
    if !is_root() {
        return skip("another_user", "only root can become another user");
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let home = elsewhere.path().join("somewhere/else entirely");
    fs::create_dir_all(&home).unwrap();
    let (baker, recipe, store) = (home.join("baker"), home.join("recipe"), home.join("store"));
    fs::copy(program(), &baker).unwrap();
    copy_folder(&minimal().recipe, &recipe);
    minimal().copy_inputs(&store);
    let open = |path: &Path| {
        let mode = fs::metadata(path).unwrap().permissions().mode() | 0o755;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for path in [
        elsewhere.path(),
        &elsewhere.path().join("somewhere"),
        &home,
        &baker,
    ] {
        open(path);
    }
    let chown = Command::new("chown")
        .args(["-R", "65534:65534"])
        .arg(elsewhere.path())
        .status();
    assert!(chown.unwrap().success());
    let clock = match tool("faketime") {
        Some(faketime) => format!("{} '2031-07-01 03:04:05'", faketime.display()),
        None => {
            skip("another clock", "faketime is not installed");
            String::new()
        }
    };
    let script = format!(
        "umask 077; cd '{}'; exec {clock} ./baker bake recipe --to out --threads 1",
        home.display()
    );
    let output = Command::new("setpriv")
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "sh",
            "-c",
            &script,
        ])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", &home)
        .env("BAKER_STORE", &store)
        .env("TZ", "Asia/Kathmandu")
        .env("LC_ALL", "tr_TR.UTF-8")
        .output()
        .unwrap();
    let output = said(&output);
    assert_eq!(output.code, Some(0), "{output:#?}");

    let target = minimal().baker.home().join("eight threads");
    let args = [
        "--to".as_ref(),
        target.as_os_str(),
        "--anew".as_ref(),
        "--threads".as_ref(),
        "8".as_ref(),
    ];
    let args = ["bake".as_ref(), minimal().recipe.as_os_str()]
        .into_iter()
        .chain(args);
    minimal().baker.ok(args);
    assert_equal(
        &home.join("out/minimal-1.0.0.draft"),
        &target.join("minimal-1.0.0.draft"),
    );
    assert_equal(minimal_draft(), &target.join("minimal-1.0.0.draft"));
}

#[test]
fn a_bake_needs_no_network() {
    if !is_root() {
        return skip(
            "a_bake_needs_no_network",
            "only root can make a network namespace",
        );
    }
    let target = minimal().baker.home().join("offline");
    let mut command = minimal().baker.command([
        "bake".as_ref(),
        minimal().recipe.as_os_str(),
        "--anew".as_ref(),
        "--to".as_ref(),
        target.as_os_str(),
    ]);
    let inside = command.get_program().to_owned();
    let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let environment: Vec<_> = command
        .get_envs()
        .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
        .collect();
    command = Command::new("unshare");
    command
        .arg("--net")
        .arg(inside)
        .args(args)
        .env_clear()
        .envs(environment);
    let output = said(&command.output().unwrap());
    assert_eq!(output.code, Some(0), "{output:#?}");
    assert_equal(minimal_draft(), &target.join("minimal-1.0.0.draft"));
}

/// Runs a judge and wants it to be content.
fn judge(test: &str, name: &str, args: &[&std::ffi::OsStr], unwanted: &[&str]) -> Option<String> {
    let Some(path) = tool(name) else {
        skip(test, &format!("{name} is not installed"));
        return None;
    };
    let output = said(&Command::new(path).args(args).output().unwrap());
    assert_eq!(output.code, Some(0), "{name}: {output:#?}");
    for word in unwanted {
        assert!(!output.stdout.contains(word), "{name}: {output:#?}");
    }
    Some(output.stdout)
}

#[test]
fn the_disk_stands_before_its_judges() {
    let scratch = tempfile::tempdir().unwrap();
    let disk = minimal_draft().join("minimal_1.0.0.raw");
    judge(
        "disk",
        "sgdisk",
        &["-v".as_ref(), disk.as_os_str()],
        &["Problem", "Caution"],
    );
    let file = fs::File::open(&disk).unwrap();
    let table = judge(
        "disk",
        "sfdisk",
        &["--dump".as_ref(), disk.as_os_str()],
        &[],
    )
    .unwrap_or_default();
    let manifest = fs::read(minimal_draft().join("manifest.json")).unwrap();
    let manifest = baker_model::Manifest::parse(&manifest).unwrap();
    let part = |word: &str| {
        let line = table
            .lines()
            .find(|line| line.contains(word))
            .unwrap_or_default();
        let number = |key: &str| -> u64 {
            let rest = &line[line.find(key).unwrap() + key.len()..];
            rest.trim_start()
                .split(',')
                .next()
                .unwrap()
                .trim()
                .parse()
                .unwrap()
        };
        let (start, size) = (number("start=") * 512, number("size=") * 512);
        let mut bytes = vec![0; usize::try_from(size).unwrap()];
        file.read_exact_at(&mut bytes, start).unwrap();
        let path = scratch.path().join(word.replace(['"', '='], "_"));
        fs::write(&path, bytes).unwrap();
        path
    };
    let esp = part("C12A7328");
    judge(
        "disk",
        "fsck.fat",
        &["-n".as_ref(), esp.as_os_str()],
        &["differences", "Dirty"],
    );
    let (root, tree) = (part("name=\"minimal_1.0.0\""), part("_verity"));
    let hash = manifest.root_hash.to_string();
    let args = [
        "verify".as_ref(),
        root.as_os_str(),
        tree.as_os_str(),
        hash.as_ref(),
    ];
    judge("disk", "veritysetup", &args, &[]);
    match std::env::var_os("BAKER_EROFS_JUDGE") {
        Some(fsck) => {
            let output = said(&Command::new(fsck).arg(&root).output().unwrap());
            assert_eq!(output.code, Some(0), "{output:#?}");
        }
        None => skip(
            "disk",
            "BAKER_EROFS_JUDGE names no fsck.erofs that knows zstd",
        ),
    }
    let uki = minimal_draft().join("minimal_1.0.0.efi");
    let sections = judge("disk", "objdump", &["-h".as_ref(), uki.as_os_str()], &[]);
    for section in [".osrel", ".cmdline", ".initrd", ".linux", ".uname", ".sbat"] {
        assert!(
            sections.as_ref().is_none_or(|text| text.contains(section)),
            "no {section}"
        );
    }
}

#[test]
fn minimal_holds_no_shell_no_package_manager_and_keeps_its_budgets() {
    let draft = minimal_draft();
    let manifest = fs::read(draft.join("manifest.json")).unwrap();
    let manifest = baker_model::Manifest::parse(&manifest).unwrap();
    for package in &manifest.packages {
        let unwanted = ["dash", "bash", "apt", "dpkg", "perl-base", "busybox"];
        assert!(
            !unwanted.contains(&package.name.as_str()),
            "{}",
            package.name
        );
    }
    let blocks = std::os::unix::fs::MetadataExt::blocks(
        &fs::metadata(draft.join("minimal_1.0.0.raw")).unwrap(),
    );
    assert!(
        blocks * 512 < 80 << 20,
        "{} bytes of disk data",
        blocks * 512
    );
    let uki = fs::metadata(draft.join("minimal_1.0.0.efi")).unwrap().len();
    assert!(uki < 18 << 20, "the UKI has {uki} bytes");
}
