//! What lies on a disk, for people.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use baker_build::look::{Look, Survey, human};

use super::printer::printable;

/// Packages that are shown, the largest first.
const LARGEST: usize = 12;

/// The whole answer of `baker inspect`.
pub fn survey_text(name: &str, look: &Look, survey: Option<&Survey>) -> String {
    let mut text = String::new();
    let disk = &look.disk;
    // Writing to a string cannot fail.
    write_disk(&mut text, name, look).unwrap_or_default();
    match survey {
        Some(survey) => write_root(&mut text, survey).unwrap_or_default(),
        None => {
            let problem = disk.partitions.iter().find_map(|part| part.problem.clone());
            let problem = problem.unwrap_or_else(|| "none that can be read".to_owned());
            text.push_str(&format!("\nroot       {problem}\n"));
        }
    }
    printable(&text)
}

fn write_disk(text: &mut String, name: &str, look: &Look) -> std::fmt::Result {
    let disk = &look.disk;
    writeln!(
        text,
        "{name}: {} image of {}, table {}",
        disk.medium,
        human(disk.disk_size),
        disk.table
    )?;
    for part in &disk.partitions {
        writeln!(
            text,
            "  {:>2}  {:<28} {:<20} {:>10}  {}",
            part.number,
            part.name,
            part.kind,
            human(part.size),
            part.content
        )?;
        if let Some(problem) = &part.problem {
            writeln!(text, "      {problem}")?;
        }
    }
    for program in &look.programs {
        let kernel = program.kernel.iter();
        let kernel: String = kernel
            .map(|release| format!(", kernel {release}"))
            .collect();
        let signers = match program.signed_by.is_empty() {
            true => String::new(),
            false => format!(", signed by {}", program.signed_by.join(", ")),
        };
        writeln!(
            text,
            "  boots {} ({}{kernel}{signers})",
            program.path,
            human(program.size)
        )?;
    }
    Ok(())
}

fn write_root(text: &mut String, survey: &Survey) -> std::fmt::Result {
    let field = |key: &str| survey.os_release.get(key).map_or("", String::as_str);
    writeln!(
        text,
        "\nroot       {} in partition {}: {} names, {}",
        survey.format,
        survey.partition,
        survey.names,
        human(survey.size)
    )?;
    if !survey.untold.is_empty() {
        writeln!(text, "           not told: {}", survey.untold.join(", "))?;
    }
    writeln!(text, "system     {}", field("PRETTY_NAME"))?;
    for line in &survey.command_lines {
        writeln!(text, "kernel     {}\n           {}", line.from, line.text)?;
    }
    for modules in &survey.modules {
        writeln!(
            text,
            "modules    {} of {}",
            modules.names.len(),
            modules.release
        )?;
    }
    write_packages(text, survey)?;
    let enabled = survey.units.iter().filter(|unit| unit.how != "masked");
    // A unit can be wanted by several, and have other names.
    let names = |vendor| -> BTreeSet<&str> {
        let those = enabled.clone().filter(|unit| unit.vendor == vendor);
        those.map(|unit| unit.name.as_str()).collect()
    };
    let own = names(false);
    let vendor = names(true).difference(&own).count();
    writeln!(
        text,
        "units      {} enabled here, {vendor} by packages",
        own.len()
    )?;
    for name in own {
        writeln!(text, "           {name}")?;
    }
    writeln!(
        text,
        "rights     {} files with more rights",
        survey.privileged.len()
    )?;
    for file in &survey.privileged {
        writeln!(
            text,
            "           {} {}:{} {} ({})",
            file.mode,
            file.uid,
            file.gid,
            file.path,
            file.why.join(", ")
        )?;
    }
    Ok(())
}

fn write_packages(text: &mut String, survey: &Survey) -> std::fmt::Result {
    writeln!(
        text,
        "packages   {}; {} files of no package, {}",
        survey.packages.len(),
        survey.unowned_files,
        human(survey.unowned_size)
    )?;
    for name in &survey.unread_databases {
        writeln!(
            text,
            "           a database of {name} is there and not read"
        )?;
    }
    let mut largest: Vec<_> = survey.packages.iter().collect();
    largest.sort_by_key(|package| (std::cmp::Reverse(package.size), &package.name));
    for package in largest.iter().take(LARGEST) {
        writeln!(
            text,
            "           {:>10}  {} {}",
            human(package.size),
            package.name,
            package.version
        )?;
    }
    if largest.len() > LARGEST {
        writeln!(text, "           and {} smaller", largest.len() - LARGEST)?;
    }
    Ok(())
}
