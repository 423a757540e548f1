//! Whole disks, judged by `sgdisk`, `fsck.fat`, mtools and `veritysetup`.

use std::os::unix::fs::{FileExt, MetadataExt};

use super::*;
use crate::judge::{judge, run};

struct Bench {
    folder: tempfile::TempDir,
    uki: Vec<u8>,
    root_hash: [u8; 32],
}

impl Bench {
    /// A root image of 3 MiB and 4 KiB, half of it a hole, with its tree.
    fn new() -> Self {
        Self::in_folder(tempfile::tempdir().unwrap())
    }

    fn in_folder(folder: tempfile::TempDir) -> Self {
        let image = folder.path().join("root");
        let file = File::create(&image).unwrap();
        file.set_len((3 << 20) + 4096).unwrap();
        file.write_all_at(&[0x42; 1 << 20], 4096).unwrap();
        let tree = folder.path().join("tree");
        let request = crate::verity::Request {
            image: &image,
            tree: &tree,
            lock: Digest::of(b"lock"),
            threads: 2,
        };
        let root_hash = crate::verity::verity(&request).unwrap().root_hash;
        Self {
            folder,
            uki: vec![0x55; 5_000_000],
            root_hash,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn make(&self, name: &str, disk: &Disk) -> Result<RawDisk, DiskError> {
        self.make_version(name, "1.0.0", self.root_hash, &self.uki, disk)
    }

    fn make_version(
        &self,
        name: &str,
        version: &str,
        root_hash: [u8; 32],
        uki: &[u8],
        disk: &Disk,
    ) -> Result<RawDisk, DiskError> {
        super::disk(&Request {
            path: &self.path(name),
            name: "minimal",
            version,
            architecture: Architecture::Amd64,
            lock: Digest::of(b"lock"),
            epoch: 1_763_769_600,
            disk,
            uki,
            loader: Some(Loader {
                program: b"MZ loader",
                menu_seconds: 2,
            }),
            root: &self.path("root"),
            tree: &self.path("tree"),
            root_hash,
        })
    }

    /// Bytes of the first partition of a role, in a file of its own.
    fn extract(&self, disk: &str, made: &RawDisk, role: Role) -> PathBuf {
        let partition = made
            .layout
            .partitions
            .iter()
            .find(|p| p.role == role)
            .unwrap();
        let mut bytes = vec![0; usize::try_from(partition.size).unwrap()];
        let file = File::open(self.path(disk)).unwrap();
        file.read_exact_at(&mut bytes, partition.offset).unwrap();
        let path = self.path("part");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn check_esp(&self, made: &RawDisk, files: &[(&str, &[u8])]) {
        let esp = self.extract("disk", made, Role::Esp);
        if let Some(mut fsck) = judge("fsck.fat") {
            let said = run(fsck.arg("-n").arg(&esp));
            assert_eq!(said.lines().count(), 2, "{said}");
        }
        if let Some(mut list) = judge("mdir") {
            let said = run(list.args(["-/", "-b", "-i"]).arg(&esp).arg("::"));
            // Folders end in a slash.
            let found: Vec<_> = said.lines().filter(|line| !line.ends_with('/')).collect();
            let expected: Vec<_> = files.iter().map(|(path, _)| format!("::/{path}")).collect();
            assert_eq!(found, expected);
            for (path, bytes) in files {
                let copy = self.path("copy");
                let mut command = judge("mcopy").unwrap();
                command
                    .args(["-n", "-o", "-i"])
                    .arg(&esp)
                    .arg(format!("::/{path}"))
                    .arg(&copy);
                run(&mut command);
                assert!(std::fs::read(&copy).unwrap() == *bytes, "{path}");
            }
        }
    }

    fn check_table(&self, made: &RawDisk) {
        let path = self.path("disk");
        assert_eq!(
            gpt::read(&mut File::open(&path).unwrap()).unwrap(),
            made.layout
        );
        if let Some(mut sgdisk) = judge("sgdisk") {
            let said = run(sgdisk.arg("-v").arg(&path));
            assert!(said.contains("No problems found"), "{said}");
            assert!(!said.contains("Caution"), "{said}");
        }
        if let Some(mut sfdisk) = judge("sfdisk") {
            let said = run(sfdisk.arg("--verify").arg(&path));
            assert!(said.contains("No errors detected"), "{said}");
        }
    }

    fn check_root(&self, made: &RawDisk) {
        let Some(mut verify) = judge("veritysetup") else {
            return;
        };
        let hash: String = self
            .root_hash
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let tree = self.path("tree-part");
        std::fs::rename(self.extract("disk", made, Role::RootVerity), &tree).unwrap();
        let root = self.extract("disk", made, Role::Root);
        run(verify.arg("verify").arg(root).arg(tree).arg(hash));
    }
}

#[test]
fn one_slot_holds_the_uki_where_any_firmware_looks() {
    let bench = Bench::new();
    let made = bench.make("disk", &Disk::default()).unwrap();
    bench.check_table(&made);
    bench.check_esp(&made, &[("EFI/BOOT/BOOTX64.EFI", &bench.uki)]);
    bench.check_root(&made);
    let rows: Vec<_> = made
        .layout
        .partitions
        .iter()
        .map(|p| (&*p.name, p.size >> 20))
        .collect();
    assert_eq!(
        rows,
        [
            ("esp", 34),
            ("minimal_1.0.0", 4),
            ("minimal_1.0.0_verity", 1)
        ]
    );
    let [_, root, tree] = &*made.layout.partitions else {
        panic!("{made:?}")
    };
    assert_eq!([root.uuid, tree.uuid].concat(), bench.root_hash);
    assert_eq!(root.attributes, 1 << 60);
    // UKI and the filled half of the image, with a little of tables; the file is as sparse as it
    // can be.
    assert!(made.data < 6_900_000, "{}", made.data);
    let blocks = std::fs::metadata(bench.path("disk")).unwrap().blocks() * 512;
    assert!(blocks < 7_500_000, "{blocks}");
}

#[test]
fn two_slots_have_a_loader_and_an_empty_slot() {
    let bench = Bench::new();
    let disk = Disk {
        slots: 2,
        data_mib: Some(3),
        ..Disk::default()
    };
    let made = bench.make("disk", &disk).unwrap();
    bench.check_table(&made);
    let files: [(&str, &[u8]); 3] = [
        ("EFI/BOOT/BOOTX64.EFI", b"MZ loader"),
        ("EFI/Linux/minimal_1.0.0+3.efi", &bench.uki),
        ("loader/loader.conf", b"timeout 2\n"),
    ];
    bench.check_esp(&made, &files);
    bench.check_root(&made);
    let rows: Vec<_> = made
        .layout
        .partitions
        .iter()
        .map(|p| (&*p.name, p.size >> 20))
        .collect();
    let expected = [
        ("esp", 34),
        ("minimal_1.0.0", 5),
        ("minimal_1.0.0_verity", 1),
        ("_empty", 5),
        ("_empty", 1),
        ("data", 3),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn two_runs_are_equal() {
    let bench = Bench::new();
    let disk = Disk {
        slots: 2,
        esp_mib: Some(40),
        slot_mib: Some(7),
        ..Disk::default()
    };
    let one = bench.make("one", &disk).unwrap();
    assert_eq!(one, bench.make("other", &disk).unwrap());
    let [one, other] = ["one", "other"].map(|name| std::fs::read(bench.path(name)).unwrap());
    assert!(one == other);
}

#[test]
fn what_does_not_fit_is_named() {
    let bench = Bench::new();
    let made = |disk| bench.make("disk", &disk).unwrap_err().to_string();
    let slot = made(Disk {
        slot_mib: Some(3),
        ..Disk::default()
    });
    assert!(slot.contains("3149824 bytes, its slot 3145728"), "{slot}");
    let slots = made(Disk {
        slots: 3,
        ..Disk::default()
    });
    assert!(slots.contains("not 3"), "{slots}");
    let esp = bench.make(
        "disk",
        &Disk {
            slots: 2,
            esp_mib: Some(8),
            ..Disk::default()
        },
    );
    assert!(esp.is_ok(), "a FAT16 ESP of 8 MiB takes a UKI of 5 MB");
    std::fs::write(bench.path("tree"), vec![0; 4096]).unwrap();
    let tree = made(Disk::default());
    assert!(tree.contains("hash tree has 4096 bytes"), "{tree}");
    let bench = Bench {
        uki: vec![1; 9 << 20],
        ..Bench::new()
    };
    let full = bench.make(
        "disk",
        &Disk {
            esp_mib: Some(8),
            ..Disk::default()
        },
    );
    assert!(matches!(full, Err(DiskError::Esp(FatError::Full { .. }))));
}

/// The `size` bytes at `offset` of a file.
fn bytes_at(path: &Path, offset: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    File::open(path)
        .unwrap()
        .read_exact_at(&mut bytes, offset)
        .unwrap();
    bytes
}

#[test]
fn an_update_fills_the_second_slot() {
    let bench = Bench::new();
    let disk = Disk {
        slots: 2,
        tries: Some(2),
        ..Disk::default()
    };
    let version = |name: &str, version: &str, uki: u8, disk: &Disk| {
        let hash = *Digest::of(version.as_bytes()).as_bytes();
        let made = bench.make_version(name, version, hash, &[uki; 70_000], disk);
        made.unwrap().layout
    };
    let old_layout = version("old", "1.0.0", 1, &disk);
    // Another image: its bytes decide name and place in slot B, not those of slot A.
    let file = File::options()
        .write(true)
        .open(bench.path("root"))
        .unwrap();
    file.write_all_at(&[0x77; 4096], 8192).unwrap();
    let new_layout = version("new", "1.1.0", 2, &disk);
    version("single", "1.2.0", 2, &Disk::default());
    let (old, new, out) = (bench.path("old"), bench.path("new"), bench.path("disk"));
    let update = |old: &Path, new: &Path| {
        upgraded(&Upgrade {
            path: &out,
            old,
            new,
        })
    };
    let made = update(&old, &new).unwrap();

    assert_eq!(
        (made.old.to_string(), made.tries()),
        ("minimal_1.0.0.efi".to_owned(), 2)
    );
    let left = entries(&out).unwrap();
    assert_eq!(left, [made.old.clone(), made.new.clone()]);
    assert_eq!(left[1].path(), "EFI/Linux/minimal_1.1.0+2.efi");
    let raw = RawDisk {
        layout: made.layout.clone(),
        data: 0,
    };
    bench.check_table(&raw);
    let files: [(&str, &[u8]); 4] = [
        ("EFI/BOOT/BOOTX64.EFI", b"MZ loader"),
        ("EFI/Linux/minimal_1.0.0.efi", &[1; 70_000]),
        ("EFI/Linux/minimal_1.1.0+2.efi", &[2; 70_000]),
        ("loader/loader.conf", b"timeout 2\n"),
    ];
    bench.check_esp(&raw, &files);
    for (slot, disk, layout, from) in [(1, &old, &old_layout, 1), (3, &new, &new_layout, 1)] {
        for part in 0..2 {
            let (found, expected) = (
                &made.layout.partitions[slot + part],
                &layout.partitions[from + part],
            );
            assert_eq!((&found.name, found.uuid), (&expected.name, expected.uuid));
            let size = usize::try_from(expected.size).unwrap();
            assert!(bytes_at(&out, found.offset, size) == bytes_at(disk, expected.offset, size));
        }
    }

    let said = |result: Result<Upgraded, UpgradeError>| result.unwrap_err().to_string();
    assert!(said(update(&old, &old)).contains("both disks hold minimal_1.0.0"));
    assert!(said(update(&bench.path("single"), &new)).contains("slots = 2"));
    assert!(said(update(&old, &bench.path("single"))).contains("counted UKI"));
}

#[test]
fn an_update_that_is_too_large_is_refused() {
    let bench = Bench::new();
    let disk = |slot| Disk {
        slots: 2,
        slot_mib: Some(slot),
        ..Disk::default()
    };
    bench.make("old", &disk(4)).unwrap();
    let file = File::options()
        .write(true)
        .open(bench.path("root"))
        .unwrap();
    file.set_len(6 << 20).unwrap();
    let tree = crate::verity::Request {
        image: &bench.path("root"),
        tree: &bench.path("tree"),
        lock: Digest::of(b"lock"),
        threads: 1,
    };
    crate::verity::verity(&tree).unwrap();
    bench.make("new", &disk(7)).unwrap();
    let error = upgraded(&Upgrade {
        path: &bench.path("disk"),
        old: &bench.path("old"),
        new: &bench.path("new"),
    });
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("root image has 6291456 bytes") && error.contains("4194304"),
        "{error}"
    );
}

/// On a file system that shares blocks, the disk has those of the root image.
#[test]
fn a_disk_shares_the_blocks_of_its_root() {
    let folder = tempfile::tempdir().unwrap();
    let (image, point) = (folder.path().join("image"), folder.path().join("point"));
    File::create(&image).unwrap().set_len(400 << 20).unwrap();
    std::fs::create_dir(&point).unwrap();
    let (Some(mut mkfs), Some(mut list)) = (judge("mkfs.xfs"), judge("filefrag")) else {
        return;
    };
    run(mkfs.arg("-q").arg(&image));
    let mut mount = std::process::Command::new("mount");
    let mounted = mount.args(["-o", "loop"]).arg(&image).arg(&point).output();
    if !mounted.is_ok_and(|said| said.status.success()) {
        eprintln!("SKIPPED a check: XFS cannot be mounted here");
        return;
    }
    let said = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let bench = Bench::in_folder(tempfile::tempdir_in(&point).unwrap());
        let made = bench.make("disk", &Disk::default()).unwrap();
        let root = bench.extract("disk", &made, Role::Root);
        let (root, image) = (
            std::fs::read(root).unwrap(),
            std::fs::read(bench.path("root")).unwrap(),
        );
        assert!(root[..image.len()] == image);
        assert!(root[image.len()..].iter().all(|byte| *byte == 0));
        File::open(bench.path("disk")).unwrap().sync_all().unwrap();
        run(list.arg("-v").arg(bench.path("disk")))
    }));
    run(std::process::Command::new("umount").arg(&point));
    let said = said.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    assert!(said.contains("shared"), "{said}");
}
