//! `baker run`

use std::fs;
use std::path::PathBuf;

use baker_model::plan::Firmware;
use baker_vm::{Access, Forward, Share};

use crate::context::Context;
use crate::exit::Failure;
use crate::pipeline::attended::{self, Wanted};

/// Boots a draft or release for a person, with the console on this terminal
/// (Ctrl-A X ends it). The disk is not changed.
///
/// Credentials reach systemd by SMBIOS, from files that only you can read; an
/// image decides which of them it uses.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of a draft or release
    release: PathBuf,
    /// Let QEMU load kernel and initrd itself instead of booting by UEFI
    #[arg(long)]
    direct: bool,
    /// Memory in MiB
    #[arg(long, default_value_t = 1024, value_name = "MIB")]
    memory: u32,
    /// Make a TCP port of the guest a port of 127.0.0.1; may be repeated
    #[arg(long = "port", value_name = "HOST:GUEST", value_parser = port)]
    ports: Vec<Forward>,
    /// Hand a credential to systemd: the bytes of FILE; may be repeated
    #[arg(long = "credential", value_name = "NAME=FILE", value_parser = credential)]
    credentials: Vec<(String, PathBuf)>,
    /// Words for the end of the kernel command line: by QEMU itself with
    /// --direct, else by systemd-stub, which measures them
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    append: Vec<String>,
    /// Show a folder of this host to the guest, at GUEST (/run/share/NAME when
    /// left out); read-only unless it ends in :rw; may be repeated
    #[arg(long = "share", value_name = "HOST[:GUEST][:rw]", value_parser = share)]
    shares: Vec<Share>,
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let words = args
        .append
        .iter()
        .flat_map(|words| words.split_whitespace());
    let wanted = Wanted {
        firmware: match args.direct {
            true => Firmware::Direct,
            false => Firmware::Uefi,
        },
        memory_mib: args.memory,
        ports: args.ports.clone(),
        credentials: args.credentials.clone(),
        append: words.map(str::to_owned).collect(),
        shares: args.shares.clone(),
    };
    attended::run(&args.release, &wanted, context)
}

fn port(text: &str) -> Result<Forward, String> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (host, guest) = text.split_once(':').unwrap_or((text, text));
    match (number(host), number(guest)) {
        (Some(host), Some(guest)) => Ok(Forward { host, guest }),
        _ => Err("write HOST:GUEST with ports from 1 to 65535, such as 8080:80".to_owned()),
    }
}

/// Names are those of systemd.exec(5): a file name without anything that SMBIOS would cut at.
fn credential(text: &str) -> Result<(String, PathBuf), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@~".contains(&byte);
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && name.bytes().all(plain) && !file.is_empty() => {
            Ok((name.to_owned(), PathBuf::from(file)))
        }
        _ => Err("write NAME=FILE, such as ssh.authorized_keys.root=keys.pub".to_owned()),
    }
}

/// As container tools have it, but read-only unless asked otherwise.
fn share(text: &str) -> Result<Share, String> {
    let (text, access) = match text.strip_suffix(":rw") {
        Some(rest) => (rest, Access::ReadWrite),
        None => (text.strip_suffix(":ro").unwrap_or(text), Access::ReadOnly),
    };
    let (host, guest) = match text.rsplit_once(':') {
        Some((host, guest)) => (host, Some(guest)),
        None => (text, None),
    };
    let folder = fs::canonicalize(host).map_err(|error| format!("{host}: {error}"))?;
    if !folder.is_dir() {
        return Err(format!("{host} is no folder"));
    }
    let name = folder.file_name().unwrap_or("host".as_ref());
    let guest = match guest {
        Some(guest) => guest.trim_end_matches('/').to_owned(),
        None => format!("/run/share/{}", name.to_string_lossy()),
    };
    // What stands in a unit must not mean anything there.
    let plain = |part: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:@+".contains(&byte);
        !matches!(part, "" | "." | "..") && part.bytes().all(is_plain)
    };
    match guest.strip_prefix('/') {
        Some(rest) if rest.split('/').all(plain) => Ok(Share {
            folder,
            guest,
            access,
        }),
        _ => Err(format!(
            "the guest cannot mount at `{guest}`; write HOST:GUEST, such as src:/run/share/src"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_only_unless_said_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(folder.path().join(".")).unwrap();
        let src = path.join("src");
        fs::create_dir(&src).unwrap();
        let host = src.to_str().unwrap();
        let rows = [
            ("", "/run/share/src", Access::ReadOnly),
            (":ro", "/run/share/src", Access::ReadOnly),
            (":rw", "/run/share/src", Access::ReadWrite),
            (":/srv/a/", "/srv/a", Access::ReadOnly),
            (":/srv/a:rw", "/srv/a", Access::ReadWrite),
        ];
        for (rest, guest, access) in rows {
            let found = share(&format!("{host}{rest}")).unwrap();
            assert_eq!(
                (found.folder.as_path(), found.guest.as_str(), found.access),
                (src.as_path(), guest, access)
            );
        }
        for rest in [":a", ":/", ":/a b", ":/a/../b", ":/a%n"] {
            let problem = share(&format!("{host}{rest}")).unwrap_err();
            assert!(problem.contains("cannot mount at"), "{problem}");
        }
        assert!(share("/absent").unwrap_err().contains("/absent: "));
    }
}
