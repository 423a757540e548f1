//! Questions about single files.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use baker_contract::Check;
use nix::libc::O_NONBLOCK;

use super::names::Accounts;
use super::{Answer, cut, failed};

/// Bytes per read.
const CHUNK: usize = 64 * 1024;

/// Content that is told, in bytes.
const TOLD: usize = 200;

/// Nothing is at this path.
pub fn absent(path: &str) -> Answer {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Answer::new(true, "nothing"),
        Err(error) => Answer::no(error),
        Ok(found) => Answer::no(describe(&found)),
    }
}

/// A file is there and is like this.
pub fn present(check: &Check) -> Result<Answer, String> {
    let Check::FilePresent {
        path,
        content,
        contains,
        mode,
        owner,
        group,
    } = check
    else {
        return Err("no file".into());
    };
    let found = fs::metadata(path).map_err(|error| error.to_string())?;
    let mut problems = Vec::new();
    if let Some(mode) = mode {
        let wanted = u32::from_str_radix(mode, 8).map_err(|_| format!("mode `{mode}`"))?;
        if found.mode() & 0o7777 != wanted {
            problems.push(format!("mode is {:04o}", found.mode() & 0o7777));
        }
    }
    let accounts = [
        (owner, Accounts::Users, found.uid(), "owner"),
        (group, Accounts::Groups, found.gid(), "group"),
    ];
    for (wanted, accounts, number, word) in accounts {
        let Some(wanted) = wanted else { continue };
        match accounts.number(wanted) {
            Ok(wanted) if wanted == number => {}
            Ok(_) => problems.push(format!("{word} is {}", accounts.name(number))),
            Err(problem) => problems.push(problem),
        }
    }
    if let Some(wanted) = content {
        problems.extend(compare(path, wanted)?);
    }
    if let Some(wanted) = contains
        && !search(open(path)?, wanted.as_bytes()).map_err(failed("reading"))?
    {
        problems.push("the text is not in it".into());
    }
    Ok(if problems.is_empty() {
        Answer::new(true, describe(&found))
    } else {
        Answer::no(problems.join("; "))
    })
}

fn describe(found: &Metadata) -> String {
    let kind = match found.file_type() {
        kind if kind.is_file() => "file",
        kind if kind.is_dir() => "folder",
        kind if kind.is_symlink() => "link",
        _ => "special file",
    };
    format!(
        "{kind} {:04o} {}:{} {} bytes",
        found.mode() & 0o7777,
        Accounts::Users.name(found.uid()),
        Accounts::Groups.name(found.gid()),
        found.len()
    )
}

/// Opens a regular file; anything else could block, or have no end.
fn open(path: &str) -> Result<File, String> {
    let file = File::options()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(Path::new(path))
        .map_err(failed("opening"))?;
    let found = file.metadata().map_err(failed("opening"))?;
    found
        .is_file()
        .then_some(file)
        .ok_or_else(|| "not a regular file".to_owned())
}

/// What is wrong with the whole content; never reads more than decides.
fn compare(path: &str, wanted: &str) -> Result<Option<String>, String> {
    let mut bytes = Vec::new();
    open(path)?
        .take(wanted.len() as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed("reading"))?;
    let text = String::from_utf8_lossy(&bytes);
    Ok((bytes != wanted.as_bytes()).then(|| format!("content begins {:?}", cut(&text, TOLD))))
}

/// Whether `wanted` is in what `reader` gives; the memory needed does not depend on how much.
fn search(mut reader: impl Read, wanted: &[u8]) -> io::Result<bool> {
    if wanted.is_empty() {
        return Ok(true);
    }
    let mut window = Vec::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = reader.read(&mut chunk)?;
        if count == 0 {
            return Ok(false);
        }
        window.extend_from_slice(&chunk[..count]);
        if window.windows(wanted.len()).any(|part| part == wanted) {
            return Ok(true);
        }
        // Of what was searched, only the beginning of a match can still matter.
        let done = window.len().saturating_sub(wanted.len() - 1);
        window.drain(..done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &Path, change: impl FnOnce(&mut [Option<String>; 5])) -> Answer {
        let mut fields = [const { None }; 5];
        change(&mut fields);
        let [content, contains, mode, owner, group] = fields;
        let path = path.to_str().unwrap().to_owned();
        let check = Check::FilePresent {
            path,
            content,
            contains,
            mode,
            owner,
            group,
        };
        present(&check).into()
    }

    #[test]
    fn each_wish_is_looked_at() {
        let path = std::env::temp_dir().join(format!("baker-file-{}", std::process::id()));
        fs::write(&path, "baked,\nnot patched\n").unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        let own = nix::unistd::geteuid().to_string();
        let rows: [(usize, &str, bool); 9] = [
            (0, "baked,\nnot patched\n", true),
            (0, "baked,\nnot patched", false),
            (0, "baked,\nnot patched\n\n", false),
            (1, "not", true),
            (1, "Not", false),
            (2, "0640", true),
            (2, "4640", false),
            (3, &own, true),
            (3, "no-such-user", false),
        ];
        for (field, wish, expected) in rows {
            let answer = check(&path, |fields| fields[field] = Some(wish.to_owned()));
            assert_eq!(answer.holds, expected, "{wish}: {}", answer.found);
        }
        assert!(!absent(path.to_str().unwrap()).holds);
        fs::remove_file(&path).unwrap();
        assert!(absent(path.to_str().unwrap()).holds);
        assert!(!check(&path, |_| {}).holds);
        assert!(check(Path::new("/"), |_| {}).holds);
        assert!(!check(Path::new("/"), |fields| fields[0] = Some(String::new())).holds);
        assert!(
            !check(Path::new("/dev/zero"), |fields| fields[1] =
                Some("x".into()))
            .holds
        );
    }

    #[test]
    fn matches_across_reads_are_found() {
        struct Slow<'a>(&'a [u8]);
        impl Read for Slow<'_> {
            fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
                let count = self.0.len().min(2).min(room.len());
                room[..count].copy_from_slice(&self.0[..count]);
                self.0 = &self.0[count..];
                Ok(count)
            }
        }
        for (wanted, expected) in [
            ("aab", true),
            ("baab", true),
            ("bb", false),
            ("x", false),
            ("", true),
        ] {
            assert_eq!(
                search(Slow(b"aaabaaba"), wanted.as_bytes()).unwrap(),
                expected,
                "{wanted}"
            );
        }
    }
}
