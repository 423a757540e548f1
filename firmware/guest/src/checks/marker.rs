//! A file that says which run wrote it: does a folder outlive a restart?

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use super::{Answer, cut, failed};

/// Name of the file.
const NAME: &str = "baker-marker";

/// A marker is far shorter than this.
const LIMIT: u64 = 256;

/// Writes the marker and waits until it is on the disk.
pub fn write(folder: &str, nonce: &str) -> Result<Answer, String> {
    let folder = absolute(folder)?;
    let path = folder.join(NAME);
    let write = || {
        fs::create_dir_all(folder)?;
        let mut file = File::create(&path)?;
        file.write_all(nonce.as_bytes())?;
        // The names of file and folders, too.
        nix::unistd::syncfs(&file).map_err(io::Error::from)
    };
    write().map_err(failed(format!("writing {}", path.display())))?;
    Ok(Answer::new(true, "written"))
}

/// The marker of this run is there, or is not.
pub fn check(folder: &str, nonce: &str, wanted: bool) -> Result<Answer, String> {
    let path = absolute(folder)?.join(NAME);
    let mut text = Vec::new();
    let (present, found) = match File::open(&path)
        .and_then(|file| file.take(LIMIT).read_to_end(&mut text))
    {
        Ok(_) if text == nonce.as_bytes() => (true, "the marker of this run".to_owned()),
        Ok(_) => {
            let text = cut(&String::from_utf8_lossy(&text), 64);
            (false, format!("another marker: {text}"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => (false, "no marker".to_owned()),
        Err(error) => return Err(failed(format!("reading {}", path.display()))(error)),
    };
    Ok(Answer::new(present == wanted, found))
}

fn absolute(folder: &str) -> Result<&Path, String> {
    let path = Path::new(folder);
    path.is_absolute()
        .then_some(path)
        .ok_or_else(|| format!("`{folder}` is no absolute path"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_marker_of_this_run_counts() {
        let base = std::env::temp_dir().join(format!("baker-marker-{}", std::process::id()));
        let folder = base.join("a/b").to_str().unwrap().to_owned();
        let check = |nonce, wanted| check(&folder, nonce, wanted).unwrap().holds;
        assert!(!check("n1", true));
        assert!(check("n1", false));
        assert!(write(&folder, "n1").unwrap().holds);
        let seen = [
            check("n1", true),
            check("n1", false),
            check("n2", true),
            check("n2", false),
        ];
        let blocked = write(&format!("{folder}/{NAME}"), "n1").is_err();
        fs::remove_dir_all(&base).unwrap();
        assert_eq!(seen, [true, false, false, true]);
        assert!(blocked);
        assert!(write("relative", "n1").is_err());
    }
}
