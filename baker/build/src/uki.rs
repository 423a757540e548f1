//! The UKI stage: one file that UEFI starts and that carries everything the kernel needs.
//!
//! Takes systemd-stub, kernel, initrd, command line and os-release; gives the PE file. Unsigned:
//! a signature is put over it later and does not change it. Never looks into the initrd, never
//! adds a word to the command line.
//!
//! Sections, after the UAPI group's "Unified Kernel Image" specification, in this order: `.osrel`,
//! `.cmdline`, `.uname`, `.initrd`, `.linux`. The kernel is last because it needs memory behind
//! itself when it is run in place. `.sbat` is the stub's own and stays.

use baker_formats::pe::{self, Image, NewSection, PeError};

/// Bytes that the kernel takes as its command line, with the NUL (x86 and arm64
/// `COMMAND_LINE_SIZE`).
const COMMAND_LINE_LIMIT: usize = 2048;

/// How the `.sdmagic` section of systemd-stub begins (systemd's `src/boot/stub.c`).
const MAGIC: &[u8] = b"#### LoaderInfo: systemd-stub ";

/// What goes in.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// systemd-stub for the target's architecture.
    pub stub: &'a [u8],
    /// The kernel image, which is an EFI program itself.
    pub kernel: &'a [u8],
    /// The initrd, packed as the kernel likes it.
    pub initrd: &'a [u8],
    /// The whole command line, root hash included.
    pub command_line: &'a str,
    /// Text of the image's `os-release`; boot loaders show and sort by it.
    pub os_release: &'a [u8],
    /// What `uname -r` will say.
    pub release: &'a str,
}

