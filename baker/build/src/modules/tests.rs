//! Judged by `depmod` and `modprobe` on small modules made here, and on a real kernel package
//! when `BAKER_TEST_KERNEL` names the folder that one was unpacked to.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use baker_model::Tree;
use baker_model::recipe::{ModuleWord, RootFormat, RootModules};
use baker_model::tree::{Content, Kind, Metadata, NoContents, Node, Origin, TreePath};

use super::elf::Elf;
use super::{
    InitrdRequest, LoadedModule, Modules, ModulesError, hardware, initrd_modules, install,
};
use crate::judge::judge;

const RELEASE: &str = "6.1.0-test";

/// A relocatable ELF file with `.modinfo` and one export per symbol; a symbol with `?` in front is
/// used, not exported.
fn module(info: &[&str], all: &[&str]) -> Vec<u8> {
    let (uses, exports): (Vec<&str>, Vec<&str>) =
        all.iter().copied().partition(|name| name.starts_with('?'));
    let modinfo = info
        .iter()
        .flat_map(|text| [text.as_bytes(), b"\0"].concat())
        .collect();
    let mut strings = vec![0u8];
    let mut symbols = vec![0u8; 24];
    for name in uses {
        symbols.extend(u32::try_from(strings.len()).unwrap().to_le_bytes());
        symbols.extend([0x10, 0, 0, 0]);
        symbols.extend([0; 16]);
        strings.extend(format!("{}\0", &name[1..]).bytes());
    }
    for export in &exports {
        symbols.extend(u32::try_from(strings.len()).unwrap().to_le_bytes());
        symbols.extend([0, 0, 1, 0]);
        symbols.extend([0; 16]);
        strings.extend(format!("__ksymtab_{export}\0").bytes());
    }
    let export_names = exports
        .iter()
        .flat_map(|name| format!("{name}\0").into_bytes())
        .collect();
    let names = b"\0.modinfo\0.symtab\0.strtab\0.shstrtab\0__ksymtab_strings\0".to_vec();
    // (name, type, link, entry size, content)
    let sections: [(u32, u32, u32, u64, Vec<u8>); 5] = [
        (1, 1, 0, 0, modinfo),
        (10, 2, 3, 24, symbols),
        (18, 3, 0, 0, strings),
        (26, 3, 0, 0, names),
        (36, 1, 0, 0, export_names),
    ];
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    bytes.extend([1, 0, 62, 0, 1, 0, 0, 0]);
    bytes.resize(64, 0);
    let mut headers = vec![0; 64];
    for (name, kind, link, entry, content) in sections {
        headers.extend([name.to_le_bytes(), kind.to_le_bytes()].concat());
        headers.extend([0; 16]);
        headers.extend((bytes.len() as u64).to_le_bytes());
        headers.extend((content.len() as u64).to_le_bytes());
        headers.extend([link.to_le_bytes(), [0; 4]].concat());
        headers.extend(1u64.to_le_bytes());
        headers.extend(entry.to_le_bytes());
        bytes.extend(content);
    }
    let table = (bytes.len() as u64).to_le_bytes();
    bytes[40..48].copy_from_slice(&table);
    bytes[52] = 64;
    bytes[58] = 64;
    bytes[60] = 6;
    bytes[62] = 4;
    bytes.extend(headers);
    bytes
}

fn put(tree: &mut Tree, path: &str, bytes: Vec<u8>) {
    let path = TreePath::new(path).unwrap();
    tree.ensure_parents(&path, 0).unwrap();
    let kind = Kind::file(Content::inline(bytes));
    let metadata = Metadata::of_root(0o644, 0);
    tree.insert(
        path,
        Node {
            metadata,
            kind,
            origin: Origin::Recipe,
        },
    )
    .unwrap();
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    std::io::copy(&mut liblzma::read::XzEncoder::new(bytes, 0), &mut packed).unwrap();
    packed
}

