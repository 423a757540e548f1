//! Builds the guest program, the first process of the sandbox and that of a test's neighbours as
//! static executables, to be carried inside `baker`.
//!
//! A nested cargo with a target folder of its own: the outer one holds the lock of the shared
//! folder. Paths of this machine are mapped away, so that equal sources give equal bytes.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let workspace = manifest.join("../..");
    let workspace = workspace
        .canonicalize()
        .expect("the crate lies in its workspace");
    for part in [
        "firmware/guest",
        "firmware/neighbour",
        "firmware/sandbox",
        "firmware/clock",
        "firmware/contract",
        "Cargo.lock",
        "Cargo.toml",
    ] {
        println!("cargo:rerun-if-changed={}", workspace.join(part).display());
    }
    let architecture = variable("CARGO_CFG_TARGET_ARCH");
    let target = format!("{architecture}-unknown-linux-gnu");
    let folder = PathBuf::from(variable("OUT_DIR")).join("guest");
    let out = folder.join(&target).join("guest");
    for (package, name) in [
        ("baker-guest", "BAKER_GUEST_PROGRAM"),
        ("baker-sandbox-init", "BAKER_SANDBOX_PROGRAM"),
        ("baker-neighbour", "BAKER_NEIGHBOUR_PROGRAM"),
    ] {
        let words = ["build", "--package", package];
        build(
            &workspace,
            &words,
            "-Ctarget-feature=+crt-static",
            &target,
            &folder,
        );
        println!("cargo:rustc-env={name}={}", out.join(package).display());
    }
    // Nothing is below it but what the program that loads it has.
    let words = [
        "rustc",
        "--package",
        "baker-clock",
        "--crate-type",
        "cdylib",
    ];
    build(&workspace, &words, "-Clink-arg=-nostdlib", &target, &folder);
    let library = out.join("libbaker_clock.so");
    println!("cargo:rustc-env=BAKER_CLOCK_LIBRARY={}", library.display());
}

fn build(workspace: &Path, words: &[&str], flag: &str, target: &str, folder: &Path) {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
        .unwrap_or_default();
    let flags = [
        flag.to_owned(),
        format!("--remap-path-prefix={}=/cargo", home.display()),
        format!("--remap-path-prefix={}=/baker", workspace.display()),
    ];
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .current_dir(workspace)
        .args(words)
        .args(["--profile", "guest", "--target", target, "--target-dir"])
        .arg(folder)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    // What the outer cargo set for its own compiler (clippy's wrapper, its flags) is not meant
    // for the guest.
    for inherited in [
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTFLAGS",
        "CARGO_TARGET_DIR",
    ] {
        cargo.env_remove(inherited);
    }
    let status = cargo
        .status()
        .expect("cargo, which runs this script, can be started");
    assert!(
        status.success(),
        "cargo {} failed: {status}",
        words.join(" ")
    );
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name} for build scripts"))
}
