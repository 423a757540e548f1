//! The initrd stage: what the kernel unpacks before there is a root.
//!
//! Takes the guest program, the modules in loading order and the name of the root's file system;
//! gives a cpio archive, compressed as one zstd frame or plain. Nothing else goes in: no shell,
//! no library, no configuration. Every entry belongs to root and has the lock's time.

use std::collections::BTreeSet;
use std::io::{self, Write};

use baker_contract::{MODULE_LIST, ROOT_FORMAT_FILE};
use baker_formats::cpio::{CpioError, Kind, Metadata, Writer};
use baker_model::recipe::RootFormat;

/// Compression level. 19 makes the initrd of `minimal` 136 KiB smaller, a hundredth of its UKI, and
/// takes fifteen times as long, which was a quarter of the work of a bake.
const LEVEL: i32 = 9;

/// How many members a budget error names.
const NAMED: usize = 5;

/// Empty directories: mount points of the guest, and the place of the root.
const MOUNT_POINTS: [&str; 5] = ["dev", "proc", "run", "sys", "sysroot"];

/// A kernel module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Absolute path in the initrd, such as `/lib/modules/6.12.0/kernel/fs/erofs/erofs.ko.xz`.
    pub path: String,
    /// The module, as its name says: plain or compressed.
    pub bytes: Vec<u8>,
    /// Whether it only leads to disks; these come last.
    pub is_driver: bool,
    /// Patterns of the hardware that it is for; none when it is of use without any.
    pub hardware: Vec<String>,
}

impl Module {
    /// Its line in the list of modules.
    fn line(&self) -> String {
        let patterns = self.hardware.iter().flat_map(|pattern| ["\t", pattern]);
        let words = std::iter::once(&*self.path).chain(patterns);
        words.chain(["\n"]).collect()
    }
}

/// How the archive is packed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Packing {
    /// As it is.
    Plain,
    /// One zstd frame.
    #[default]
    Zstd,
}

/// What goes in.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The static program that becomes `/init`.
    pub guest: &'a [u8],
    /// Modules in loading order.
    pub modules: &'a [Module],
    /// File system of the root.
    pub root_format: RootFormat,
    /// Seconds since 1970-01-01 UTC that every entry shows; held inside the format's 32 bits.
    pub epoch: i64,
    /// How it is packed.
    pub packing: Packing,
    /// Bytes that the packed archive may have; none for no limit.
    pub budget: Option<u64>,
}

/// The archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Initrd {
    /// The packed bytes.
    pub bytes: Vec<u8>,
    /// Bytes before packing.
    pub unpacked: u64,
}

/// The initrd could not be made.
#[derive(Debug, thiserror::Error)]
pub enum InitrdError {
    /// A module has a path that cannot be in the initrd, or two have the same.
    #[error("module `{path}` cannot be in the initrd: {problem}")]
    Module {
        /// Its path.
        path: String,
        /// Why not.
        problem: &'static str,
    },
    /// The archive could not be assembled.
    #[error("cannot assemble the initrd")]
    Cpio(#[from] CpioError),
    /// The archive could not be compressed.
    #[error("cannot compress the initrd")]
    Compress(#[source] io::Error),
    /// The archive is larger than allowed.
    #[error(
        "the initrd has {size} bytes, {budget} are allowed; its largest members are {}",
        listing(largest)
    )]
    Budget {
        /// Packed bytes.
        size: u64,
        /// Bytes allowed.
        budget: u64,
        /// The largest members and their unpacked bytes, largest first.
        largest: Vec<(String, u64)>,
    },
}

fn listing(members: &[(String, u64)]) -> String {
    let texts: Vec<_> = members
        .iter()
        .map(|(path, size)| format!("{path} ({size})"))
        .collect();
    texts.join(", ")
}

/// Assembles the initrd.
///
/// # Errors
/// See [`InitrdError`].
pub fn initrd(request: &Request<'_>) -> Result<Initrd, InitrdError> {
    let files = files(request)?;
    let mtime = request.epoch.clamp(0, i64::from(u32::MAX));
    // In range by the clamp.
    let mtime = u32::try_from(mtime).unwrap_or_default();
    let archive = archive(&files, mtime)?;
    let unpacked = archive.len() as u64;
    let bytes = match request.packing {
        Packing::Plain => archive,
        Packing::Zstd => compress(&archive).map_err(InitrdError::Compress)?,
    };
    let size = bytes.len() as u64;
    match request.budget {
        Some(budget) if size > budget => Err(InitrdError::Budget {
            size,
            budget,
            largest: largest(&files),
        }),
        _ => Ok(Initrd { bytes, unpacked }),
    }
}

/// A regular file of the archive: its path without the leading slash, and its bytes.
pub type Member<'a> = (&'a str, std::borrow::Cow<'a, [u8]>);