/// A kernel package with what matters: both packings, dashes, soft dependencies, built-ins.
fn kernel() -> Tree {
    let mut tree = Tree::new(0);
    let folder = format!("usr/lib/modules/{RELEASE}");
    let plain: [(&str, &[&str], &[&str]); 6] = [
        (
            "md/dm-bufio",
            &["depends=", "name=dm_bufio"],
            &["dm_bufio_new", "dm_bufio_get"],
        ),
        (
            "md/dm-verity",
            &["alias=dm-verity", "depends=dm-bufio,dm-mod"],
            &["?dm_bufio_new"],
        ),
        (
            "fs/erofs",
            &[
                "alias=fs-erofs",
                "depends=libcrc",
                "softdep=pre: zz-fast absent",
            ],
            &["?crc"],
        ),
        (
            "lib/libcrc",
            &["depends=", "softdep=pre: crc-any post: late"],
            &["crc"],
        ),
        (
            "lib/late",
            &["depends=libcrc", "alias=pci:v*d[0-9]-x*", "alias=bad]x"],
            &["?crc"],
        ),
        (
            "net/tun",
            &[
                "alias=devname:net/tun",
                "alias=char-major-10-200",
                "depends=",
            ],
            &[],
        ),
    ];
    let mut order = String::new();
    for (path, info, exports) in plain {
        order += &format!("kernel/{path}.ko\n");
        let bytes = xz(&module(info, exports));
        put(&mut tree, &format!("{folder}/kernel/{path}.ko.xz"), bytes);
    }
    let bytes = module(
        &["depends=", "alias=crc-any", "alias=crypto-zz-fast"],
        &["fast"],
    );
    put(
        &mut tree,
        &format!("{folder}/kernel/arch/crc-fast.ko"),
        bytes,
    );
    let builtin = "kernel/md/dm-mod.ko\nkernel/crypto/sha256_generic.ko\n";
    let modinfo = "sha256_generic.alias=crypto-sha256\0dm_mod.alias=devname:mapper/control\0";
    put(
        &mut tree,
        &format!("{folder}/modules.order"),
        order.into_bytes(),
    );
    put(
        &mut tree,
        &format!("{folder}/modules.builtin"),
        builtin.into(),
    );
    put(
        &mut tree,
        &format!("{folder}/modules.builtin.modinfo"),
        modinfo.into(),
    );
    tree
}

fn names(request: &[&str]) -> Result<Vec<String>, ModulesError> {
    let names: Vec<_> = request.iter().map(|&name| name.to_owned()).collect();
    let kernel = kernel();
    let modules = Modules::read(&kernel, &NoContents)?;
    Ok(modules
        .closure(&NoContents, &names)?
        .into_iter()
        .map(|module| module.name)
        .collect())
}

#[test]
fn a_closure_is_in_loading_order() {
    assert_eq!(names(&["dm-verity"]).unwrap(), ["dm_bufio", "dm_verity"]);
    assert_eq!(
        names(&["erofs"]).unwrap(),
        ["crc_fast", "libcrc", "late", "erofs"]
    );
    assert_eq!(
        names(&["libcrc", "tun", "libcrc"]).unwrap(),
        ["crc_fast", "libcrc", "late", "tun"]
    );
    assert_eq!(names(&["crypto-zz_fast"]).unwrap(), ["crc_fast"]);
    assert_eq!(names(&["dm-mod", "crypto-sha256"]).unwrap(), [""; 0]);
}

