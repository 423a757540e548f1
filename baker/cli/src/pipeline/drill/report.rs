//! What a drill says: one row per flip, as JSON, as a table and as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use baker_model::{Digest, Failure, Verdict};
use serde::Serialize;

/// The version of the report format that this baker writes.
pub const REPORT_VERSION: u32 = 1;

/// `drill.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DrillReport {
    /// Format version, [`REPORT_VERSION`].
    pub report_version: u32,
    /// Name and version of the release.
    pub release: String,
    /// SHA-256 of its `manifest.json`.
    pub manifest: Digest,
    /// What decided the bytes.
    pub seed: Digest,
    /// How the variants were booted.
    pub firmware: String,
    /// Milliseconds that the undamaged disk took to pass; none when no flip needed a boot.
    pub baseline_milliseconds: Option<u64>,
    /// Guests at a time.
    pub jobs: usize,
    /// Milliseconds of the whole drill.
    pub milliseconds: u64,
    /// What became of each flip.
    pub flips: Vec<Flip>,
}

/// One flip and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Flip {
    /// The structure.
    pub structure: String,
    /// The file of the release that was damaged.
    pub file: String,
    /// The bytes of it.
    pub offsets: Vec<u64>,
    /// The bit of each byte, 0 to 7.
    pub bit: u8,
    /// What came of it.
    #[serde(flatten)]
    pub answer: Answer,
    /// Milliseconds until then.
    pub milliseconds: u64,
    /// Whether `baker verify` refuses the damaged release, too; none when it was the judge.
    pub verify_refuses: Option<bool>,
}

/// What came of a flip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// Somebody noticed.
    Refused {
        /// Who.
        by: Guard,
        /// What they said.
        detail: String,
    },
    /// Nobody noticed, and nobody has to.
    Harmless {
        /// Why.
        reason: String,
    },
    /// **Nobody noticed, and somebody should have.**
    Accepted {
        /// What would have helped.
        detail: String,
    },
}

/// Who can refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guard {
    /// `baker verify`.
    Verify,
    /// The firmware.
    Firmware,
    /// Boot loader or stub.
    Loader,
    /// The kernel.
    Kernel,
    /// The init of the initramfs.
    Init,
    /// dm-verity.
    Verity,
    /// The probe inside, by what it found or by systemd's word.
    Probe,
    /// The judge outside: the guest said nothing, restarted, or took too long.
    Judge,
}

impl Guard {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Firmware => "firmware",
            Self::Loader => "loader",
            Self::Kernel => "kernel",
            Self::Init => "init",
            Self::Verity => "verity",
            Self::Probe => "probe",
            Self::Judge => "judge",
        }
    }

    /// Who stands behind a failure of a smoke test.
    pub const fn of(failure: Failure) -> Self {
        match failure {
            Failure::FirmwareRefused => Self::Firmware,
            Failure::LoaderFailed => Self::Loader,
            Failure::KernelPanic | Failure::KernelOops => Self::Kernel,
            Failure::VerityCorruption => Self::Verity,
            Failure::InitFailed => Self::Init,
            Failure::UnitFailed | Failure::AssertionFailed | Failure::BudgetExceeded => Self::Probe,
            Failure::GuestReset | Failure::GuestSilent | Failure::QemuDied | Failure::TimedOut => {
                Self::Judge
            }
        }
    }
}

impl Answer {
    /// The refusal in a verdict; none when it passed.
    pub fn refusal(verdict: &Verdict) -> Option<Self> {
        match verdict {
            Verdict::Passed => None,
            Verdict::Failed { failure, .. } => Some(Self::Refused {
                by: Guard::of(*failure),
                detail: verdict.to_string(),
            }),
        }
    }

    fn columns(&self) -> (&'static str, &'static str, &str) {
        match self {
            Self::Refused { by, detail } => (by.name(), "refused", detail),
            Self::Harmless { reason } => ("-", "harmless", reason),
            Self::Accepted { detail } => ("nobody", "ACCEPTED", detail),
        }
    }
}

impl DrillReport {
    /// The flips that nobody noticed and somebody should have.
    pub fn accepted(&self) -> impl Iterator<Item = &Flip> {
        let flips = self.flips.iter();
        flips.filter(|flip| matches!(flip.answer, Answer::Accepted { .. }))
    }

