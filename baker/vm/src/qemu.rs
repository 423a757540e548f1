//! Which QEMU there is, and how it must be asked to be dependable.

use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::accelerator::Accelerator;
use crate::architecture::Architecture;
use crate::environment::{Environment, is_file};
use crate::machine::Threads;

/// A QEMU that said its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qemu {
    /// Path of the program.
    pub program: PathBuf,
    /// The version it printed.
    pub version: Version,
    /// The CPU family of its guests.
    pub architecture: Architecture,
}

/// A version of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Micro number.
    pub micro: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// There is no QEMU that can be used.
#[derive(Debug, thiserror::Error)]
pub enum QemuError {
    /// None found.
    #[error(
        "no {} in the search path; install it ({}) or set BAKER_QEMU",
        architecture.row().program,
        architecture.row().install
    )]
    Missing {
        /// The CPU family of the guest.
        architecture: Architecture,
    },
    /// `BAKER_QEMU` does not name a file.
    #[error("BAKER_QEMU names {}, which is not a file", path.display())]
    NotAFile {
        /// The path given.
        path: PathBuf,
    },
    /// It could not be started.
    #[error("cannot run {} --version", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It printed something else than a version.
    #[error("{} --version printed `{found}`, expected `QEMU emulator version ...`", program.display())]
    Version {
        /// The program.
        program: PathBuf,
        /// The first line it printed.
        found: String,
    },
}

impl Qemu {
    /// Finds QEMU (`BAKER_QEMU`, else the search path) and asks its version.
    ///
    /// # Errors
    /// There is none, it cannot be started, or it is something else.
    pub fn discover(
        environment: &Environment,
        architecture: Architecture,
    ) -> Result<Self, QemuError> {
        let program = match &environment.qemu {
            Some(path) if is_file(path) => path.clone(),
            Some(path) => return Err(QemuError::NotAFile { path: path.clone() }),
            None => environment
                .find_program(architecture.row().program)
                .ok_or(QemuError::Missing { architecture })?,
        };
        let answer = Command::new(&program)
            .arg("--version")
            .stdin(Stdio::null())
            .output();
        let answer = match answer {
            Ok(answer) => String::from_utf8_lossy(&answer.stdout).into_owned(),
            Err(source) => return Err(QemuError::Start { program, source }),
        };
        match parse_version(&answer) {
            Some(version) => Ok(Self {
                program,
                version,
                architecture,
            }),
            None => {
                let found = answer.lines().next().unwrap_or_default().to_owned();
                Err(QemuError::Version { program, found })
            }
        }
    }

    /// The CPU model to ask for.
    ///
    /// TCG before QEMU 8 leaves garbage in the upper half of EFLAGS after `cmpxchg16b`: of boots
    /// with the instruction about one in three died, of 288 without it none did (the kernel then
    /// takes its slower lock path). Five-level paging is left out because no guest here needs it and it costs
    /// page walks; `-svm` alone would be wrong, it lowers the extended CPUID level. Without `erms` the
    /// kernel clears and copies pages by words: QEMU goes through `rep stosb` byte by byte, which
    /// took a boot 0.8 s of 11.
    #[must_use]
    pub fn cpu_model(&self, accelerator: Accelerator) -> &'static str {
        match accelerator {
            Accelerator::Kvm => "host",
            // Pointer authentication of newer models is slow to emulate.
            Accelerator::Tcg if self.architecture == Architecture::Arm64 => "cortex-a72",
            Accelerator::Tcg if self.version.major < 8 => "max,-cx16,-la57,-erms",
            Accelerator::Tcg => "max,-la57",
        }
    }
}

impl Qemu {
    /// The board, without controllers that nothing is attached to: each costs the kernel a look for
    /// what is behind it and the boot a module to check and load, together 0.4 to 1 s of 9. Before
    /// QEMU 7 that of the keyboard cannot be left out.
    #[must_use]
    pub fn board(&self) -> String {
        let board = self.architecture.row().board;
        match self.architecture {
            Architecture::Amd64 if self.version.major < 7 => format!("{board},sata=off,smbus=off"),
            Architecture::Amd64 => format!("{board},sata=off,smbus=off,i8042=off"),
            Architecture::Arm64 => board.to_owned(),
        }
    }

    /// Who emulates the CPUs.
    ///
    /// Before QEMU 8.1.1 a change of the memory map reaches the other CPUs a moment after it took
    /// effect (QEMU issue 1864, `tcg_commit`): until then their accesses to devices hit others.
    /// While the kernel sizes the PCI devices, the second CPU's interrupt controller is lost that
    /// way in about one boot of a hundred: a panic in an interrupt, or QEMU's own death. One
    /// thread has no such moment. It costs two fifths more time when nothing else runs, and none
    /// when other machines use the other cores.
    #[must_use]
    pub fn threads(&self) -> Threads {
        let Version {
            major,
            minor,
            micro,
        } = self.version;
        if (major, minor, micro) < (8, 1, 1) {
            Threads::One
        } else {
            Threads::Each
        }
    }
}

/// A CPU model, and why it may not be dependable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuChoice {
    /// The model, as QEMU's `-cpu` takes it.
    pub model: String,
    /// What a person should know of it.
    pub warning: Option<String>,
}

impl Qemu {
    /// The CPU model: the one that the environment names, else [`Self::cpu_model`].
    #[must_use]
    pub fn choose_cpu(&self, accelerator: Accelerator, environment: &Environment) -> CpuChoice {
        let Some(model) = environment.cpu.clone() else {
            let model = self.cpu_model(accelerator).to_owned();
            return CpuChoice {
                model,
                warning: None,
            };
        };
        let warning = self.cpu_warning(accelerator, &model);
        CpuChoice { model, warning }
    }