/// The regular files that go in, sorted: path without leading slash, and bytes.
///
/// # Errors
/// See [`InitrdError`].
pub fn members<'a>(request: &'a Request<'_>) -> Result<Vec<Member<'a>>, InitrdError> {
    let files = files(request)?.into_iter();
    Ok(files.map(|file| (file.path, file.bytes)).collect())
}

/// A regular file of the initrd.
struct FileEntry<'a> {
    /// Path without leading slash.
    path: &'a str,
    mode: u16,
    bytes: std::borrow::Cow<'a, [u8]>,
}

/// All regular files, sorted by path.
fn files<'a>(request: &'a Request<'_>) -> Result<Vec<FileEntry<'a>>, InitrdError> {
    let format: &[u8] = match request.root_format {
        RootFormat::Erofs => b"erofs\n",
        RootFormat::Squashfs => b"squashfs\n",
    };
    let list = |is_driver| -> String {
        let modules = request.modules.iter();
        let those = modules.filter(|module| module.is_driver == is_driver);
        those.map(Module::line).collect()
    };
    let list = format!("{}\n{}", list(false), list(true));
    let mut files = vec![
        FileEntry {
            path: "init",
            mode: 0o755,
            bytes: request.guest.into(),
        },
        FileEntry {
            path: relative(ROOT_FORMAT_FILE),
            mode: 0o644,
            bytes: format.into(),
        },
        FileEntry {
            path: relative(MODULE_LIST),
            mode: 0o644,
            bytes: list.into_bytes().into(),
        },
    ];
    for module in request.modules {
        check_path(&module.path)?;
        check_hardware(module)?;
        let path = relative(&module.path);
        files.push(FileEntry {
            path,
            mode: 0o644,
            bytes: (&module.bytes).into(),
        });
    }
    files.sort_by_key(|file| file.path);
    for pair in files.windows(2) {
        let [one, other] = pair else { continue };
        if one.path == other.path {
            let problem = "its path is taken";
            return Err(InitrdError::Module {
                path: format!("/{}", one.path),
                problem,
            });
        }
    }
    Ok(files)
}

fn check_path(path: &str) -> Result<(), InitrdError> {
    let refuse = |problem| {
        Err(InitrdError::Module {
            path: path.to_owned(),
            problem,
        })
    };
    let Some(below) = path.strip_prefix('/') else {
        return refuse("its path is not absolute");
    };
    if below.split('/').any(|name| matches!(name, "" | "." | "..")) {
        return refuse("its path is not normal");
    }
    // The guest reads one path per line and trims it.
    if path.trim() != path || path.chars().any(char::is_control) {
        return refuse("its path has blanks at its ends, or control characters");
    }
    Ok(())
}

fn check_hardware(module: &Module) -> Result<(), InitrdError> {
    let breaks = |pattern: &String| pattern.is_empty() || pattern.chars().any(char::is_control);
    if module.hardware.iter().any(breaks) {
        return Err(InitrdError::Module {
            path: module.path.clone(),
            problem: "the name of its hardware is empty, or has control characters",
        });
    }
    Ok(())
}

fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

fn archive(files: &[FileEntry<'_>], mtime: u32) -> Result<Vec<u8>, CpioError> {
    let metadata = |mode| Metadata {
        mode,
        uid: 0,
        gid: 0,
        mtime,
    };
    let mut folders: BTreeSet<&str> = MOUNT_POINTS.into();
    for file in files {
        folders.extend(
            file.path
                .match_indices('/')
                .map(|(index, _)| &file.path[..index]),
        );
    }
    let mut writer = Writer::new(Vec::new());
    for folder in folders {
        writer.append(folder, metadata(0o755), Kind::Directory)?;
    }
    // The kernel opens the console before the guest can mount anything on /dev.
    let console = Kind::CharDevice { major: 5, minor: 1 };
    writer.append("dev/console", metadata(0o600), console)?;
    let null = Kind::CharDevice { major: 1, minor: 3 };
    writer.append("dev/null", metadata(0o666), null)?;
    for file in files {
        let size = file.bytes.len() as u64;
        let kind = Kind::File {
            size,
            data: &mut &*file.bytes,
        };
        writer.append(file.path, metadata(file.mode), kind)?;
    }
    writer.finish()
}

/// One frame on one thread: the bytes depend on nothing but input, level and library.
fn compress(archive: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL)?;
    encoder.set_pledged_src_size(Some(archive.len() as u64))?;
    encoder.include_checksum(true)?;
    encoder.write_all(archive)?;
    encoder.finish()
}

