//! Which UEFI firmware there is.
//!
//! The known builds stand in `firmware/ovmf/builds.toml`, compiled in: where each distribution
//! puts them and which package brings them.

use std::path::{Path, PathBuf};

use serde::Deserialize;

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
        "no UEFI firmware for virtual machines found; install it ({}) or set BAKER_OVMF_CODE and BAKER_OVMF_VARS",
        hints.join("; ")
    )]
    Missing {
        /// Install commands per distribution.
        hints: Vec<String>,
    },
    /// Only one of the two overrides is set.
    #[error("BAKER_OVMF_CODE and BAKER_OVMF_VARS belong together, only {found} is set")]
    Half {
        /// The one that is set.
        found: &'static str,
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
    distribution: String,
    install: String,
    code: PathBuf,
    vars: PathBuf,
    /// For people who read the file.
    #[serde(rename = "tried")]
    _tried: String,
}

impl Ovmf {
    /// Finds the firmware: both overrides, else the first known build that is installed.
    ///
    /// # Errors
    /// Nothing is installed, or an override is incomplete or names no file.
    pub fn discover(environment: &Environment) -> Result<Self, OvmfError> {
        match (&environment.ovmf_code, &environment.ovmf_vars) {
            (Some(code), Some(vars)) => Ok(Self {
                code: checked("BAKER_OVMF_CODE", code)?,
                vars: checked("BAKER_OVMF_VARS", vars)?,
            }),
            (Some(_), None) => Err(OvmfError::Half {
                found: "BAKER_OVMF_CODE",
            }),
            (None, Some(_)) => Err(OvmfError::Half {
                found: "BAKER_OVMF_VARS",
            }),
            (None, None) => Self::first_installed(Path::new("/")),
        }
    }

    /// The first known build below `root`.
    fn first_installed(root: &Path) -> Result<Self, OvmfError> {
        let builds: Builds = toml::from_str(BUILDS).expect("the compiled-in list parses (tested)");
        let below = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        builds
            .build
            .iter()
            .map(|build| Self {
                code: below(&build.code),
                vars: below(&build.vars),
            })
            .find(|ovmf| is_file(&ovmf.code) && is_file(&ovmf.vars))
            .ok_or_else(|| {
                let hint = |build: &Build| format!("{}: `{}`", build.distribution, build.install);
                let mut hints: Vec<_> = builds.build.iter().map(hint).collect();
                hints.dedup();
                OvmfError::Missing { hints }
            })
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
        let missing = Ovmf::first_installed(root.path()).unwrap_err().to_string();
        assert!(missing.contains("apt-get install ovmf"), "{missing}");
        assert!(missing.contains("BAKER_OVMF_CODE"), "{missing}");

        let folder = root.path().join("usr/share/OVMF");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("OVMF_CODE_4M.fd"), "").unwrap();
        assert!(
            Ovmf::first_installed(root.path()).is_err(),
            "code without variables"
        );
        std::fs::write(folder.join("OVMF_VARS_4M.fd"), "").unwrap();
        let found = Ovmf::first_installed(root.path()).unwrap();
        assert_eq!(found.vars, folder.join("OVMF_VARS_4M.fd"));
    }

    #[test]
    fn overrides_come_in_pairs() {
        let environment = Environment {
            ovmf_code: Some("/etc/passwd".into()),
            ovmf_vars: None,
            ..Environment::of_process()
        };
        assert!(matches!(
            Ovmf::discover(&environment),
            Err(OvmfError::Half { .. })
        ));
        let environment = Environment {
            ovmf_vars: Some("/nonexistent".into()),
            ..environment
        };
        let error = Ovmf::discover(&environment).unwrap_err().to_string();
        assert!(
            error.contains("BAKER_OVMF_VARS names /nonexistent"),
            "{error}"
        );
    }
}
