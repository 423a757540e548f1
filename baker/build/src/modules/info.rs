//! What a module says of itself in `.modinfo`.

use super::ElfProblem;
use super::elf::Elf;

/// The facts of one module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Info {
    /// Names of the modules whose symbols it uses.
    pub(super) depends: Vec<String>,
    /// Patterns by which it is asked for.
    pub(super) aliases: Vec<String>,
    /// Soft dependencies, as written.
    pub(super) softdeps: Vec<String>,
    /// Weak dependencies (kernels from 6.12), as written.
    pub(super) weakdeps: Vec<String>,
}

impl Info {
    /// Reads a decompressed module.
    pub(super) fn read(elf: &Elf<'_>) -> Result<Self, ElfProblem> {
        let mut info = Self::default();
        for (key, value) in elf.info()? {
            match key.as_str() {
                "depends" => {
                    info.depends.extend(
                        value
                            .split(',')
                            .filter(|name| !name.is_empty())
                            .map(canonical),
                    );
                }
                "alias" => info.aliases.push(value),
                "softdep" => info.softdeps.push(value),
                "weakdep" => info.weakdeps.push(value),
                _ => {}
            }
        }
        Ok(info)
    }

    /// Names that should be loaded before it.
    pub(super) fn soft_before(&self) -> impl Iterator<Item = &str> {
        self.soft(Place::Before)
    }

    /// Names that should be loaded after it.
    pub(super) fn soft_after(&self) -> impl Iterator<Item = &str> {
        self.soft(Place::After)
    }

    /// `pre: a b post: c`: a label holds until the next one. modprobe ignores names that have no
    /// label, so they are ignored here.
    fn soft(&self, wanted: Place) -> impl Iterator<Item = &str> {
        self.softdeps.iter().flat_map(move |text| {
            let mut place = Place::Nowhere;
            text.split_ascii_whitespace().filter(move |word| {
                match *word {
                    "pre:" => place = Place::Before,
                    "post:" => place = Place::After,
                    _ => return place == wanted,
                }
                false
            })
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Nowhere,
    Before,
    After,
}

/// The kernel takes `-` and `_` in module names as one.
pub(super) fn canonical(name: &str) -> String {
    name.replace('-', "_")
}
