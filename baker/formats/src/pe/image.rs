//! Reading headers.

use std::ops::Range;

use super::append::checked_sum;

/// Bytes of one entry of the section table.
pub(super) const SECTION_HEADER: usize = 40;

/// Offsets inside the optional header of PE32+.
pub(super) mod optional {
    pub(in crate::pe) const SECTION_ALIGNMENT: usize = 32;
    pub(in crate::pe) const FILE_ALIGNMENT: usize = 36;
    pub(in crate::pe) const SIZE_OF_IMAGE: usize = 56;
    pub(in crate::pe) const SIZE_OF_HEADERS: usize = 60;
    pub(in crate::pe) const CHECK_SUM: usize = 64;
    pub(in crate::pe) const NUMBER_OF_DIRECTORIES: usize = 108;
    pub(in crate::pe) const CERTIFICATES: usize = 112 + 4 * 8;
}

/// The bytes are no PE file that can be used, or sections cannot be appended to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeError {
    /// Not a PE32+ file.
    #[error("this is no PE32+ file: {problem} (byte {offset})")]
    Format {
        /// Where.
        offset: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// The headers have no room for more entries of the section table.
    #[error("the PE headers have room for {room} more sections, {wanted} are wanted")]
    HeaderRoom {
        /// How many fit.
        room: usize,
        /// How many are wanted.
        wanted: usize,
    },
    /// A section name is longer than 8 bytes, empty, or already there.
    #[error("section `{name}` cannot be added: {problem}")]
    Section {
        /// Its name.
        name: String,
        /// Why not.
        problem: &'static str,
    },
    /// Sizes no longer fit into 32 bits.
    #[error("the PE file grows over 4 GiB")]
    TooLarge,
}

/// One entry of the section table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Name without padding.
    pub name: String,
    /// Bytes in memory.
    pub virtual_size: u32,
    /// Address relative to the image's base.
    pub virtual_address: u32,
    /// Bytes in the file, a multiple of the file alignment.
    pub raw_size: u32,
    /// Where they begin in the file.
    pub raw_offset: u32,
    /// `IMAGE_SCN_*` bits.
    pub characteristics: u32,
}

/// Where the parts of the headers lie in the file, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderPlaces {
    /// The PE signature, behind the DOS stub; COFF and optional header follow it.
    pub signature: usize,
    /// `CheckSum` of the optional header, which Authenticode leaves out.
    pub check_sum: Range<usize>,
    /// The data directory entry of the certificate table, which Authenticode leaves out, too.
    pub certificates: Option<Range<usize>>,
    /// The section table.
    pub table: Range<usize>,
}

/// The headers of a PE file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// `IMAGE_FILE_MACHINE_*`: 0x8664 is x86-64, 0xaa64 AArch64.
    pub machine: u16,
    /// Sections in the order of the table.
    pub sections: Vec<Section>,
    /// Alignment of sections in memory, a power of two.
    pub section_alignment: u32,
    /// Alignment of sections in the file, a power of two.
    pub file_alignment: u32,
    /// Bytes of the whole image in memory.
    pub size_of_image: u32,
    /// Bytes of all headers in the file.
    pub size_of_headers: u32,
    /// Offset and size of the certificate table; none when it is not signed.
    pub certificates: Option<(u32, u32)>,
    /// True when the headers have room to say where a certificate table is.
    pub(super) has_certificate_entry: bool,
    /// Offset of the COFF header.
    pub(super) coff: usize,
    /// Offset of the optional header.
    pub(super) optional: usize,
    /// Offset of the section table.
    pub(super) table: usize,
}

impl Image {
    /// Reads the headers.
    ///
    /// # Errors
    /// [`PeError::Format`] when they are not those of a PE32+ file or point outside of it.
    pub fn parse(bytes: &[u8]) -> Result<Self, PeError> {
        Self::parse_headers(bytes, bytes.len() as u64)
    }

