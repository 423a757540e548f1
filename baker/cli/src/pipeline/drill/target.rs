//! What a drill damages: every structure of the disk and every file of the release.
//!
//! Pure: takes the map of the disk, the sizes of the files and a seed; gives the same targets for
//! the same seed.

use std::ops::Range;

use baker_build::anatomy::{
    Anatomy, Copy, EspPart, ProgramPart, Region, RootPart, Standing, Structure, TablePart, TreePart,
};
use baker_formats::{erofs, fat};
use baker_model::Digest;

/// One bit that is flipped in one or several places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The structure, for people.
    pub structure: String,
    /// Where it lies.
    pub place: Place,
    /// The bit of each byte, 0 to 7.
    pub bit: u8,
}

impl Target {
    /// True when `baker verify` is the only judge.
    pub fn is_in_file(&self) -> bool {
        matches!(self.place, Place::File { .. })
    }
}

/// Where a flip happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a file of the release, which `baker verify` judges.
    File {
        /// Path inside the release.
        name: String,
        /// Byte of the file.
        offset: u64,
    },
    /// On the disk, which a boot judges, too.
    Disk {
        /// Bytes of the disk.
        offsets: Vec<u64>,
        /// What the damage can do.
        standing: Standing,
    },
}

/// How many flips, and which.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Decides the bytes.
    pub seed: Digest,
    /// Flips in each structure.
    pub per_structure: u32,
    /// All structures, or those that a release stands and falls with.
    pub extent: Extent,
    /// Only structures with one of these texts in their names; empty: all.
    pub only: Vec<String>,
}

/// Which structures are damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All.
    All,
    /// The quick selection.
    Quick,
}

impl Choice {
    /// The targets on the disk, in the order of their structures.
    pub fn on_disk(&self, anatomy: &Anatomy) -> Vec<Target> {
        let mut targets = Vec::new();
        for (kind, mut regions) in kinds(anatomy) {
            if self.extent == Extent::Quick && !is_quick(&kind) {
                continue;
            }
            regions.retain(|region| self.wants(&region.structure.to_string()));
            let name = kind.to_string();
            for number in 0..self.per_structure {
                let (draw, bit) = self.draw(&name, number);
                let Some((offset, region)) = nth_byte(&regions, draw) else {
                    continue;
                };
                targets.push(Target {
                    structure: region.structure.to_string(),
                    place: Place::Disk {
                        offsets: vec![offset],
                        standing: region.structure.standing(),
                    },
                    bit,
                });
            }
        }
        targets.extend(self.both_headers(anatomy));
        targets
    }

    /// The targets in a file of the release of `size` bytes; in a file whose signatures lie at
    /// `signatures`, each of those is a structure of its own.
    pub fn in_file(&self, name: &str, size: u64, signatures: &[Range<u64>]) -> Vec<Target> {
        let mut parts = vec![(name.to_owned(), 0..size)];
        for (number, range) in (1..).zip(signatures) {
            parts.push((format!("{name} signature {number}"), range.clone()));
        }
        let mut targets = Vec::new();
        for (structure, range) in parts {
            if range.is_empty() || !self.wants(&structure) {
                continue;
            }
            for number in 0..self.per_structure {
                let (draw, bit) = self.draw(&structure, number);
                targets.push(Target {
                    structure: structure.clone(),
                    place: Place::File {
                        name: name.to_owned(),
                        offset: range.start + draw % (range.end - range.start),
                    },
                    bit,
                });
            }
        }
        targets
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|text| name.contains(text.as_str()))
    }

    /// A number and a bit for flip `number` of a structure.
    fn draw(&self, structure: &str, number: u32) -> (u64, u8) {
        let digest = self.seed.derive(&format!("{structure}/{number}"));
        let mut word = [0; 8];
        word.copy_from_slice(&digest.as_bytes()[..8]);
        (u64::from_le_bytes(word), digest.as_bytes()[8] % 8)
    }

    /// Both headers of the partition table at once: no copy is left to fall back to.
    fn both_headers(&self, anatomy: &Anatomy) -> Option<Target> {
        const NAME: &str = "both GPT headers";
        let header = |wanted: Copy| {
            anatomy.regions().iter().find(|region| {
                matches!(&region.structure, Structure::Table { copy, part: TablePart::Header }
                    if *copy == wanted)
            })
        };
        let (primary, backup) = (header(Copy::Primary)?, header(Copy::Backup)?);
        let (draw, bit) = self.draw(NAME, 0);
        let size = primary.range.end - primary.range.start;
        let at = draw % size;
        self.wants(NAME).then(|| Target {
            structure: NAME.to_owned(),
            place: Place::Disk {
                offsets: vec![primary.range.start + at, backup.range.start + at],
                standing: Standing::Content,
            },
            bit,
        })
    }
}