#[test]
fn an_unknown_module_is_an_error_with_near_names() {
    let error = names(&["dm-verty"]).unwrap_err();
    let ModulesError::Unknown {
        name,
        release,
        nearest,
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!((&name[..], &release[..]), ("dm-verty", RELEASE));
    assert_eq!(nearest, ["dm_verity"]);
}

#[test]
fn the_initrd_gets_what_the_guest_needs() {
    let kernel = kernel();
    let request = InitrdRequest {
        kernel: &kernel,
        contents: &NoContents,
        names: &["tun".to_owned()],
        optional: &[],
        root_format: RootFormat::Erofs,
    };
    let modules = initrd_modules(request).unwrap();
    let paths: Vec<_> = modules.iter().map(|module| &module.path[..]).collect();
    let expected = [
        "dm_bufio",
        "dm_verity",
        "crc_fast",
        "libcrc",
        "late",
        "erofs",
        "tun",
    ];
    let drivers = modules.iter().filter(|module| module.is_driver);
    assert_eq!(drivers.count(), 1);
    assert!(modules.iter().all(|module| module.hardware.is_empty()));
    assert_eq!(
        paths,
        expected.map(|name| format!("/lib/modules/{name}.ko"))
    );
    assert!(
        modules
            .iter()
            .all(|module| module.bytes.starts_with(b"\x7fELF"))
    );
}

#[test]
fn a_driver_is_for_the_hardware_of_those_above_it_too() {
    let loaded = |name: &str, depends: &[&str], aliases: &[&str]| LoadedModule {
        name: name.into(),
        bytes: Vec::new(),
        depends: depends.iter().map(|&name| name.to_owned()).collect(),
        aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
    };
    let closure = [
        loaded("common", &[], &[]),
        loaded("bus", &["common"], &["devname:bus/control", "bus-any"]),
        loaded("card", &["bus"], &["pci:v1*", "virtio:d8v*"]),
        loaded("disk", &["bus"], &["scsi:t-0x00*"]),
        loaded("shared", &[], &["pci:v9*"]),
        loaded("plain", &["shared"], &["block-major-7-*"]),
    ];
    let found = hardware(&closure);
    let of = |name| -> Vec<&str> {
        found
            .get(name)
            .into_iter()
            .flatten()
            .map(|p| &**p)
            .collect()
    };
    let three = ["pci:v1*", "scsi:t-0x00*", "virtio:d8v*"];
    assert_eq!(of("common"), three);
    assert_eq!(of("bus"), three);
    assert_eq!(of("card"), ["pci:v1*", "virtio:d8v*"]);
    assert_eq!(of("disk"), ["scsi:t-0x00*"]);
    // Of use without hardware, and so is what it stands on.
    assert_eq!([of("plain"), of("shared")], [[""; 0]; 2]);
}

#[test]
fn broken_modules_are_errors_and_never_panics() {
    let whole = module(&["alias=x", "depends=y"], &["z"]);
    for cut in 0..whole.len() {
        let part = Elf::parse(&whole[..cut]).and_then(|elf| elf.info());
        assert!(part.is_err(), "cut at {cut}");
    }
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            drop(Elf::parse(&bytes).map(|elf| (elf.info(), elf.exports())));
        }
    }
    let mut tree = kernel();
    let path = format!("usr/lib/modules/{RELEASE}/kernel/fs/erofs.ko.xz");
    put(&mut tree, &path, b"\xfd7zXZ\0".to_vec());
    let modules = Modules::read(&tree, &NoContents).unwrap();
    let error = modules
        .closure(&NoContents, &["erofs".to_owned()])
        .unwrap_err();
    assert!(matches!(error, ModulesError::Decompress { .. }), "{error}");
    let error = Modules::read(&Tree::new(0), &NoContents).unwrap_err();
    assert!(matches!(error, ModulesError::NoModules), "{error}");
}

/// Writes the files of `tree` below `folder`.
fn unpack(tree: &Tree, folder: &Path) {
    for (path, node) in tree.walk() {
        let place = folder.join(&path.to_string()[1..]);
        match &node.kind {
            Kind::File {
                content: Content::Inline(bytes),
                ..
            } => fs::write(place, bytes).unwrap(),
            _ => fs::create_dir_all(place).unwrap(),
        }
    }
}

/// The lines of a text sorted, the words after a colon too: depmod's own order hangs on its hash
/// tables.
fn settled(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let mut lines: Vec<_> = text
        .lines()
        .map(|line| {
            let (head, tail) = line.split_once(": ").unwrap_or((line, ""));
            let mut words: Vec<_> = tail.split(' ').collect();
            words.sort_unstable();
            format!("{head}: {}", words.join(" "))
        })
        .collect();
    lines.sort_unstable();
    lines
}

