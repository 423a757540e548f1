//! What a plan asks, item by item: which question goes to the probe, what is looked at outside,
//! and which failure it is when it does not hold.

use baker_contract::Check;
use baker_model::Failure;
use baker_model::plan::{Budget, CommandCheck, FileCheck, FileState, Firmware, ProbeWay, TestPlan};

use crate::outside::Outside;
use crate::subject::{PlanProblem, Sizes, Subject};

/// Which boot of a plan it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The one that every plan has.
    First,
    /// The one after the restart that the plan orders.
    Second,
}

/// One thing that must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    /// What is asked, for people.
    pub what: String,
    /// Who answers.
    pub source: Source,
    /// What it is when it does not hold.
    pub failure: Failure,
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// The probe, and its word counts.
    Probe(Check),
    /// The probe tells the entries; the allow-list of the plan decides.
    Journal,
    /// The probe tells when this unit was reached, in milliseconds; at most this many.
    Reached {
        /// The unit.
        unit: String,
        /// Milliseconds since the kernel's start.
        limit: u64,
    },
    /// The probe writes the marker into this folder, before the restart.
    Mark {
        /// Absolute path.
        folder: String,
    },
    /// The console must show this.
    Console(String),
    /// The answer to this check from outside.
    Outside(Outside),
    /// Milliseconds from QEMU's start to the probe's last word.
    HostTime(u64),
    /// Memory in use, KiB.
    Memory(u64),
    /// A size that was known before the boot.
    Size {
        /// What was measured.
        found: u64,
        /// What is allowed.
        limit: u64,
        /// What both count.
        unit: &'static str,
    },
}

impl Item {
    /// The question to the probe, if it is one.
    pub(crate) fn check(&self) -> Option<Check> {
        match &self.source {
            Source::Probe(check) => Some(check.clone()),
            Source::Journal => Some(Check::Journal),
            Source::Reached { unit, .. } => Some(Check::Reached { unit: unit.clone() }),
            _ => None,
        }
    }
}

/// All that must hold in this boot, in the order of the plan.
///
/// # Errors
/// The plan limits a size that is not known, or wants `http` of a machine without network.
pub(crate) fn items(
    plan: &TestPlan,
    subject: &Subject,
    way: ProbeWay,
    stage: Stage,
) -> Result<Vec<Item>, PlanProblem> {
    if plan.networks == 0 && Outside::of(plan).any(|check| check.port().is_some()) {
        return Err(PlanProblem::NoNetwork);
    }
    let mut list = List(Vec::new());
    list.image(plan, subject, way);
    list.units(plan);
    list.files_and_commands(plan, stage);
    list.kernel(plan);
    if plan.journal.is_some() {
        list.add(
            "the journal holds nothing at priority err".to_owned(),
            Source::Journal,
            Failure::AssertionFailed,
        );
    }
    for text in &plan.console {
        let what = format!("the console says `{text}`");
        list.add(
            what,
            Source::Console(text.clone()),
            Failure::AssertionFailed,
        );
    }
    for check in Outside::of(plan) {
        let what = check.text();
        list.add(what, Source::Outside(check), Failure::AssertionFailed);
    }
    list.restart(plan, stage);
    list.budget(&plan.budget, &subject.sizes)?;
    Ok(list.0)
}

struct List(Vec<Item>);

impl List {
    fn add(&mut self, what: String, source: Source, failure: Failure) {
        let item = Item {
            what,
            source,
            failure,
        };
        self.0.push(item);
    }

    fn ask(&mut self, what: String, check: Check) {
        self.add(what, Source::Probe(check), Failure::AssertionFailed);
    }

    /// What the image itself promises.
    fn image(&mut self, plan: &TestPlan, subject: &Subject, way: ProbeWay) {
        if way == ProbeWay::Outside {
            return;
        }
        if plan.root_read_only || subject.carries_probe {
            self.ask("the root refuses writes".to_owned(), Check::RootReadOnly);
        }
        if plan.root_readable {
            let what = "every block of the root can be read".to_owned();
            self.ask(what, Check::RootReadable);
        }
        if plan.firmware == Firmware::UefiSecure {
            let what = "the firmware enforces Secure Boot".to_owned();
            self.ask(what, Check::SecureBoot);
        }
    }

    fn units(&mut self, plan: &TestPlan) {
        type Make = fn(String) -> Check;
        let lists: [(&[String], &str, Make); 3] = [
            (&plan.units_active, "is active", |unit| Check::UnitActive {
                unit,
            }),
            (&plan.units_not_failed, "has not failed", |unit| {
                Check::UnitNotFailed { unit }
            }),
            (&plan.units_absent, "does not exist", |unit| {
                Check::UnitAbsent { unit }
            }),
        ];
        for (units, claim, make) in lists {
            for unit in units {
                let what = format!("unit {unit} {claim}");
                self.add(what, Source::Probe(make(unit.clone())), Failure::UnitFailed);
            }
        }
    }