    /// Reads the headers from the beginning of a file of `size` bytes; `bytes` must reach as far
    /// as the headers do.
    ///
    /// # Errors
    /// [`PeError::Format`] when they are not those of a PE32+ file or point outside of it.
    pub fn parse_headers(bytes: &[u8], size: u64) -> Result<Self, PeError> {
        if bytes.get(..2) != Some(b"MZ") {
            return Err(PeError::Format {
                offset: 0,
                problem: "it does not begin with MZ",
            });
        }
        let pe = u32_at(bytes, 0x3c)? as usize;
        if pe.checked_add(4).and_then(|end| bytes.get(pe..end)) != Some(b"PE\0\0") {
            return Err(PeError::Format {
                offset: pe,
                problem: "it has no PE signature",
            });
        }
        let (coff, optional) = (pe + 4, pe + 24);
        if u16_at(bytes, optional)? != 0x20b {
            let problem = "its optional header is not that of PE32+";
            return Err(PeError::Format {
                offset: optional,
                problem,
            });
        }
        let size_of_optional = usize::from(u16_at(bytes, coff + 16)?);
        let table = optional + size_of_optional;
        let directories = u32_at(bytes, optional + optional::NUMBER_OF_DIRECTORIES)?;
        let mut certificates = None;
        if directories > 4 {
            let entry = optional + optional::CERTIFICATES;
            if entry + 8 > table {
                let problem = "its data directories overlap the section table";
                return Err(PeError::Format {
                    offset: entry,
                    problem,
                });
            }
            let (offset, size) = (u32_at(bytes, entry)?, u32_at(bytes, entry + 4)?);
            certificates = (offset != 0 && size != 0).then_some((offset, size));
        }
        let count = usize::from(u16_at(bytes, coff + 2)?);
        let sections = (0..count)
            .map(|index| section(bytes, table + index * SECTION_HEADER, size))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            machine: u16_at(bytes, coff)?,
            sections,
            section_alignment: alignment(bytes, optional + optional::SECTION_ALIGNMENT)?,
            file_alignment: alignment(bytes, optional + optional::FILE_ALIGNMENT)?,
            size_of_image: u32_at(bytes, optional + optional::SIZE_OF_IMAGE)?,
            size_of_headers: u32_at(bytes, optional + optional::SIZE_OF_HEADERS)?,
            certificates,
            has_certificate_entry: directories > 4,
            coff,
            optional,
            table,
        })
    }

    /// Where the parts of the headers lie in the file.
    #[must_use]
    pub fn header_places(&self) -> HeaderPlaces {
        let certificates = self.optional + optional::CERTIFICATES;
        let check_sum = self.optional + optional::CHECK_SUM;
        HeaderPlaces {
            signature: self.coff - 4,
            check_sum: check_sum..check_sum + 4,
            certificates: (certificates + 8 <= self.table)
                .then_some(certificates..certificates + 8),
            table: self.table..self.table + self.sections.len() * SECTION_HEADER,
        }
    }

    /// The section of this name.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The bytes of a section as they lie in memory, cut to what the file holds.
    #[must_use]
    pub fn section_bytes<'a>(&self, bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
        let section = self.section(name)?;
        let start = section.raw_offset as usize;
        let length = section.raw_size.min(section.virtual_size) as usize;
        bytes.get(start..start.checked_add(length)?)
    }

    /// The checksum of the optional header as it should be.
    #[must_use]
    pub fn checksum(&self, bytes: &[u8]) -> u32 {
        checked_sum(bytes, self.optional + optional::CHECK_SUM)
    }
}

fn section(bytes: &[u8], offset: usize, size: u64) -> Result<Section, PeError> {
    let header = bytes.get(offset..offset + SECTION_HEADER);
    let header = header.ok_or(PeError::Format {
        offset,
        problem: "its section table is cut off",
    })?;
    let name = header[..8]
        .split(|&byte| byte == 0)
        .next()
        .unwrap_or_default();
    let section = Section {
        name: String::from_utf8_lossy(name).into_owned(),
        virtual_size: u32_at(header, 8)?,
        virtual_address: u32_at(header, 12)?,
        raw_size: u32_at(header, 16)?,
        raw_offset: u32_at(header, 20)?,
        characteristics: u32_at(header, 36)?,
    };
    let end = u64::from(section.raw_offset) + u64::from(section.raw_size);
    if section.raw_size > 0 && end > size {
        return Err(PeError::Format {
            offset,
            problem: "a section lies outside of the file",
        });
    }
    Ok(section)
}

fn alignment(bytes: &[u8], offset: usize) -> Result<u32, PeError> {
    let value = u32_at(bytes, offset)?;
    if !value.is_power_of_two() || value > 1 << 24 {
        return Err(PeError::Format {
            offset,
            problem: "an alignment is no power of two",
        });
    }
    Ok(value)
}

fn u16_at(bytes: &[u8], offset: usize) -> Result<u16, PeError> {
    field(bytes, offset).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> Result<u32, PeError> {
    field(bytes, offset).map(u32::from_le_bytes)
}

fn field<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N], PeError> {
    let rest = bytes.get(offset..).and_then(|rest| rest.first_chunk());
    rest.copied().ok_or(PeError::Format {
        offset,
        problem: "it is cut off",
    })
}
