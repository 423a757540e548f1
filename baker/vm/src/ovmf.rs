//! Which UEFI firmware there is.
//!
//! The known builds stand in `firmware/ovmf/builds.toml`, compiled in: where each distribution
//! puts them and which package brings them.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::architecture::Architecture;
use crate::environment::{Environment, is_file};

const BUILDS: &str = include_str!("../../../firmware/ovmf/builds.toml");

/// A firmware build: code and the variable store template made with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ovmf {
    /// The code, mapped read-only.
    pub code: PathBuf,
    /// The template of the variable store; a boot writes to a throwaway overlay of it.
    pub vars: PathBuf,
}

/// There is no firmware that can be used.
#[derive(Debug, thiserror::Error)]
pub enum OvmfError {
    /// None of the known builds is installed.
    #[error(
        "no {what} for virtual {architecture} machines found; install it ({}) or set {code} and \
         {vars}",
        hints.join("; ")
    )]
    Missing {
        /// What was looked for.
        what: &'static str,
        /// The machines that it was looked for.
        architecture: Architecture,
        /// Variable that names the code.
        code: &'static str,
        /// Variable that names the variable store template.
        vars: &'static str,
        /// Install commands per distribution.
        hints: Vec<String>,
    },
    /// Only one of the two overrides is set.
    #[error("{found} is set without {missing}; they belong together")]
    Half {
        /// The one that is set.
        found: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// An override does not name a file.
    #[error("{variable} names {}, which is not a file", path.display())]
    NotAFile {
        /// Name of the variable.
        variable: &'static str,
        /// The path given.
        path: PathBuf,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Builds {
    build: Vec<Build>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Build {
    /// Debian's name of the machines that it is for.
    architecture: String,
    distribution: String,
    install: String,
    code: PathBuf,
    /// The build that can enforce Secure Boot.
    #[serde(default)]
    secure_code: Option<PathBuf>,
    vars: PathBuf,
    /// The template for Secure Boot, where it is another.
    #[serde(default)]
    secure_vars: Option<PathBuf>,
    /// For people who read the file.
    #[serde(rename = "tried")]
    _tried: String,
}

impl Ovmf {
    /// Finds the firmware: both overrides, else the first known build that is installed.
    ///
    /// # Errors
    /// Nothing is installed, or an override is incomplete or names no file.
    pub fn discover(
        environment: &Environment,
        architecture: Architecture,
    ) -> Result<Self, OvmfError> {
        let code = ("BAKER_OVMF_CODE", &environment.ovmf_code);
        let vars = ("BAKER_OVMF_VARS", &environment.ovmf_vars);
        match overridden(code, vars)? {
            Some(ovmf) => Ok(ovmf),
            None => Self::first_installed(Path::new("/"), architecture, Kind::Plain),
        }
    }

    /// Finds firmware that can enforce Secure Boot: both overrides, else the first known build
    /// that is installed. [`crate::Boot::UefiSecure`] wants a copy of its template, in which the
    /// keys are those of the release and no others.
    ///
    /// # Errors
    /// Nothing is installed, or an override is incomplete or names no file.
    pub fn discover_secure(
        environment: &Environment,
        architecture: Architecture,
    ) -> Result<Self, OvmfError> {
        let code = ("BAKER_OVMF_SECURE_CODE", &environment.ovmf_secure_code);
        let vars = ("BAKER_OVMF_SECURE_VARS", &environment.ovmf_secure_vars);
        match overridden(code, vars)? {
            Some(ovmf) => Ok(ovmf),
            None => Self::first_installed(Path::new("/"), architecture, Kind::Secure),
        }
    }

    /// The first known build below `root`.
    fn first_installed(
        root: &Path,
        architecture: Architecture,
        kind: Kind,
    ) -> Result<Self, OvmfError> {
        let builds: Builds = toml::from_str(BUILDS).expect("the compiled-in list parses (tested)");
        let below = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        let fitting = |build: &&Build| build.architecture == architecture.name();
        let known = builds.build.iter().filter(fitting).filter_map(|build| {
            Some(match kind {
                Kind::Plain => (&build.code, &build.vars, build),
                Kind::Secure => {
                    let vars = build.secure_vars.as_ref().unwrap_or(&build.vars);
                    (build.secure_code.as_ref()?, vars, build)
                }
            })
        });
        known
            .clone()
            .map(|(code, vars, _)| Self {
                code: below(code),
                vars: below(vars),
            })
            .find(|ovmf| is_file(&ovmf.code) && is_file(&ovmf.vars))
            .ok_or_else(|| {
                let hint = |build: &Build| format!("{}: `{}`", build.distribution, build.install);
                let mut hints: Vec<_> = known.map(|(_, _, build)| hint(build)).collect();
                hints.dedup();
                let (what, code, vars) = kind.words();
                OvmfError::Missing {
                    what,
                    architecture,
                    code,
                    vars,
                    hints,
                }
            })
    }
}

/// Which firmware is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Any.
    Plain,
    /// One that can enforce Secure Boot.
    Secure,
}

impl Kind {
    /// What it is, and the variables that name another.
    const fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Plain => ("UEFI firmware", "BAKER_OVMF_CODE", "BAKER_OVMF_VARS"),
            Self::Secure => (
                "UEFI firmware with Secure Boot",
                "BAKER_OVMF_SECURE_CODE",
                "BAKER_OVMF_SECURE_VARS",
            ),
        }
    }
}