    fn files_and_commands(&mut self, plan: &TestPlan, stage: Stage) {
        for listening in &plan.listening {
            let check = Check::Listening {
                protocol: listening.protocol.name().to_owned(),
                port: listening.port,
            };
            self.ask(format!("something listens on {listening}"), check);
        }
        let early = |command: &&CommandCheck| stage == Stage::First && command.after_restart;
        for command in plan.commands.iter().filter(|command| !early(command)) {
            self.ask(command_text(command), command_check(command));
        }
        for file in &plan.files {
            let (what, check) = file_check(file);
            self.ask(what, check);
        }
        if plan.no_shell {
            self.ask("there is no shell".to_owned(), Check::NoShell);
        }
        if plan.no_package_manager {
            let what = "there is no package manager".to_owned();
            self.ask(what, Check::NoPackageManager);
        }
        if let Some(allowed) = plan.setuid.clone() {
            let what = match allowed.len() {
                0 => "no file is set-user-id".to_owned(),
                count => format!("no file but {count} listed ones is set-user-id"),
            };
            self.ask(what, Check::Setuid { allowed });
        }
    }

    fn kernel(&mut self, plan: &TestPlan) {
        for word in &plan.command_line {
            let check = Check::CommandLine { word: word.clone() };
            self.ask(format!("the kernel command line holds `{word}`"), check);
        }
        for name in &plan.modules_loaded {
            let check = Check::Module { name: name.clone() };
            self.ask(format!("module {name} is loaded"), check);
        }
        for (name, value) in &plan.sysctl {
            let check = Check::Sysctl {
                name: name.clone(),
                value: value.clone(),
            };
            self.ask(format!("sysctl {name} is {value}"), check);
        }
    }

    /// Markers: written in the first boot, looked for in the second.
    fn restart(&mut self, plan: &TestPlan, stage: Stage) {
        let Some(reboot) = &plan.reboot else { return };
        for (folders, present) in [(&reboot.survives, true), (&reboot.vanishes, false)] {
            for folder in folders {
                let folder = folder.clone();
                if stage == Stage::First {
                    let what = format!("a marker can be written into {folder}");
                    self.add(what, Source::Mark { folder }, Failure::AssertionFailed);
                    continue;
                }
                let becomes = if present { "survives" } else { "vanishes with" };
                let what = format!("what is in {folder} {becomes} a restart");
                self.ask(what, Check::Marker { folder, present });
            }
        }
    }

    fn budget(&mut self, budget: &Budget, sizes: &Sizes) -> Result<(), PlanProblem> {
        let failure = Failure::BudgetExceeded;
        if let Some(seconds) = budget.guest_seconds {
            let unit = budget.target().to_owned();
            let what = format!("{unit} is reached within {seconds} s of the kernel's start");
            let limit = u64::from(seconds) * 1000;
            self.add(what, Source::Reached { unit, limit }, failure);
        }
        if let Some(seconds) = budget.host_seconds {
            let what = format!("all is said within {seconds} s of QEMU's start");
            self.add(what, Source::HostTime(u64::from(seconds) * 1000), failure);
        }
        if let Some(mib) = budget.memory_mib {
            let what = format!("at most {mib} MiB of memory are in use");
            self.add(what, Source::Memory(u64::from(mib) * 1024), failure);
        }
        let limits = [
            (
                budget.disk_mib,
                sizes.disk,
                "the data of the disk",
                "MiB",
                1 << 20,
            ),
            (
                budget.initrd_kib,
                sizes.initrd,
                "the initrd",
                "KiB",
                1 << 10,
            ),
            (budget.uki_kib, sizes.uki, "the UKI", "KiB", 1 << 10),
            (
                budget.packages,
                sizes.packages,
                "the number of packages",
                "",
                1,
            ),
        ];
        for (limit, found, what, unit, size) in limits {
            let Some(limit) = limit else { continue };
            let found = found.ok_or(PlanProblem::UnknownSize { what })?;
            let source = Source::Size {
                found: found.div_ceil(size),
                limit: limit.into(),
                unit,
            };
            self.add(
                format!("{what} is at most {limit} {unit}")
                    .trim_end()
                    .to_owned(),
                source,
                failure,
            );
        }
        Ok(())
    }
}

fn command_text(command: &CommandCheck) -> String {
    let line = command.run.join(" ");
    let mut text = format!("`{line}` ends with {}", command.exit_code);
    if let Some(part) = &command.contains {
        text.push_str(&format!(" and says `{part}`"));
    }
    if let Some(output) = &command.output {
        text.push_str(&format!(" and says exactly `{}`", output.trim()));
    }
    text
}

fn command_check(command: &CommandCheck) -> Check {
    Check::Command {
        run: command.run.clone(),
        exit_code: command.exit_code,
        contains: command.contains.clone(),
        output: command.output.clone(),
        seconds: command.seconds,
    }
}

fn file_check(file: &FileCheck) -> (String, Check) {
    let path = file.path.clone();
    if file.state == FileState::Absent {
        return (format!("nothing is at {path}"), Check::FileAbsent { path });
    }
    let mode = file.mode.map(String::from);
    let mut wanted: Vec<String> = Vec::new();
    if file.content.is_some() {
        wanted.push("content".to_owned());
    }
    if let Some(text) = &file.contains {
        wanted.push(format!("`{text}`"));
    }
    for (name, value) in [
        ("mode", &mode),
        ("owner", &file.owner),
        ("group", &file.group),
    ] {
        if let Some(value) = value {
            wanted.push(format!("{name} {value}"));
        }
    }
    let what = match wanted.len() {
        0 => format!("file {path} is there"),
        _ => format!("file {path} has {}", wanted.join(", ")),
    };
    let check = Check::FilePresent {
        path,
        content: file.content.clone(),
        contains: file.contains.clone(),
        mode,
        owner: file.owner.clone(),
        group: file.group.clone(),
    };
    (what, check)
}
