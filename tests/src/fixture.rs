//! Images that are broken on purpose: private copies of one draft, each with one fault.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use baker_build::anatomy::{Anatomy, anatomy};
use baker_model::manifest::FileRole;
use baker_model::plan::{Firmware, TestPlan};
use baker_model::{Digest, Manifest};
use base64ct::{Base64, Encoding};

use crate::bakery::copy_folder;

/// A copy of a draft while it is being broken.
#[derive(Debug)]
pub struct Broken {
    folder: PathBuf,
    /// What the copy will say of itself; its one plan is the test.
    pub manifest: Manifest,
    disk: File,
    map: Anatomy,
}

impl Broken {
    /// Copies `draft` to `folder`; the test will boot by `firmware`.
    ///
    /// # Panics
    /// When the draft cannot be copied or mapped.
    #[must_use]
    pub fn new(draft: &Path, folder: &Path, firmware: Firmware) -> Self {
        copy_folder(draft, folder);
        let manifest = fs::read(folder.join("manifest.json")).expect("a draft has a manifest");
        let mut manifest = Manifest::parse(&manifest).expect("the manifest is sound");
        manifest.plans = vec![TestPlan {
            name: Some("fixture".to_owned()),
            firmware,
            ..TestPlan::default()
        }];
        let disk = manifest.file(FileRole::Disk).expect("a draft has a disk");
        let (path, size) = (folder.join(&disk.name), disk.size);
        let disk = File::options().read(true).write(true).open(path);
        let disk = disk.expect("the copy can be written");
        let map = anatomy(&disk, size).expect("the disk can be mapped");
        Self {
            folder: folder.to_owned(),
            manifest,
            disk,
            map,
        }
    }

    /// The plan of the test.
    ///
    /// # Panics
    /// Never: there is one.
    pub fn plan(&mut self) -> &mut TestPlan {
        self.manifest.plans.first_mut().expect("there is one plan")
    }

    /// Adds words to the kernel command line of a direct boot.
    pub fn command_line(&mut self, words: &str) {
        self.manifest.command_line.push(' ');
        self.manifest.command_line.push_str(words);
    }

    /// Hands a system credential to the guest's systemd, on the command line of a direct boot.
    pub fn credential(&mut self, name: &str, text: &str) {
        let value = Base64::encode_string(text.as_bytes());
        self.command_line(&format!("systemd.set_credential_binary={name}:{value}"));
    }

    /// Gives the guest a unit and has the system want it.
    pub fn unit(&mut self, name: &str, text: &str) {
        self.credential(&format!("systemd.extra-unit.{name}"), text);
        self.command_line(&format!("systemd.wants={name}"));
    }

    /// Lets the guest write texts to files when systemd makes its temporary files.
    pub fn writes(&mut self, writes: &[(&str, &str)]) {
        let lines = writes.iter();
        let lines = lines.map(|(path, text)| format!("w {path} - - - - {text}\n"));
        self.credential("tmpfiles.extra", &lines.collect::<String>());
    }

    /// Bytes of all regions whose structure's name ends like this.
    #[must_use]
    pub fn places(&self, end: &str) -> Vec<Range<u64>> {
        let regions = self.map.regions().iter();
        regions
            .filter(|region| region.structure.to_string().ends_with(end))
            .map(|region| region.range.clone())
            .collect()
    }

    /// The first such region.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn place(&self, end: &str) -> Range<u64> {
        let found = self.places(end).into_iter().next();
        found.unwrap_or_else(|| panic!("the disk has no {end}"))
    }

    /// Reads bytes of the disk.
    ///
    /// # Panics
    /// When they cannot be read.
    #[must_use]
    pub fn read<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        let read = self.disk.read_exact_at(&mut bytes, at);
        read.expect("the disk can be read");
        bytes
    }

    /// Writes bytes to the disk.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn write(&self, at: u64, bytes: &[u8]) {
        let written = self.disk.write_all_at(bytes, at);
        written.expect("the copy can be written");
    }

    /// Flips the lowest bit of a byte.
    pub fn flip(&self, at: u64) {
        let [byte] = self.read(at);
        self.write(at, &[byte ^ 1]);
    }

    /// Fills a range with bytes that mean nothing.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn junk(&self, range: Range<u64>) {
        const STEP: u64 = 1 << 20;
        let mut at = range.start;
        while at < range.end {
            let length = STEP.min(range.end - at);
            let step = usize::try_from(length).expect("a step is small");
            let bytes: Vec<u8> = (0..step)
                .map(|index| [0xa7, 0x3c, 0x51][index % 3])
                .collect();
            self.write(at, &bytes);
            at += length;
        }
    }

    /// Lets the program that the firmware starts stop for ever at its first instruction.
    ///
    /// # Panics
    /// When the program is no UKI.
    pub fn hang_loader(&self) {
        let start = self.place("BOOTX64.EFI DOS header").start;
        let word = |at: u64| u64::from(u32::from_le_bytes(self.read(start + at)));
        let optional = word(0x3c) + 24;
        let size = u64::from(u16::from_le_bytes(self.read(start + optional - 4)));
        // `.text` is the first section of the stub: its address and its place in the file.
        let table = optional + size;
        let (address, place) = (word(table + 12), word(table + 20));
        let entry = word(optional + 16) - address + place;
        // cli; hlt; jmp back
        self.write(start + entry, &[0xfa, 0xf4, 0xeb, 0xfd]);
    }

    /// Writes the manifest for what is there now; gives the folder.
    ///
    /// # Panics
    /// When the copy cannot be read or written.
    #[must_use]
    pub fn finish(mut self) -> PathBuf {
        let files = self.manifest.files.iter_mut();
        for file in files.filter(|file| file.role == FileRole::Disk) {
            let bytes = fs::read(self.folder.join(&file.name)).expect("the disk can be read");
            file.sha256 = Digest::of(&bytes);
        }
        let written = fs::write(self.folder.join("manifest.json"), self.manifest.to_bytes());
        written.expect("the copy can be written");
        self.folder
    }
}
