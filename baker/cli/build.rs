//! Builds the guest program and the first process of the sandbox as static executables, to be
//! carried inside `baker`.
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
        "firmware/sandbox",
        "firmware/contract",
        "Cargo.lock",
        "Cargo.toml",
    ] {
        println!("cargo:rerun-if-changed={}", workspace.join(part).display());
    }
    let architecture = variable("CARGO_CFG_TARGET_ARCH");
    let target = format!("{architecture}-unknown-linux-gnu");
    let folder = PathBuf::from(variable("OUT_DIR")).join("guest");
    for (package, name) in [
        ("baker-guest", "BAKER_GUEST_PROGRAM"),
        ("baker-sandbox-init", "BAKER_SANDBOX_PROGRAM"),
    ] {
        build(&workspace, package, &target, &folder);
        let program = folder.join(&target).join("guest").join(package);
        println!("cargo:rustc-env={name}={}", program.display());
    }
}

fn build(workspace: &Path, package: &str, target: &str, folder: &Path) {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
        .unwrap_or_default();
    let flags = [
        "-Ctarget-feature=+crt-static".to_owned(),
        format!("--remap-path-prefix={}=/cargo", home.display()),
        format!("--remap-path-prefix={}=/baker", workspace.display()),
    ];
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .current_dir(workspace)
        .args([
            "build",
            "--package",
            package,
            "--profile",
            "guest",
            "--target",
            target,
        ])
        .arg("--target-dir")
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
        "building the guest program failed: {status}"
    );
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name} for build scripts"))
}
