//! What ran, for how long, and what it said.
//!
//! dpkg and the scripts write into one stream, in order. dpkg says on it what it does
//! (`--status-fd`) and which script it is about to run (`--debug=2`); what comes between that and
//! its next word is the script's. A script that imitates those words confuses the record, nothing
//! else.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use baker_contract::sandbox::Step;
use baker_model::Digest;
use serde::{Deserialize, Serialize};

use super::plan::DPKG;

/// Bytes of one script's output that are kept.
const OUTPUT_LIMIT: usize = 64 << 10;

/// Lines of the end that an error shows.
const LAST_LINES: usize = 20;

/// How dpkg announces a script.
const RUNS: &str = "fork/exec ";

/// How lines of dpkg's begin.
const OWN: [&str; 8] = [
    "D00",
    "status: ",
    "processing: ",
    "Setting up ",
    "Unpacking ",
    "Preparing to unpack ",
    "Processing triggers for ",
    "Selecting previously unselected package ",
];

/// Digests of scripts by package and name.
pub type Digests = BTreeMap<(String, String), Digest>;

/// One script or command that ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ran {
    /// The package; empty for a command of the recipe.
    pub package: String,
    /// `preinst`, `postinst`, ..., or the command.
    pub script: String,
    /// What it was told: `configure`, `triggered /some/path`.
    pub arguments: String,
    /// Digest of the script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// How long it ran.
    pub milliseconds: u64,
    /// What it wrote, to standard output and standard error.
    pub output: String,
}

/// A step that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The package, when dpkg names one.
    pub package: Option<String>,
    /// Which script of it and how it ended, in dpkg's words; or the command.
    pub what: String,
    /// Exit code of the step.
    pub code: i32,
    /// The last lines.
    pub last: String,
}

/// Listens to a job.
#[derive(Debug)]
pub struct Transcript<'a> {
    steps: &'a [Step],
    digests: &'a Digests,
    step: Option<&'a Step>,
    /// Bytes of a line that is not at its end.
    line: Vec<u8>,
    /// The package that dpkg works on.
    package: String,
    running: Option<(Ran, Duration)>,
    ran: Vec<Ran>,
    last: VecDeque<String>,
    /// dpkg's own explanation of a failure.
    errors: Vec<String>,
    failed: Option<Failed>,
}

impl<'a> Transcript<'a> {
    /// Of a job with these steps.
    #[must_use]
    pub fn new(steps: &'a [Step], digests: &'a Digests) -> Self {
        Self {
            steps,
            digests,
            step: None,
            line: Vec::new(),
            package: String::new(),
            running: None,
            ran: Vec::new(),
            last: VecDeque::new(),
            errors: Vec::new(),
            failed: None,
        }
    }

    /// Step number such begins, so long after the start.
    pub fn started(&mut self, step: u32, at: Duration) {
        self.step = usize::try_from(step)
            .ok()
            .and_then(|step| self.steps.get(step));
        let Some(step) = self.step.filter(|step| !is_dpkg(step)) else {
            return;
        };
        let ran = Ran {
            package: String::new(),
            script: step.argv.join(" "),
            arguments: String::new(),
            sha256: None,
            milliseconds: 0,
            output: String::new(),
        };
        self.running = Some((ran, at));
    }

    /// The step wrote this.
    pub fn output(&mut self, bytes: &[u8], at: Duration) {
        for &byte in bytes {
            self.line.push(byte);
            if byte == b'\n' || self.line.len() > OUTPUT_LIMIT {
                self.take_line(at);
            }
        }
    }

    /// The step ended.
    pub fn ended(&mut self, code: i32, at: Duration) {
        if !self.line.is_empty() {
            self.take_line(at);
        }
        self.close(at);
        if code == 0 {
            return;
        }
        let step = self.step.map(|step| step.argv.join(" "));
        let last = self.last.iter().map(String::as_str).collect::<Vec<_>>();
        let package = self.errors.iter().find_map(|line| {
            let rest = line.strip_prefix("dpkg: error processing ")?;
            let name = rest.strip_prefix("package ")?.split([' ', ':']).next()?;
            Some(name.to_owned())
        });
        let what = self
            .errors
            .iter()
            .find(|line| line.starts_with(' '))
            .map(|line| line.trim().to_owned());
        self.failed = Some(Failed {
            package,
            what: what.or(step).unwrap_or_default(),
            code,
            last: last.join("\n"),
        });
    }

    /// All that ran.
    ///
    /// # Errors
    /// A step failed.
    pub fn finish(self) -> Result<Vec<Ran>, Box<Failed>> {
        match self.failed {
            Some(failed) => Err(Box::new(failed)),
            None => Ok(self.ran),
        }
    }