/// The regions by kind of structure, in the order in which the kinds first appear.
fn kinds(anatomy: &Anatomy) -> Vec<(Structure, Vec<&Region>)> {
    let mut kinds: Vec<(Structure, Vec<&Region>)> = Vec::new();
    for region in anatomy.regions() {
        let kind = region.structure.kind();
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, regions)) => regions.push(region),
            None => kinds.push((kind, vec![region])),
        }
    }
    kinds
}

/// The byte that `draw` falls on when all bytes of the regions are alike.
fn nth_byte<'a>(regions: &[&'a Region], draw: u64) -> Option<(u64, &'a Region)> {
    let length = |region: &Region| region.range.end - region.range.start;
    let total: u64 = regions.iter().map(|region| length(region)).sum();
    let mut left = draw.checked_rem(total)?;
    for region in regions {
        if left < length(region) {
            return Some((region.range.start + left, region));
        }
        left -= length(region);
    }
    None
}

/// True for the structures of a quick drill.
fn is_quick(structure: &Structure) -> bool {
    match structure {
        Structure::Table { part, .. } => *part == TablePart::Header,
        Structure::Esp(part) => {
            matches!(
                part,
                EspPart::Volume(fat::Part::BackupBoot) | EspPart::Entry(_)
            )
        }
        Structure::Program { part, .. } => match part {
            ProgramPart::Section(name) => {
                [".linux", ".initrd", ".cmdline", ".osrel"].contains(&name.as_str())
            }
            part => matches!(part, ProgramPart::Headers | ProgramPart::Certificates),
        },
        Structure::Root { part, .. } => matches!(
            part,
            RootPart::Erofs(
                erofs::Part::SuperBlock | erofs::Part::Inode | erofs::Part::Data,
                _
            ) | RootPart::Squashfs(_)
        ),
        Structure::HashTree { part, .. } => {
            matches!(part, TreePart::SuperBlock | TreePart::Level(_))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(seed: &str) -> Choice {
        Choice {
            seed: Digest::of(seed.as_bytes()),
            per_structure: 3,
            extent: Extent::All,
            only: Vec::new(),
        }
    }

    #[test]
    fn the_seed_and_nothing_else_decides() {
        let targets = choice("a").in_file("manifest.json", 5000, &[]);
        assert_eq!(targets, choice("a").in_file("manifest.json", 5000, &[]));
        assert_ne!(targets, choice("b").in_file("manifest.json", 5000, &[]));
        assert_eq!(targets.len(), 3);
        for target in &targets {
            let Place::File { offset, .. } = target.place else {
                panic!("{target:?}");
            };
            assert!(offset < 5000 && target.bit < 8);
        }
    }

    #[test]
    fn each_signature_is_a_structure() {
        let targets = choice("a").in_file("x.sig", 300, &[100..188, 200..288]);
        let names: Vec<_> = targets.iter().map(|t| t.structure.as_str()).collect();
        let [file, one, two] = ["x.sig", "x.sig signature 1", "x.sig signature 2"];
        assert_eq!(names, [file, file, file, one, one, one, two, two, two]);
        let inside = |target: &Target, range: Range<u64>| matches!(&target.place, Place::File { offset, .. } if range.contains(offset));
        assert!(targets[3..6].iter().all(|target| inside(target, 100..188)));
        assert!(targets[6..].iter().all(|target| inside(target, 200..288)));
        let only = Choice {
            only: vec!["signature 2".into()],
            ..choice("a")
        };
        assert_eq!(only.in_file("x.sig", 300, &[100..188, 200..288]).len(), 3);
        assert!(choice("a").in_file("empty", 0, &[]).is_empty());
    }

    #[test]
    fn every_byte_of_a_kind_can_be_hit_and_no_other() {
        let region = |range| Region {
            range,
            structure: Structure::Gap,
        };
        let regions = [region(10..12), region(20..23)];
        let regions: Vec<_> = regions.iter().collect();
        let hit: Vec<_> = (0..6)
            .map(|draw| nth_byte(&regions, draw).unwrap().0)
            .collect();
        assert_eq!(hit, [10, 11, 20, 21, 22, 10]);
        assert_eq!(nth_byte(&[], 1), None);
    }
}
