//! Writes small .deb files: ar around two tar archives (deb(5)).

use std::io::Write;

/// How the two archives inside are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    #[default]
    Gzip,
    /// xz.
    Xz,
}

/// A package being made.
#[derive(Debug, Clone)]
pub struct Deb {
    name: String,
    version: String,
    architecture: String,
    fields: Vec<(String, String)>,
    entries: Vec<Entry>,
    control: Vec<Entry>,
    compression: Compression,
}

#[derive(Debug, Clone)]
struct Entry {
    path: String,
    mode: u32,
    owner: (u32, u32),
    kind: u8,
    link: String,
    content: Vec<u8>,
}

impl Deb {
    /// An empty package for amd64.
    #[must_use]
    pub fn new(name: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
            fields: Vec::new(),
            entries: Vec::new(),
            control: Vec::new(),
            compression: Compression::default(),
        }
    }

    /// Package name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets the architecture.
    #[must_use]
    pub fn architecture(mut self, architecture: &str) -> Self {
        architecture.clone_into(&mut self.architecture);
        self
    }

    /// Adds a control field, such as `Depends`.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds `Depends`.
    #[must_use]
    pub fn depends(self, relations: &str) -> Self {
        self.field("Depends", relations)
    }

    /// Sets the compression of both archives.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Adds a file, and the directories above it that are not there yet.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        self.entry(path, mode, b'0', "", content.into())
    }

    /// Adds a directory.
    #[must_use]
    pub fn directory(self, path: &str, mode: u32) -> Self {
        self.entry(path, mode, b'5', "", Vec::new())
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(path, 0o777, b'2', target, Vec::new())
    }

    /// Adds another name for a file of the package.
    #[must_use]
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        let target = format!("./{}", target.trim_start_matches('/'));
        self.entry(path, 0o644, b'1', &target, Vec::new())
    }

    /// Sets owner and group of the entry added last.
    #[must_use]
    pub fn owned_by(mut self, user: u32, group: u32) -> Self {
        if let Some(entry) = self.entries.last_mut() {
            entry.owner = (user, group);
        }
        self
    }

    /// Adds a maintainer script: `preinst`, `postinst`, `prerm` or `postrm`.
    #[must_use]
    pub fn script(self, name: &str, body: &str) -> Self {
        self.member(name, 0o755, body)
    }

    /// Adds the list of configuration files.
    #[must_use]
    pub fn conffiles(self, paths: &[&str]) -> Self {
        let text: String = paths.iter().map(|path| format!("{path}\n")).collect();
        self.member("conffiles", 0o644, &text)
    }

    /// Adds any other file of the control archive, such as `triggers`.
    #[must_use]
    pub fn member(mut self, name: &str, mode: u32, text: &str) -> Self {
        let content = text.as_bytes().to_vec();
        self.control.push(Entry::new(name, mode, b'0', "", content));
        self
    }

    /// `pool/main/n/name/name_version_architecture.deb`, without an epoch.
    #[must_use]
    pub fn pool_path(&self) -> String {
        let version = self
            .version
            .split_once(':')
            .map_or(&*self.version, |(_, rest)| rest);
        let first: String = self.name.chars().take(1).collect();
        let Self {
            name, architecture, ..
        } = self;
        format!("pool/main/{first}/{name}/{name}_{version}_{architecture}.deb")
    }

    /// The text of the control file.
    #[must_use]
    pub fn control_text(&self) -> String {
        let Self {
            name,
            version,
            architecture,
            ..
        } = self;
        let mut text =
            format!("Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n");
        text.push_str("Maintainer: Nobody <nobody@example.org>\nDescription: made for a test\n");
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\n"));
        }
        text
    }

    /// The bytes of the package.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let mut control = vec![Entry::new(
            "control",
            0o644,
            b'0',
            "",
            self.control_text().into(),
        )];
        control.extend(self.control.iter().cloned());
        let ending = match self.compression {
            Compression::None => "",
            Compression::Gzip => ".gz",
            Compression::Xz => ".xz",
        };
        let mut bytes = b"!<arch>\n".to_vec();
        ar_member(&mut bytes, "debian-binary", b"2.0\n");
        let members = [("control.tar", &control), ("data.tar", &self.entries)];
        for (name, entries) in members {
            let packed = compress(&tar(entries), self.compression);
            ar_member(&mut bytes, &format!("{name}{ending}"), &packed);
        }
        bytes
    }

    fn entry(mut self, path: &str, mode: u32, kind: u8, link: &str, content: Vec<u8>) -> Self {
        let path = path.trim_matches('/');
        let mut above = String::new();
        for part in path
            .split('/')
            .rev()
            .skip(1)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            above.push_str(part);
            if self.entries.iter().all(|entry| entry.path != above) {
                self.entries
                    .push(Entry::new(&above, 0o755, b'5', "", Vec::new()));
            }
            above.push('/');
        }
        self.entries
            .push(Entry::new(path, mode, kind, link, content));
        self
    }
}

impl Entry {
    fn new(path: &str, mode: u32, kind: u8, link: &str, content: Vec<u8>) -> Self {
        Self {
            path: path.to_owned(),
            mode,
            owner: (0, 0),
            kind,
            link: link.to_owned(),
            content,
        }
    }
}

fn ar_member(bytes: &mut Vec<u8>, name: &str, content: &[u8]) {
    let size = content.len();
    bytes.extend(
        format!(
            "{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n",
            0, 0, 0, 100_644
        )
        .bytes(),
    );
    bytes.extend(content);
    if size % 2 == 1 {
        bytes.push(b'\n');
    }
}

fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    header(&mut bytes, &Entry::new("", 0o755, b'5', "", Vec::new()));
    for entry in entries {
        header(&mut bytes, entry);
        padded(&mut bytes, &entry.content);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// One header block; a name of more than 100 bytes gets GNU's long-name block before it.
fn header(bytes: &mut Vec<u8>, entry: &Entry) {
    let slash = if entry.kind == b'5' && !entry.path.is_empty() {
        "/"
    } else {
        ""
    };
    let name = format!("./{}{slash}", entry.path);
    if name.len() > 100 {
        let mut long = Entry::new("", 0o644, b'L', "", name.clone().into_bytes());
        long.content.push(0);
        block(bytes, &long, "././@LongLink");
        padded(bytes, &long.content);
    }
    block(bytes, entry, &name[..name.len().min(100)]);
}

fn block(bytes: &mut Vec<u8>, entry: &Entry, name: &str) {
    let mut block = [0_u8; 512];
    let mut put =
        |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, &format!("{:07o}", entry.mode));
    put(108, &format!("{:07o}", entry.owner.0));
    put(116, &format!("{:07o}", entry.owner.1));
    put(124, &format!("{:011o}", entry.content.len()));
    put(136, "00000000000");
    put(148, "        ");
    put(157, &entry.link[..entry.link.len().min(100)]);
    put(257, "ustar  ");
    put(265, "root");
    put(297, "root");
    block[156] = entry.kind;
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    bytes.extend(block);
}

fn padded(bytes: &mut Vec<u8>, content: &[u8]) {
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
}

/// Compresses bytes, the same every time.
#[must_use]
pub fn compress(bytes: &[u8], compression: Compression) -> Vec<u8> {
    let packed = match compression {
        Compression::None => return bytes.to_vec(),
        Compression::Gzip => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
            encoder.write_all(bytes).and_then(|()| encoder.finish())
        }
        Compression::Xz => {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
            encoder.write_all(bytes).and_then(|()| encoder.finish())
        }
    };
    packed.expect("writing into memory does not fail")
}