    /// What is known against a model (measured on boots of Linux 6.12).
    fn cpu_warning(&self, accelerator: Accelerator, model: &str) -> Option<String> {
        if accelerator != Accelerator::Tcg || self.architecture != Architecture::Amd64 {
            return None;
        }
        let hides = |feature: &str| {
            let mut words = model.split(',').map(str::trim);
            words.any(|word| word == format!("-{feature}") || word == format!("{feature}=off"))
        };
        if self.version.major < 8 && !hides("cx16") {
            let version = self.version;
            return Some(format!(
                "QEMU {version} emulates cmpxchg16b wrongly: half of all full boots with such a \
                 CPU died of it; use QEMU 8 or newer, or hide the instruction: \
                 BAKER_CPU={model},-cx16"
            ));
        }
        if hides("svm") && !hides("la57") {
            return Some(format!(
                "a CPU without svm but with la57 breaks the guest's address space; write \
                 BAKER_CPU={model},-la57"
            ));
        }
        None
    }
}

/// Reads `QEMU emulator version 7.2.22 (Debian ...)`.
fn parse_version(text: &str) -> Option<Version> {
    let numbers = text.split_once("QEMU emulator version ")?.1;
    let end = numbers
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(numbers.len());
    let mut parts = numbers[..end].split('.').map(str::parse);
    let mut next = || parts.next()?.ok();
    Some(Version {
        major: next()?,
        minor: next()?,
        micro: next().unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_distributions_parse() {
        let rows = [
            (
                "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nC",
                Some((7, 2, 22)),
            ),
            (
                "QEMU emulator version 10.0.2 (qemu-10.0.2-1.fc43)",
                Some((10, 0, 2)),
            ),
            ("QEMU emulator version 9.1", Some((9, 1, 0))),
            ("QEMU emulator version x", None),
            ("qemu: command not found", None),
        ];
        for (text, expected) in rows {
            let found = parse_version(text).map(|v| (v.major, v.minor, v.micro));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn only_old_tcg_hides_cx16() {
        let qemu = |major| Qemu {
            program: PathBuf::new(),
            version: Version {
                major,
                minor: 0,
                micro: 0,
            },
            architecture: Architecture::Amd64,
        };
        assert_eq!(qemu(7).cpu_model(Accelerator::Tcg), "max,-cx16,-la57,-erms");
        assert_eq!(qemu(10).cpu_model(Accelerator::Tcg), "max,-la57");
        assert_eq!(qemu(7).cpu_model(Accelerator::Kvm), "host");
    }

    #[test]
    fn the_board_has_no_controllers_to_spare() {
        let board = |architecture, major| {
            let (program, minor, micro) = (PathBuf::new(), 2, 0);
            let version = Version {
                major,
                minor,
                micro,
            };
            Qemu {
                program,
                version,
                architecture,
            }
            .board()
        };
        assert_eq!(board(Architecture::Amd64, 6), "q35,sata=off,smbus=off");
        assert_eq!(
            board(Architecture::Amd64, 7),
            "q35,sata=off,smbus=off,i8042=off"
        );
        assert_eq!(board(Architecture::Arm64, 7), "virt");
    }

    #[test]
    fn old_tcg_emulates_all_cpus_on_one_thread() {
        let rows = [
            ((7, 2, 22), Threads::One),
            ((8, 1, 0), Threads::One),
            ((8, 1, 1), Threads::Each),
            ((10, 0, 2), Threads::Each),
        ];
        for ((major, minor, micro), expected) in rows {
            let qemu = Qemu {
                program: PathBuf::new(),
                version: Version {
                    major,
                    minor,
                    micro,
                },
                architecture: Architecture::Amd64,
            };
            assert_eq!(qemu.threads(), expected, "{}", qemu.version);
        }
    }

    #[test]
    fn a_model_known_to_fail_is_warned_of() {
        let rows = [
            (7, Accelerator::Tcg, "max", Some("cmpxchg16b")),
            (7, Accelerator::Tcg, "qemu64,+avx", Some("-cx16")),
            (7, Accelerator::Tcg, "max,cx16=off", None),
            (7, Accelerator::Kvm, "host", None),
            (10, Accelerator::Tcg, "max", None),
            (10, Accelerator::Tcg, "max,-svm", Some("la57")),
            (10, Accelerator::Tcg, "max,-svm,-la57", None),
        ];
        for (major, accelerator, model, expected) in rows {
            let qemu = Qemu {
                program: PathBuf::new(),
                version: Version {
                    major,
                    minor: 2,
                    micro: 0,
                },
                architecture: Architecture::Amd64,
            };
            let environment = Environment {
                cpu: Some(model.to_owned()),
                ..Environment::of_process()
            };
            let choice = qemu.choose_cpu(accelerator, &environment);
            assert_eq!(choice.model, model);
            let warning = choice.warning.unwrap_or_default();
            assert_eq!(warning.is_empty(), expected.is_none(), "{model}: {warning}");
            assert!(
                warning.contains(expected.unwrap_or_default()),
                "{model}: {warning}"
            );
        }
    }

    #[test]
    fn a_missing_or_false_qemu_is_named() {
        let mut environment = Environment {
            path: "/nonexistent".into(),
            qemu: None,
            ..Environment::of_process()
        };
        assert!(matches!(
            Qemu::discover(&environment, Architecture::Amd64),
            Err(QemuError::Missing { .. })
        ));
        environment.qemu = Some("/nonexistent/qemu".into());
        assert!(matches!(
            Qemu::discover(&environment, Architecture::Amd64),
            Err(QemuError::NotAFile { .. })
        ));
        environment.qemu = Some("/bin/true".into());
        assert!(matches!(
            Qemu::discover(&environment, Architecture::Amd64),
            Err(QemuError::Version { .. })
        ));
    }
}
