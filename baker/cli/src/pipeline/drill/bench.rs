//! A private copy of a release, damaged and mended in place.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use baker_formats::io::copy_sparse;

/// A copy of a release in a temporary folder of its own, which goes with it.
#[derive(Debug)]
pub struct Bench {
    _folder: tempfile::TempDir,
    release: PathBuf,
}

impl Bench {
    /// Copies every regular file of `release`; holes stay holes.
    ///
    /// # Errors
    /// The release cannot be read, or there is no room.
    pub fn new(release: &Path) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("baker-drill-").tempdir()?;
        let name = release.canonicalize()?;
        let name = name.file_name().unwrap_or("release".as_ref());
        let copy = folder.path().join(name);
        copy_folder(release, &copy)?;
        Ok(Self {
            _folder: folder,
            release: copy,
        })
    }

    /// The folder of the copy.
    pub fn release(&self) -> &Path {
        &self.release
    }

    /// Does `work` while one bit of each of these bytes of the file `name` is flipped.
    ///
    /// # Errors
    /// The copy cannot be read or written.
    pub fn flipped<T>(
        &self,
        name: &str,
        offsets: &[u64],
        bit: u8,
        work: impl FnOnce() -> T,
    ) -> io::Result<T> {
        let path = self.release.join(name);
        let file = File::options().read(true).write(true).open(path)?;
        let flip = || -> io::Result<()> {
            for &offset in offsets {
                let mut byte = [0];
                file.read_exact_at(&mut byte, offset)?;
                file.write_all_at(&[byte[0] ^ (1 << bit)], offset)?;
            }
            Ok(())
        };
        flip()?;
        let result = work();
        flip()?;
        Ok(result)
    }
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else if kind.is_file() {
            let mut source = File::open(entry.path())?;
            let size = source.metadata()?.len();
            let mut copy = File::create_new(target)?;
            copy.set_len(size)?;
            copy_sparse(&mut source, size, &mut copy, 0)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_private_and_does_not_stay() {
        let folder = tempfile::tempdir().unwrap();
        let release = folder.path().join("minimal-1.0.0");
        fs::create_dir_all(release.join("evidence")).unwrap();
        fs::write(release.join("evidence/a"), b"abc").unwrap();
        let bench = Bench::new(&release).unwrap();
        let copy = bench.release().join("evidence/a");
        assert!(bench.release().ends_with("minimal-1.0.0"));
        let seen = bench.flipped("evidence/a", &[0, 2], 1, || fs::read(&copy).unwrap());
        assert_eq!(seen.unwrap(), b"cba");
        assert_eq!(fs::read(&copy).unwrap(), b"abc");
        assert_eq!(fs::read(release.join("evidence/a")).unwrap(), b"abc");
        assert!(bench.flipped("evidence/a", &[3], 1, || ()).is_err());
        let path = bench.release().to_owned();
        drop(bench);
        assert!(!path.exists());
    }
}