/// The pair that two variables name; none when neither is set.
fn overridden(
    code: (&'static str, &Option<PathBuf>),
    vars: (&'static str, &Option<PathBuf>),
) -> Result<Option<Ovmf>, OvmfError> {
    let half = |found, missing| Err(OvmfError::Half { found, missing });
    match (code.1, vars.1) {
        (Some(code_path), Some(vars_path)) => Ok(Some(Ovmf {
            code: checked(code.0, code_path)?,
            vars: checked(vars.0, vars_path)?,
        })),
        (Some(_), None) => half(code.0, vars.0),
        (None, Some(_)) => half(vars.0, code.0),
        (None, None) => Ok(None),
    }
}

fn checked(variable: &'static str, path: &Path) -> Result<PathBuf, OvmfError> {
    if is_file(path) {
        Ok(path.to_owned())
    } else {
        Err(OvmfError::NotAFile {
            variable,
            path: path.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_complete_pair_wins_and_none_is_explained() {
        let root = tempfile::tempdir().unwrap();
        let installed = |architecture, kind| Ovmf::first_installed(root.path(), architecture, kind);
        let plain = || installed(Architecture::Amd64, Kind::Plain);
        let missing = plain().unwrap_err().to_string();
        assert!(missing.contains("apt-get install ovmf"), "{missing}");
        assert!(missing.contains("BAKER_OVMF_CODE"), "{missing}");

        let folder = root.path().join("usr/share/OVMF");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("OVMF_CODE_4M.fd"), "").unwrap();
        assert!(plain().is_err(), "code without variables");
        std::fs::write(folder.join("OVMF_VARS_4M.fd"), "").unwrap();
        let found = plain().unwrap();
        assert_eq!(found.vars, folder.join("OVMF_VARS_4M.fd"));

        let secure = || installed(Architecture::Amd64, Kind::Secure);
        let missing = secure().unwrap_err().to_string();
        assert!(missing.contains("Secure Boot"), "{missing}");
        assert!(missing.contains("BAKER_OVMF_SECURE_CODE"), "{missing}");
        std::fs::write(folder.join("OVMF_CODE_4M.secboot.fd"), "").unwrap();
        let found = secure().unwrap();
        assert_eq!(found.code, folder.join("OVMF_CODE_4M.secboot.fd"));
        assert_eq!(found.vars, folder.join("OVMF_VARS_4M.fd"));

        // Firmware of other machines is none.
        let other = installed(Architecture::Arm64, Kind::Plain);
        let missing = other.unwrap_err().to_string();
        assert!(missing.contains("arm64"), "{missing}");
        assert!(
            missing.contains("apt-get install qemu-efi-aarch64"),
            "{missing}"
        );
    }

    #[test]
    fn overrides_come_in_pairs() {
        let environment = Environment {
            ovmf_code: Some("/etc/passwd".into()),
            ovmf_vars: None,
            ..Environment::of_process()
        };
        assert!(matches!(
            Ovmf::discover(&environment, Architecture::Amd64),
            Err(OvmfError::Half { .. })
        ));
        let environment = Environment {
            ovmf_vars: Some("/nonexistent".into()),
            ..environment
        };
        let error = Ovmf::discover(&environment, Architecture::Amd64)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("BAKER_OVMF_VARS names /nonexistent"),
            "{error}"
        );
    }
}