/// Installs a selection, lets depmod do the same, and compares every file that it writes.
fn compare(kernel: &Tree, selection: &RootModules) {
    let mut root = Tree::new(0);
    let installed = install(&mut root, kernel, &NoContents, selection, 0).unwrap();
    let folder = tempfile::tempdir().unwrap();
    unpack(&root, folder.path());
    let place = folder
        .path()
        .join("usr/lib/modules")
        .join(&installed.release);
    let ours: BTreeMap<String, Vec<u8>> = read_files(&place);
    // kmod before version 34 looks only below /lib.
    std::os::unix::fs::symlink("usr/lib", folder.path().join("lib")).unwrap();
    let Some(mut depmod) = judge("depmod") else {
        return;
    };
    let shown = |module: &str, options: &[&str]| {
        let mut modprobe = judge("modprobe").expect("kmod has both");
        modprobe.args(["-C", "/dev/null", "-d"]).arg(folder.path());
        let output = modprobe
            .args(["-S", &installed.release])
            .args(options)
            .arg(module)
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let by_ours = [
        shown("erofs", &["--show-depends"]),
        shown("crypto-sha256", &["-R"]),
    ];
    let status = depmod
        .arg("-b")
        .arg(folder.path())
        .arg(&installed.release)
        .status()
        .unwrap();
    assert!(status.success());
    let theirs = read_files(&place);
    for (name, bytes) in &theirs {
        let own = ours
            .get(name)
            .unwrap_or_else(|| panic!("{name} is missing"));
        if !name.ends_with(".bin") {
            assert_eq!(settled(own), settled(bytes), "{name}");
        } else if name != "modules.dep.bin" {
            // Its values are lines of modules.dep, with their order of words.
            assert!(own == bytes, "{name} differs from depmod's");
        }
    }
    assert_eq!(
        by_ours,
        [
            shown("erofs", &["--show-depends"]),
            shown("crypto-sha256", &["-R"])
        ]
    );
}

fn read_files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.is_file());
    files
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        })
        .collect()
}

#[test]
fn indexes_are_those_of_depmod() {
    let kernel = kernel();
    compare(&kernel, &RootModules::Word(ModuleWord::All));
    compare(&kernel, &RootModules::Word(ModuleWord::None));
    compare(
        &kernel,
        &RootModules::Named(vec!["erofs".into(), "tun".into()]),
    );
}

#[test]
fn a_real_kernel_is_indexed_as_depmod_does() {
    let Some(folder) = std::env::var_os("BAKER_TEST_KERNEL") else {
        eprintln!("SKIPPED a check: BAKER_TEST_KERNEL names no unpacked kernel package");
        return;
    };
    let mut tree = Tree::new(0);
    read_tree(&mut tree, Path::new(&folder), "");
    let start = std::time::Instant::now();
    let mut root = Tree::new(0);
    let all = RootModules::Word(ModuleWord::All);
    let installed = install(&mut root, &tree, &NoContents, &all, 0).unwrap();
    eprintln!(
        "{} modules installed in {:?}",
        installed.modules,
        start.elapsed()
    );
    let start = std::time::Instant::now();
    let request = InitrdRequest {
        kernel: &tree,
        contents: &NoContents,
        optional: &[],
        names: &[
            "virtio_blk".to_owned(),
            "virtio_net".to_owned(),
            "nvme".to_owned(),
        ],
        root_format: RootFormat::Erofs,
    };
    let modules = initrd_modules(request).unwrap();
    let paths: Vec<_> = modules.iter().map(|module| &module.path[..]).collect();
    eprintln!("closure in {:?}: {}", start.elapsed(), paths.join(" "));
    compare(&tree, &all);
    compare(
        &tree,
        &RootModules::Named(vec!["virtio_net".into(), "btrfs".into()]),
    );
}

fn read_tree(tree: &mut Tree, folder: &Path, below: &str) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = format!("{below}/{}", entry.file_name().to_str().unwrap());
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => read_tree(tree, &entry.path(), &path),
            kind if kind.is_file() => put(tree, &path, fs::read(entry.path()).unwrap()),
            _ => {}
        }
    }
}