    fn take_line(&mut self, at: Duration) {
        let bytes = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&bytes).into_owned();
        let dpkg = self.step.is_some_and(is_dpkg);
        if dpkg && OWN.iter().any(|own| line.starts_with(own)) {
            self.close(at);
            self.take_word(line.trim_end(), at);
            return;
        }
        if dpkg && (line.starts_with("dpkg: error") || !self.errors.is_empty()) {
            // What came before is the script's own explanation.
            self.errors.push(line.trim_end().to_owned());
            return;
        }
        self.last.push_back(line.trim_end().to_owned());
        if self.last.len() > LAST_LINES {
            self.last.pop_front();
        }
        if let Some((ran, _)) = &mut self.running {
            let room = OUTPUT_LIMIT.saturating_sub(ran.output.len());
            ran.output.extend(line.chars().take(room));
        }
    }

    /// A line of dpkg's own.
    fn take_word(&mut self, line: &str, at: Duration) {
        if let Some(rest) = line.strip_prefix("processing: ") {
            let package = rest.split(": ").nth(1).unwrap_or_default();
            self.package = bare(package).to_owned();
        }
        let Some((_, call)) = line.split_once(RUNS).filter(|_| line.starts_with('D')) else {
            return;
        };
        let (path, arguments) = call.split_once(" (").unwrap_or((call, ""));
        let name = path.rsplit('/').next().unwrap_or_default();
        // In its own folder a new package's script is called by its bare name.
        let (package, script) = match name.rsplit_once('.') {
            Some((package, script)) => (bare(package), script),
            None => (self.package.as_str(), name),
        };
        let key = (package.to_owned(), script.to_owned());
        let ran = Ran {
            sha256: self.digests.get(&key).copied(),
            package: key.0,
            script: key.1,
            arguments: arguments.trim_end_matches(')').trim().to_owned(),
            milliseconds: 0,
            output: String::new(),
        };
        self.running = Some((ran, at));
        // After a failure dpkg goes on with other packages: the words are those of the failed one.
        if self.errors.is_empty() {
            self.last.clear();
        }
    }

    /// What was running has ended.
    fn close(&mut self, at: Duration) {
        if let Some((mut ran, since)) = self.running.take() {
            let spent = at.saturating_sub(since).as_millis();
            ran.milliseconds = u64::try_from(spent).unwrap_or(u64::MAX);
            self.ran.push(ran);
        }
    }
}

fn is_dpkg(step: &Step) -> bool {
    step.argv.iter().any(|word| word == DPKG)
}

/// A package's name without its architecture.
fn bare(package: &str) -> &str {
    package.split(':').next().unwrap_or(package)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
Setting up nginx-common (1.26.3) ...
processing: configure: nginx-common
D000002: fork/exec /var/lib/dpkg/info/nginx-common.postinst ( configure  )
Created symlink x.
D000001: y
status: nginx-common: installed
processing: install: libc6:amd64
D000002: fork/exec /var/lib/dpkg/tmp.ci/preinst ( install )
";

    fn steps() -> Vec<Step> {
        [&["dpkg", "--configure"][..], &["/bin/true", "now"]]
            .map(|argv| Step {
                argv: argv.iter().map(|word| (*word).to_owned()).collect(),
                ..Step::default()
            })
            .to_vec()
    }

    #[test]
    fn every_script_is_told_with_its_output() {
        let (steps, digest) = (steps(), Digest::of(b"script"));
        let key = ("nginx-common".to_owned(), "postinst".to_owned());
        let digests = Digests::from([(key, digest)]);
        let mut transcript = Transcript::new(&steps, &digests);
        let at = Duration::from_millis;
        transcript.started(0, at(0));
        // However the pipe cuts it.
        for (index, byte) in TEXT.bytes().enumerate() {
            transcript.output(&[byte], at(index as u64));
        }
        transcript.ended(0, at(1000));
        transcript.started(1, at(1000));
        transcript.output(b"hello", at(1001));
        transcript.ended(0, at(1005));
        let ran = transcript.finish().unwrap();
        let found: Vec<_> = ran
            .iter()
            .map(|ran| {
                (
                    &ran.package[..],
                    &ran.script[..],
                    &ran.arguments[..],
                    &ran.output[..],
                )
            })
            .collect();
        let expected = [
            (
                "nginx-common",
                "postinst",
                "configure",
                "Created symlink x.\n",
            ),
            ("libc6", "preinst", "install", ""),
            ("", "/bin/true now", "", "hello"),
        ];
        assert_eq!(found, expected);
        assert_eq!((ran[0].sha256, ran[1].sha256), (Some(digest), None));
        assert_eq!(ran[2].milliseconds, 5);
    }

    #[test]
    fn a_failure_names_package_script_and_code() {
        let (steps, digests) = (steps(), Digests::new());
        let mut transcript = Transcript::new(&steps, &digests);
        let at = Duration::from_millis;
        transcript.started(0, at(0));
        let text = "D000002: fork/exec /var/lib/dpkg/info/bad.postinst ( configure )\n\
                    no such thing\n\
                    dpkg: error processing package bad (--configure):\n \
                    installed bad package post-installation script subprocess returned error exit \
                    status 3\n\
                    D000002: fork/exec /var/lib/dpkg/info/good.postinst ( configure )\n\
                    Errors were encountered while processing:\n bad\n";
        transcript.output(text.as_bytes(), at(1));
        transcript.ended(1, at(2));
        let failed = transcript.finish().unwrap_err();
        assert_eq!(failed.package.as_deref(), Some("bad"));
        assert!(
            failed.what.ends_with("error exit status 3"),
            "{}",
            failed.what
        );
        assert!(failed.last.contains("no such thing"), "{}", failed.last);
        let mut transcript = Transcript::new(&steps, &digests);
        transcript.started(1, at(0));
        transcript.ended(2, at(1));
        let failed = transcript.finish().unwrap_err();
        assert_eq!((failed.package, &failed.what[..]), (None, "/bin/true now"));
    }
}