fn largest(files: &[FileEntry<'_>]) -> Vec<(String, u64)> {
    let mut members: Vec<_> = files
        .iter()
        .map(|file| (format!("/{}", file.path), file.bytes.len() as u64))
        .collect();
    members.sort_by(|(one, size), (other, others)| others.cmp(size).then(one.cmp(other)));
    members.truncate(NAMED);
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules() -> Vec<Module> {
        let module = |path: &str, size, is_driver| Module {
            path: path.into(),
            bytes: vec![7; size],
            is_driver,
            hardware: if is_driver {
                vec!["pci:v*".into(), "usb:v*".into()]
            } else {
                vec![]
            },
        };
        vec![
            module("/lib/modules/6.1/kernel/z.ko", 5000, false),
            module("/lib/modules/6.1/a.ko.xz", 10, true),
        ]
    }

    fn request<'a>(modules: &'a [Module]) -> Request<'a> {
        Request {
            guest: b"\x7fELF guest",
            modules,
            root_format: RootFormat::Erofs,
            epoch: 1_763_769_600,
            packing: Packing::Plain,
            budget: None,
        }
    }

    /// Names, modes and data of a newc archive.
    fn members(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut members = Vec::new();
        let mut at = 0;
        loop {
            let field = |index: usize| {
                let start = at + 6 + index * 8;
                let text = std::str::from_utf8(&archive[start..start + 8]).unwrap();
                u32::from_str_radix(text, 16).unwrap()
            };
            assert_eq!(archive[at..at + 6], *b"070701");
            let [mode, mtime, size, length] = [1, 5, 6, 11].map(field);
            let name = &archive[at + 110..at + 109 + length as usize];
            if name == b"TRAILER!!!" {
                return members;
            }
            assert_eq!(mtime, 1_763_769_600);
            let data = (at + 110 + length as usize).next_multiple_of(4);
            let end = data + size as usize;
            let name = String::from_utf8(name.to_vec()).unwrap();
            members.push((name, mode, archive[data..end].to_vec()));
            at = end.next_multiple_of(4);
        }
    }

    #[test]
    fn the_archive_holds_what_the_guest_looks_for_and_nothing_else() {
        let modules = modules();
        let initrd = initrd(&request(&modules)).unwrap();
        let members = members(&initrd.bytes);
        let names: Vec<_> = members.iter().map(|(name, ..)| &**name).collect();
        let expected = [
            "dev",
            "etc",
            "lib",
            "lib/modules",
            "lib/modules/6.1",
            "lib/modules/6.1/kernel",
            "proc",
            "run",
            "sys",
            "sysroot",
            "dev/console",
            "dev/null",
            "etc/baker-root-format",
            "init",
            "lib/modules/6.1/a.ko.xz",
            "lib/modules/6.1/kernel/z.ko",
            "lib/modules/load",
        ];
        assert_eq!(names, expected);
        let find = |name| members.iter().find(|member| member.0 == name).unwrap();
        assert_eq!(
            find("init"),
            &("init".into(), 0o100_755, b"\x7fELF guest".to_vec())
        );
        assert_eq!(find("etc/baker-root-format").2, b"erofs\n");
        // In loading order, though the archive is sorted.
        let list = b"/lib/modules/6.1/kernel/z.ko\n\n/lib/modules/6.1/a.ko.xz\tpci:v*\tusb:v*\n";
        assert_eq!(find("lib/modules/load").2, list);
        assert_eq!(find("dev/console").1, 0o020_600);
    }

    #[test]
    fn the_frame_unpacks_to_the_plain_archive() {
        let modules = modules();
        let plain = initrd(&request(&modules)).unwrap();
        let packed = Request {
            packing: Packing::Zstd,
            ..request(&modules)
        };
        let packed = initrd(&packed).unwrap();
        assert_eq!(packed.unpacked, plain.bytes.len() as u64);
        assert_eq!(zstd::decode_all(&*packed.bytes).unwrap(), plain.bytes);
        let again = Request {
            packing: Packing::Zstd,
            ..request(&modules)
        };
        assert_eq!(initrd(&again).unwrap(), packed);
    }

    #[test]
    fn a_budget_error_names_the_largest_members() {
        let modules = modules();
        let request = Request {
            budget: Some(1000),
            ..request(&modules)
        };
        let error = initrd(&request).unwrap_err().to_string();
        let largest =
            "1000 are allowed; its largest members are /lib/modules/6.1/kernel/z.ko (5000)";
        assert!(error.contains(largest), "{error}");
    }

    #[test]
    fn paths_that_would_break_the_list_are_refused() {
        for path in ["a.ko", "/a//b.ko", "/../a.ko", "/a\n.ko", "/a.ko ", "/init"] {
            let modules = [Module {
                path: path.into(),
                bytes: Vec::new(),
                is_driver: false,
                hardware: Vec::new(),
            }];
            let error = initrd(&request(&modules)).unwrap_err();
            assert!(matches!(error, InitrdError::Module { .. }), "{path:?}");
        }
        for pattern in ["", "pci:\tv*", "pci:\n"] {
            let mut modules = modules();
            modules[1].hardware.push(pattern.into());
            let error = initrd(&request(&modules)).unwrap_err();
            assert!(matches!(error, InitrdError::Module { .. }), "{pattern:?}");
        }
    }
}
