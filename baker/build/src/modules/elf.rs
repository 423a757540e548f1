//! As much of ELF as a kernel module shows: `.modinfo` and the names of exported symbols.
//!
//! ELF-64 object file format, little endian. Everything is checked against the size of the file.

use super::ElfProblem;

/// Bytes of the file header, of a section header, of a symbol.
const FILE_HEADER: usize = 64;
const SECTION_HEADER: usize = 64;
const SYMBOL: usize = 24;

/// `SHT_SYMTAB`.
const SYMBOL_TABLE: u32 = 2;

/// modpost gives each exported symbol a local companion of this name.
const EXPORT_PREFIX: &[u8] = b"__ksymtab_";

/// A module's sections.
#[derive(Debug)]
pub(super) struct Elf<'a> {
    bytes: &'a [u8],
    sections: Vec<Section>,
    names: Section,
}

#[derive(Debug, Clone, Copy)]
struct Section {
    name: u32,
    kind: u32,
    offset: u64,
    size: u64,
    link: u32,
}

impl<'a> Elf<'a> {
    /// Reads the section headers.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, ElfProblem> {
        let header = bytes.get(..FILE_HEADER).ok_or(ElfProblem::Kind)?;
        // EI_CLASS = ELFCLASS64, EI_DATA = ELFDATA2LSB.
        if !header.starts_with(b"\x7fELF\x02\x01") {
            return Err(ElfProblem::Kind);
        }
        let start = u64_at(header, 40);
        let count = u64::from(u16_at(header, 60));
        let table = slice(bytes, "section table", start, count * SECTION_HEADER as u64)?;
        let sections: Vec<_> = table
            .chunks_exact(SECTION_HEADER)
            .map(Section::parse)
            .collect();
        let outside = ElfProblem::Outside {
            what: "section table",
            offset: start,
            size: bytes.len() as u64,
        };
        let names = *sections
            .get(usize::from(u16_at(header, 62)))
            .ok_or(outside)?;
        Ok(Self {
            bytes,
            sections,
            names,
        })
    }

    /// The `key=value` pairs of `.modinfo`, in order.
    pub(super) fn info(&self) -> Result<Vec<(String, String)>, ElfProblem> {
        let names = self.content(&self.names)?;
        let section = self
            .sections
            .iter()
            .find(|section| text(names, section.name) == b".modinfo");
        let content = self.content(section.ok_or(ElfProblem::NoInfo)?)?;
        Ok(pairs(content))
    }

    /// The names of the exported symbols, in the order of the symbol table.
    pub(super) fn exports(&self) -> Result<Vec<String>, ElfProblem> {
        let Some(table) = self
            .sections
            .iter()
            .find(|section| section.kind == SYMBOL_TABLE)
        else {
            return Ok(Vec::new());
        };
        let strings = self.sections.get(table.link as usize);
        let strings = strings.map_or(Ok(&[][..]), |section| self.content(section))?;
        let symbols = self.content(table)?.chunks_exact(SYMBOL);
        Ok(symbols
            .filter_map(|symbol| text(strings, u32_at(symbol, 0)).strip_prefix(EXPORT_PREFIX))
            .filter(|name| !name.is_empty())
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect())
    }

    fn content(&self, section: &Section) -> Result<&'a [u8], ElfProblem> {
        slice(self.bytes, "section", section.offset, section.size)
    }
}

/// Splits NUL-separated `key=value` texts; empty and keyless ones are padding.
pub(super) fn pairs(content: &[u8]) -> Vec<(String, String)> {
    let texts = content
        .split(|&byte| byte == 0)
        .map(String::from_utf8_lossy);
    texts
        .filter_map(|text| {
            text.split_once('=')
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
        })
        .collect()
}

impl Section {
    fn parse(header: &[u8]) -> Self {
        Self {
            name: u32_at(header, 0),
            kind: u32_at(header, 4),
            offset: u64_at(header, 24),
            size: u64_at(header, 32),
            link: u32_at(header, 40),
        }
    }
}

fn slice<'a>(
    bytes: &'a [u8],
    what: &'static str,
    offset: u64,
    length: u64,
) -> Result<&'a [u8], ElfProblem> {
    let range = || {
        let start = usize::try_from(offset).ok()?;
        bytes.get(start..start.checked_add(usize::try_from(length).ok()?)?)
    };
    range().ok_or(ElfProblem::Outside {
        what,
        offset,
        size: bytes.len() as u64,
    })
}

/// The NUL-terminated text at `at` of a string table; empty when it lies outside.
fn text(table: &[u8], at: u32) -> &[u8] {
    let rest = table.get(at as usize..).unwrap_or_default();
    rest.split(|&byte| byte == 0).next().unwrap_or_default()
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