    /// The bytes of `drill.json`, with a newline at the end.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a report holds only plain data");
        bytes.push(b'\n');
        bytes
    }

    /// How many flips ended how: `40 refused (firmware 9, verify 12 ...), 8 harmless, 0 accepted`.
    pub fn summary(&self) -> String {
        let mut guards: BTreeMap<Guard, usize> = BTreeMap::new();
        let (mut harmless, mut accepted) = (0, 0);
        for flip in &self.flips {
            match &flip.answer {
                Answer::Refused { by, .. } => *guards.entry(*by).or_default() += 1,
                Answer::Harmless { .. } => harmless += 1,
                Answer::Accepted { .. } => accepted += 1,
            }
        }
        let refused: usize = guards.values().sum();
        let by: Vec<_> = guards
            .iter()
            .map(|(guard, count)| format!("{} {count}", guard.name()))
            .collect();
        let by = match by.is_empty() {
            true => String::new(),
            false => format!(" ({})", by.join(", ")),
        };
        let total = self.flips.len();
        format!("{total} flips: {refused} refused{by}, {harmless} harmless, {accepted} accepted")
    }

    /// The table for a terminal.
    pub fn table(&self) -> String {
        let head = ["structure", "offset", "refused by", "verdict", "seconds"];
        let mut rows = vec![head.map(str::to_owned)];
        for flip in &self.flips {
            let (by, verdict, _) = flip.answer.columns();
            let [structure, by, verdict] =
                [flip.structure.as_str(), by, verdict].map(str::to_owned);
            rows.push([structure, flip.place(), by, verdict, flip.seconds()]);
        }
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max();
        let widths = [0, 1, 2, 3].map(|column| width(column).unwrap_or(0));
        let mut text = String::new();
        for [structure, offset, by, verdict, seconds] in &rows {
            let [a, b, c, d] = widths;
            writeln!(
                text,
                "{structure:a$}  {offset:>b$}  {by:c$}  {verdict:d$}  {seconds:>7}"
            )
            .unwrap_or_default();
        }
        for flip in &self.flips {
            let (_, verdict, detail) = flip.answer.columns();
            if !matches!(flip.answer, Answer::Refused { .. }) {
                writeln!(text, "{verdict}: {}: {detail}", flip.structure).unwrap_or_default();
            }
        }
        text.push_str(&self.summary());
        text
    }

    /// The same for people who read it later, with every answer in full.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "# Tamper drill of {}\n\nManifest `{}`, seed `{}`, booted by {}.\n\n{}.\n\n",
            self.release,
            self.manifest,
            self.seed,
            self.firmware,
            self.summary()
        );
        text.push_str(
            "| structure | file | offset | bit | refused by | verdict | seconds | why |\n",
        );
        text.push_str("|---|---|---:|---:|---|---|---:|---|\n");
        for flip in &self.flips {
            let (by, verdict, detail) = flip.answer.columns();
            // A bar would end the cell.
            let detail = detail.replace('|', "\\|");
            writeln!(
                text,
                "| {} | {} | {} | {} | {by} | {verdict} | {} | {detail} |",
                flip.structure.replace('|', "\\|"),
                flip.file,
                flip.place(),
                flip.bit,
                flip.seconds(),
            )
            .unwrap_or_default();
        }
        text
    }
}

impl Flip {
    /// One line: structure, who, and what they said.
    pub fn line(&self) -> String {
        let (by, verdict, detail) = self.answer.columns();
        match self.answer {
            Answer::Refused { .. } => format!("{}: {verdict} by {by} ({detail})", self.structure),
            _ => format!("{}: {verdict} ({detail})", self.structure),
        }
    }

    fn place(&self) -> String {
        let offsets: Vec<_> = self.offsets.iter().map(|at| format!("{at:#x}")).collect();
        offsets.join("+")
    }

    fn seconds(&self) -> String {
        format!(
            "{}.{}",
            self.milliseconds / 1000,
            self.milliseconds % 1000 / 100
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flip(structure: &str, answer: Answer) -> Flip {
        Flip {
            structure: structure.to_owned(),
            file: "disk.raw".to_owned(),
            offsets: vec![0x200],
            bit: 3,
            answer,
            milliseconds: 4250,
            verify_refuses: Some(true),
        }
    }

    #[test]
    fn the_table_names_who_and_why() {
        let refused = Answer::Refused {
            by: Guard::Verity,
            detail: "verity-corruption: data block 5".into(),
        };
        let accepted = Answer::Accepted {
            detail: "sign it".into(),
        };
        let harmless = Answer::Harmless {
            reason: "it is | free".into(),
        };
        let report = DrillReport {
            report_version: REPORT_VERSION,
            release: "minimal-1.0.0".into(),
            manifest: Digest::of(b"m"),
            seed: Digest::of(b"s"),
            firmware: "uefi".into(),
            baseline_milliseconds: None,
            jobs: 2,
            milliseconds: 9000,
            flips: vec![
                flip("root data", refused),
                flip("gap", harmless),
                flip(".osrel", accepted),
            ],
        };
        let table = report.table();
        let row = "root data   0x200  verity      refused       4.2";
        assert!(table.contains(row), "{table}");
        assert!(table.contains("\nACCEPTED: .osrel: sign it\n"), "{table}");
        let summary = "3 flips: 1 refused (verity 1), 1 harmless, 1 accepted";
        assert!(table.ends_with(summary), "{table}");
        assert_eq!(report.accepted().count(), 1);
        assert!(report.markdown().contains("it is \\| free |"));
        let json: serde_json::Value = serde_json::from_slice(&report.to_bytes()).unwrap();
        assert_eq!(json["flips"][0]["by"], "verity");
        assert_eq!(json["flips"][2]["answer"], "accepted");
    }
}