/// The UKI could not be made.
#[derive(Debug, thiserror::Error)]
pub enum UkiError {
    /// The stub cannot be used, or has no room for the sections.
    #[error("cannot build on the UEFI stub")]
    Stub(#[source] PeError),
    /// The stub is an EFI program, but not systemd-stub.
    #[error("the UEFI stub is not systemd-stub: its .sdmagic section says `{found}`")]
    NotAStub {
        /// What the section says; empty when there is none.
        found: String,
    },
    /// The kernel is no EFI program.
    #[error("the kernel cannot be started by UEFI")]
    Kernel(#[source] PeError),
    /// Stub and kernel are for different machines.
    #[error("the kernel is for PE machine {kernel:#06x}, the UEFI stub for {stub:#06x}")]
    Machine {
        /// Machine of the kernel.
        kernel: u16,
        /// Machine of the stub.
        stub: u16,
    },
    /// The command line would be cut off or misread.
    #[error("the kernel command line cannot be used: {problem}")]
    CommandLine {
        /// What is wrong with it.
        problem: String,
    },
}

/// Assembles the UKI.
///
/// # Errors
/// See [`UkiError`].
pub fn uki(request: &Request<'_>) -> Result<Vec<u8>, UkiError> {
    check_command_line(request.command_line)?;
    let stub = Image::parse(request.stub).map_err(UkiError::Stub)?;
    // Loader and add-ons of systemd have the section too, and say another name in it.
    let found = stub
        .section_bytes(request.stub, ".sdmagic")
        .unwrap_or_default();
    if !found.starts_with(MAGIC) {
        let found = String::from_utf8_lossy(found)
            .trim_end_matches('\0')
            .to_owned();
        return Err(UkiError::NotAStub { found });
    }
    let kernel = Image::parse(request.kernel).map_err(UkiError::Kernel)?;
    if stub.machine != kernel.machine {
        return Err(UkiError::Machine {
            kernel: kernel.machine,
            stub: stub.machine,
        });
    }
    let sections = [
        NewSection::new(".osrel", request.os_release),
        NewSection::new(".cmdline", request.command_line.as_bytes()),
        NewSection::new(".uname", request.release.as_bytes()),
        NewSection::new(".initrd", request.initrd),
        // In memory as large as the kernel wants to be once it runs, as ukify has it.
        NewSection {
            virtual_size: kernel.size_of_image,
            ..NewSection::new(".linux", request.kernel)
        },
    ];
    pe::append(request.stub, &sections).map_err(UkiError::Stub)
}

fn check_command_line(line: &str) -> Result<(), UkiError> {
    let refuse = |problem| Err(UkiError::CommandLine { problem });
    if line.len() >= COMMAND_LINE_LIMIT {
        return refuse(format!(
            "{} bytes, the kernel takes {}",
            line.len(),
            COMMAND_LINE_LIMIT - 1
        ));
    }
    if let Some(odd) = line.chars().find(|c| !c.is_ascii() || c.is_ascii_control()) {
        return refuse(format!("it holds {odd:?}; plain ASCII is safe everywhere"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An EFI program with one section; headers of 1 KiB.
    fn program(machine: u16, section: &str, size_of_image: u32) -> Vec<u8> {
        let mut bytes = vec![0; 0x600];
        let mut put = |offset: usize, value: &[u8]| {
            bytes[offset..offset + value.len()].copy_from_slice(value);
        };
        let (coff, optional, table) = (0x44, 0x58, 0x148);
        put(0, b"MZ");
        put(0x3c, &[0x40]);
        put(0x40, b"PE\0\0");
        put(coff, &machine.to_le_bytes());
        put(coff + 2, &1_u16.to_le_bytes());
        put(coff + 16, &240_u16.to_le_bytes());
        put(optional, &0x20b_u16.to_le_bytes());
        for (at, value) in [
            (32, 0x1000),
            (36, 0x200),
            (56, size_of_image),
            (60, 0x400),
            (108, 16),
        ] {
            put(optional + at, &u32::to_le_bytes(value));
        }
        put(table, section.as_bytes());
        put(0x400, b"#### LoaderInfo: systemd-stub 257 ####");
        for (at, value) in [(8, 0x200), (12, 0x1000), (16, 0x200), (20, 0x400)] {
            put(table + at, &u32::to_le_bytes(value));
        }
        bytes
    }

    #[test]
    fn sections_come_in_order_with_the_kernel_last() {
        let stub = program(0x8664, ".sdmagic", 0x2000);
        let kernel = program(0x8664, ".text", 0x9000);
        let request = Request {
            stub: &stub,
            kernel: &kernel,
            initrd: &[5; 700],
            command_line: "console=ttyS0 quiet",
            os_release: b"ID=debian\n",
            release: "6.12.0",
        };
        let bytes = uki(&request).unwrap();
        let image = Image::parse(&bytes).unwrap();
        let names: Vec<_> = image
            .sections
            .iter()
            .map(|section| &*section.name)
            .collect();
        assert_eq!(
            names,
            [
                ".sdmagic", ".osrel", ".cmdline", ".uname", ".initrd", ".linux"
            ]
        );
        let bytes_of = |name| image.section_bytes(&bytes, name).unwrap();
        assert_eq!(bytes_of(".cmdline"), b"console=ttyS0 quiet");
        assert_eq!(bytes_of(".uname"), b"6.12.0");
        assert_eq!(bytes_of(".initrd"), [5; 700]);
        assert_eq!(bytes_of(".linux"), kernel);
        assert_eq!(image.section(".linux").unwrap().virtual_size, 0x9000);

        let refused = |request: Request<'_>| uki(&request).unwrap_err();
        let error = refused(Request {
            stub: &kernel,
            ..request
        });
        assert!(matches!(error, UkiError::NotAStub { .. }), "{error}");
        let error = refused(Request {
            kernel: b"\x7fELF",
            ..request
        });
        assert!(matches!(error, UkiError::Kernel(_)), "{error}");
        let other = program(0xaa64, ".text", 0x2000);
        let error = refused(Request {
            kernel: &other,
            ..request
        });
        assert!(
            matches!(
                error,
                UkiError::Machine {
                    kernel: 0xaa64,
                    stub: 0x8664
                }
            ),
            "{error}"
        );
        for line in ["a\nb", "ä", &"x".repeat(2048)] {
            let error = refused(Request {
                command_line: line,
                ..request
            });
            assert!(matches!(error, UkiError::CommandLine { .. }), "{error}");
        }
    }
}
