//! Maps of whole disks, judged by `sgdisk`, `fsck.fat`, mtools, `objdump` and `dump.erofs`.

pub(crate) mod bench;

use std::fs;
use std::path::Path;

use super::*;
use crate::judge::{judge, run};
use bench::{Bench, Format};

/// Every byte belongs to exactly one region.
fn check_whole(bench: &Bench) {
    let mut at = 0;
    for region in bench.anatomy.regions() {
        assert_eq!(region.range.start, at, "{}", region.structure);
        assert!(region.range.end > at, "{}", region.structure);
        at = region.range.end;
    }
    assert_eq!(at, bench.anatomy.size());
    let size = fs::metadata(bench.path("disk")).unwrap().len();
    assert_eq!(at, size);
}

/// The number behind `key` in what a judge said.
fn number(said: &str, key: &str) -> u64 {
    let rest = &said[said.find(key).unwrap_or_else(|| panic!("{key}: {said}")) + key.len()..];
    let digits = rest.trim_start().split(|c: char| !c.is_ascii_digit());
    digits.into_iter().next().unwrap().parse().unwrap()
}

/// A partition in a file of its own, for judges that know no disks.
fn extract(bench: &Bench, name: &str) -> std::path::PathBuf {
    let partition = bench.layout.partitions.iter().find(|p| p.name == name);
    let partition = partition.unwrap();
    let mut bytes = vec![0; usize::try_from(partition.size).unwrap()];
    let disk = fs::File::open(bench.path("disk")).unwrap();
    disk.read_exact_at(partition.offset, &mut bytes).unwrap();
    let path = bench.path(name);
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn every_byte_of_every_kind_of_disk_has_one_structure() {
    for (format, slots) in [
        (Format::Erofs, 1),
        (Format::Erofs, 2),
        (Format::Squashfs, 1),
    ] {
        let bench = Bench::new(format, slots);
        check_whole(&bench);
        let first = bench.anatomy.regions().first().unwrap();
        assert_eq!(bench.anatomy.at(445), Some(first));
        assert_eq!(bench.anatomy.at(bench.anatomy.size()), None);
        for partition in &bench.layout.partitions {
            let region = bench.anatomy.at(partition.offset).unwrap();
            assert_eq!(region.range.start, partition.offset, "{partition:?}");
        }
    }
}

#[test]
fn the_table_lies_where_sgdisk_says() {
    let bench = Bench::new(Format::Erofs, 1);
    let Some(mut sgdisk) = judge("sgdisk") else {
        return;
    };
    let said = run(sgdisk.arg("-p").arg(bench.path("disk")));
    let first = number(&said, "Main partition table begins at sector") * 512;
    assert_eq!(bench.place("primary GPT header"), (512, 512 + 92));
    assert_eq!(bench.place("primary GPT entry of esp").0, first);
    let last = number(&said, "and ends at sector") * 512 + 512;
    assert_eq!(bench.place("primary GPT free entries").1, last);
    assert_eq!(bench.place("primary GPT free entries").0, first + 3 * 128);
    let size = bench.anatomy.size();
    assert_eq!(bench.place("backup GPT header").0, size - 512);
    assert_eq!(bench.place("backup GPT entry of esp").0, size - 33 * 512);
    let gaps = bench.regions("gap between partitions");
    assert_eq!(
        gaps.len(),
        2,
        "in front of the first partition, behind the last"
    );
    assert_eq!(gaps[0].range, last..1 << 20);
}

#[test]
fn the_volume_lies_as_fsck_and_mtools_say() {
    let bench = Bench::new(Format::Erofs, 2);
    let esp = extract(&bench, "esp");
    let start = 1 << 20;
    if let Some(mut fsck) = judge("fsck.fat") {
        let said = run(fsck.arg("-vn").arg(&esp));
        let [first, data] = ["First FAT starts at byte", "Data area starts at byte"]
            .map(|key| start + number(&said, key));
        let table = number(&said, "32 bit entries\n");
        let clusters = number(&said[said.find("(sector 1").unwrap_or(0)..], ")\n");
        let entries = (clusters + 2) * 4;
        let starts = |name: &str| bench.regions(name)[0].range.start;
        assert_eq!(starts("ESP FAT 1 used entries"), first);
        assert_eq!(starts("ESP FAT 2 used entries"), first + table);
        let free = bench.regions("ESP FAT 2 free entries");
        assert_eq!(free.last().unwrap().range.end, data);
        assert!(entries <= table, "{said}");
        assert_eq!(starts("ESP entry notes of /ESP"), data);
    }
    let Some(mut show) = judge("mshowfat") else {
        return;
    };
    let said = run(show.arg("-i").arg(&esp).arg("::loader/loader.conf"));
    let cluster = number(&said, "<");
    let root = bench.regions("ESP entry notes of /ESP")[0].range.start;
    let (from, end) = bench.place("ESP file /loader/loader.conf");
    // The root directory is cluster 2.
    assert_eq!((from - root) % 512, 0);
    let mut boot = [0; 14];
    let disk = fs::File::open(bench.path("disk")).unwrap();
    disk.read_exact_at(start, &mut boot).unwrap();
    let size = u64::from(boot[13]) * 512;
    assert_eq!(from, root + (cluster - 2) * size);
    assert_eq!(end - from, b"timeout 2\n".len() as u64);
    let entry = bench.regions("ESP entry of /loader/loader.conf");
    let last = entry.last().unwrap().range.clone();
    let disk = |at| {
        let mut field = [0; 4];
        disk.read_exact_at(at, &mut field).unwrap();
        u64::from(u32::from_le_bytes(field))
    };
    assert_eq!((last.end - last.start, disk(last.end - 4)), (6, end - from));
    let slack = bench.place("ESP slack of /loader/loader.conf");
    assert_eq!(slack, (end, from + size));
}

#[test]
fn a_program_is_whole_and_its_sections_lie_where_objdump_says() {
    let bench = Bench::new(Format::Erofs, 1);
    let path = "/EFI/BOOT/BOOTX64.EFI";
    let parts: Vec<_> = bench
        .anatomy
        .regions()
        .iter()
        .filter(|r| matches!(&r.structure, Structure::Program { path: p, .. } if p == path))
        .collect();
    // The file lies in one piece, so its regions put together are the file.
    let disk = fs::read(bench.path("disk")).unwrap();
    let bytes = |region: &&Region| {
        let [from, end] = [region.range.start, region.range.end];
        disk[usize::try_from(from).unwrap()..usize::try_from(end).unwrap()].to_vec()
    };
    assert!(parts.iter().flat_map(bytes).eq(bench.uki.iter().copied()));
    let start = parts[0].range.start;
    let certificates = bench.place(&format!("{path} certificate table"));
    assert_eq!(certificates.1 - start, bench.uki.len() as u64);
    assert_eq!(certificates.1 - certificates.0, 64);
    let sum = bench.place(&format!("{path} PE checksum"));
    assert_eq!((sum.0 - start, sum.1 - start), (0x58 + 64, 0x58 + 68));
    let Some(mut objdump) = judge("objdump") else {
        return;
    };
    fs::write(bench.path("uki"), &bench.uki).unwrap();
    let said = run(objdump.arg("-h").arg(bench.path("uki")));
    for section in [".text", ".cmdline", ".linux"] {
        let row = said.lines().find(|line| line.contains(section)).unwrap();
        let words: Vec<_> = row.split_whitespace().collect();
        let [size, at] = [2, 5].map(|word| u64::from_str_radix(words[word], 16).unwrap());
        let (from, end) = bench.place(&format!("{path} section {section}"));
        assert_eq!((from - start, end - from), (at, size), "{said}");
    }
}

#[test]
fn files_of_the_root_lie_where_dump_erofs_says() {
    let bench = Bench::new(Format::Erofs, 1);
    let root = extract(&bench, "minimal_1.0.0");
    let start = bench.layout.partitions[1].offset;
    for path in ["/usr/noise", "/usr/text", "/etc/motd", "/many", "/"] {
        let Some(mut dump) = judge("dump.erofs") else {
            return;
        };
        let said = run(dump.arg(format!("--path={path}")).arg("-e").arg(&root));
        let nid = number(&said, "NID:");
        let inode = format!("root minimal_1.0.0 EROFS inode of {path}");
        let (from, end) = bench.place(&inode);
        assert_eq!(end - from, number(&said, "Inode size:"), "{said}");
        check_extents(&bench, path, &said, start);
        check_nid(&bench, &root, nid, from - start);
    }
}

/// Every extent lies inside of regions of the path.
fn check_extents(bench: &Bench, path: &str, said: &str, start: u64) {
    let mut seen = 0;
    for line in said.lines().filter(|line| line.matches(':').count() == 2) {
        let Some((_, physical)) = line.rsplit_once(':') else {
            continue;
        };
        let mut numbers = physical.split(|c: char| !c.is_ascii_digit());
        let mut next = || numbers.by_ref().find_map(|text| text.parse::<u64>().ok());
        let (Some(from), Some(end)) = (next(), next()) else {
            continue;
        };
        for at in [from, end - 1] {
            let region = bench.anatomy.at(start + at).unwrap();
            let name = region.structure.to_string();
            assert!(
                name.ends_with(&format!(" of {path}")),
                "{at}: {name}\n{said}"
            );
            assert!(region.is_used());
        }
        seen += 1;
    }
    assert!(seen > 0, "{said}");
}

/// An inode lies at its number times 32 behind the metadata's first block.
fn check_nid(bench: &Bench, root: &Path, nid: u64, at: u64) {
    let mut block = [0; 4];
    let file = fs::File::open(root).unwrap();
    file.read_exact_at(1024 + 40, &mut block).unwrap();
    assert_eq!(u64::from(u32::from_le_bytes(block)) * 4096 + nid * 32, at);
    let rest = bench.place("root minimal_1.0.0 rest");
    assert_eq!(rest.1, bench.layout.partitions[2].offset);
}

#[test]
fn the_tree_has_the_levels_of_its_data() {
    let bench = Bench::new(Format::Erofs, 1);
    let start = bench.layout.partitions[2].offset;
    let image = fs::metadata(bench.path("root")).unwrap().len();
    let tree = fs::metadata(bench.path("tree")).unwrap().len();
    let leaves = (image / 4096).div_ceil(128);
    let name = |part: &str| format!("hash tree minimal_1.0.0_verity {part}");
    let place = |part| {
        let (from, end) = bench.place(&name(part));
        (from - start, end - start)
    };
    assert_eq!(place("UUID"), (16, 32));
    let parts = |part| -> Vec<_> {
        let regions = bench.regions(&name(part)).into_iter();
        let place = |region: &Region| (region.range.start - start, region.range.end - start);
        regions.map(place).collect()
    };
    // Version 1, "sha256", 4096-byte blocks, a salt of 32 bytes.
    let fields = [(0, 16), (32, 39), (64, 82), (88, 120)];
    assert_eq!(parts("superblock"), fields);
    let rest = [(39, 64), (82, 88), (120, 4096)];
    assert_eq!(parts("superblock, rest"), rest);
    assert_eq!(place("level 0"), (tree - leaves * 4096, tree));
    assert_eq!(place("rest").0, tree);
    assert_eq!(leaves, 1, "one level only: the block behind the superblock");
}

#[test]
fn squashfs_tables_follow_each_other() {
    let bench = Bench::new(Format::Squashfs, 1);
    let parts = [
        "superblock",
        "data",
        "inodes",
        "directories",
        "fragment table",
        "owner table",
    ];
    let mut at = bench.layout.partitions[1].offset;
    for part in parts {
        let (from, end) = bench.place(&format!("root minimal_1.0.0 SquashFS {part}"));
        assert_eq!(from, at, "{part}");
        at = end;
    }
}

#[test]
fn damaged_disks_are_errors_or_whole_maps() {
    let bench = Bench::new(Format::Erofs, 2);
    let mut bytes = fs::read(bench.path("disk")).unwrap();
    let size = bytes.len() as u64;
    let mut state = 7_usize;
    // Every structure gets damage in its first bytes, which are mostly numbers.
    for region in bench.anatomy.regions() {
        if !region.is_used() || region.range.end - region.range.start > 1 << 20 {
            continue;
        }
        let start = usize::try_from(region.range.start).unwrap();
        let length = usize::try_from(region.range.end - region.range.start).unwrap();
        state = state.wrapping_mul(31).wrapping_add(start);
        let at = start + state % length.min(64);
        let before = bytes[at];
        bytes[at] ^= 0x81;
        if let Ok(map) = anatomy(&bytes, size) {
            assert_eq!(map.regions().last().unwrap().range.end, size);
        }
        bytes[at] = before;
    }
}
