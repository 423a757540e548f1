//! The reports of a run: files made from evidence and logs.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use baker_vm::report::{Log, RunReport, TestReport, html, junit};

use super::smoke;
use crate::exit::{Exit, Failure};

/// Name of the report for people in the evidence folder of a run.
pub const HTML: &str = "report.html";

/// Name of the report for CI servers in the evidence folder of a run.
pub const JUNIT: &str = "junit.xml";

/// Bytes of a log that are read, from its end: a guest can write without end.
const LOG_LIMIT: u64 = 8 * 1024 * 1024;

/// The largest screenshot that is shown.
const SCREENSHOT_LIMIT: u64 = 16 * 1024 * 1024;

/// Where a run's reports go besides its evidence folder.
#[derive(Debug, Clone, Copy, Default)]
pub struct Copies<'a> {
    /// The page for people.
    pub html: Option<&'a Path>,
    /// The file for CI servers.
    pub junit: Option<&'a Path>,
}

/// Writes the reports of a run on `image` into `folder`, and copies where wanted. Gives the path
/// of the page for people.
pub fn write_reports(
    image: &str,
    results: &[smoke::Result],
    folder: &Path,
    copies: Copies<'_>,
) -> Result<PathBuf, Failure> {
    let files: Vec<Files> = results.iter().map(Files::read).collect::<Result<_, _>>()?;
    let tests: Vec<TestReport<'_>> = results
        .iter()
        .zip(&files)
        .map(|(result, files)| files.report(result))
        .collect();
    let run = RunReport {
        image,
        tests: &tests,
    };
    let (page, xml) = (html(&run), junit(&run));
    let path = folder.join(HTML);
    write(&path, &page)?;
    write(&folder.join(JUNIT), &xml)?;
    if let Some(copy) = copies.html {
        write(copy, &page)?;
    }
    if let Some(copy) = copies.junit {
        write(copy, &xml)?;
    }
    Ok(path)
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let parent = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(path, text))
        .map_err(|error| {
            Failure::new(Exit::Internal, error)
                .context(format!("cannot write the report {}", path.display()))
        })
}

/// What lies beside the evidence of one test.
struct Files {
    console: Tail,
    qemu: Tail,
    screenshot: Option<Tail>,
}

impl Files {
    fn read(result: &smoke::Result) -> Result<Self, Failure> {
        let evidence = &result.evidence;
        let read = |name: &str, limit| {
            let path = result.folder.join(name);
            Tail::read(&path, limit).map_err(|error| {
                Failure::new(Exit::Internal, error)
                    .context(format!("cannot read the evidence {}", path.display()))
            })
        };
        let screenshot = evidence.screenshot.as_deref();
        Ok(Self {
            console: read(&evidence.serial_log, LOG_LIMIT)?,
            qemu: read(&evidence.qemu_log, LOG_LIMIT)?,
            screenshot: screenshot
                .map(|name| read(name, SCREENSHOT_LIMIT))
                .transpose()?,
        })
    }

    fn report<'a>(&'a self, result: &'a smoke::Result) -> TestReport<'a> {
        let whole = |picture: &&Tail| picture.skipped == 0;
        TestReport {
            evidence: &result.evidence,
            console: self.console.log(),
            qemu: self.qemu.log(),
            screenshot: self
                .screenshot
                .as_ref()
                .filter(whole)
                .map(|picture| picture.bytes.as_slice()),
        }
    }
}

/// The end of a file.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
    skipped: u64,
}

impl Tail {
    /// A file that is not there is an empty one: QEMU may have ended before it made its logs.
    fn read(path: &Path, limit: u64) -> io::Result<Self> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let skipped = file.metadata()?.len().saturating_sub(limit);
        file.seek(SeekFrom::Start(skipped))?;
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(Self { bytes, skipped })
    }

    fn log(&self) -> Log<'_> {
        Log {
            bytes: &self.bytes,
            skipped: self.skipped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_log_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "0123456789").unwrap();
        let tail = Tail::read(&path, 4).unwrap();
        assert_eq!((tail.bytes.as_slice(), tail.skipped), (&b"6789"[..], 6));
        let whole = Tail::read(&path, 10).unwrap();
        assert_eq!((whole.bytes.len(), whole.skipped), (10, 0));
        assert!(
            Tail::read(&folder.path().join("none"), 4)
                .unwrap()
                .bytes
                .is_empty()
        );
        assert!(Tail::read(folder.path(), 4).is_err());
    }
}
