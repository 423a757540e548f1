//! The stacks of PAM that services include, made of profiles as `pam-auth-update` makes them.
//!
//! Every package with PAM modules may bring a profile in `/usr/share/pam-configs`. Those that are
//! on by default are put, by priority, into the two places that each template of
//! `/usr/share/pam` has for them; the result is `/etc/pam.d/common-*`.

use std::collections::BTreeMap;

use super::error::ConfigureError;
use super::image::{Access, Image};

const EFFECT: &str = "pam-profiles";
const PROFILES: &str = "/usr/share/pam-configs";
const TEMPLATES: &str = "/usr/share/pam";

/// Types of stacks: name of the file, word of the lines, prefix of the profile's fields.
const STACKS: [(&str, &str, &str); 5] = [
    ("account", "account", "Account"),
    ("auth", "auth", "Auth"),
    ("password", "password", "Password"),
    ("session", "session", "Session"),
    ("session-noninteractive", "session", "Session"),
];

/// Where the modules of profiles go, by the line above and the line below.
const BLOCKS: [(&str, &str, &str); 2] = [
    (
        "Primary",
        "# here are the per-package modules (the \"Primary\" block)",
        "# here's the fallback if no module succeeds",
    ),
    (
        "Additional",
        "# and here are more per-package modules (the \"Additional\" block)",
        "# end of pam-auth-update config",
    ),
];

/// Fields of a profile by name; those of several lines hold them all.
type Profile = BTreeMap<String, String>;

/// Writes the stacks anew from templates and profiles.
pub(super) fn write_stacks(image: &mut Image<'_>) -> Result<(), ConfigureError> {
    let mut profiles = Vec::new();
    for name in image.names(PROFILES)? {
        if let Some(text) = image.read_text(&format!("{PROFILES}/{name}"))? {
            let profile = parse(&text);
            if profile.get("Default").is_some_and(|on| on == "yes") {
                profiles.push((priority(&profile), name, profile));
            }
        }
    }
    // Highest priority first; equal ones by name.
    profiles.sort_by(|one, other| (other.0, &one.1).cmp(&(one.0, &other.1)));
    for (file, word, prefix) in STACKS {
        let Some(template) = image.read_text(&format!("{TEMPLATES}/common-{file}"))? else {
            continue;
        };
        let quiet = file == "session-noninteractive";
        let takes_part = |profile: &&Profile| {
            !quiet
                || profile
                    .get("Session-Interactive-Only")
                    .is_none_or(|it| it != "yes")
        };
        let own = profiles.iter().map(|(_, _, profile)| profile);
        let own: Vec<&Profile> = own.filter(takes_part).collect();
        let text = fill(&template, word, prefix, &own);
        let path = format!("/etc/pam.d/common-{file}");
        image.write(&path, text, Access::root(0o644), EFFECT)?;
    }
    Ok(())
}

fn priority(profile: &Profile) -> i64 {
    let value = profile.get("Priority").and_then(|text| text.parse().ok());
    value.unwrap_or_default()
}

fn parse(text: &str) -> Profile {
    let mut profile = Profile::new();
    let mut field = String::new();
    for line in text.lines() {
        let head = line
            .split_once(':')
            .filter(|(name, _)| !name.is_empty() && !name.contains(char::is_whitespace));
        if let Some((name, value)) = head {
            field = name.strip_suffix("-Final").unwrap_or(name).to_owned();
            profile.insert(field.clone(), value.trim().to_owned());
        } else if !line.trim().is_empty() {
            let value = profile.entry(field.clone()).or_default();
            if !value.is_empty() {
                value.push('\n');
            }
            value.push_str(line.trim());
        }
    }
    profile
}

/// The template with the modules of `profiles` between the marks of its two blocks.
fn fill(template: &str, word: &str, prefix: &str, profiles: &[&Profile]) -> String {
    let mut text = String::new();
    let mut end = None;
    for line in template.lines() {
        if end.is_some_and(|end| !line.starts_with(end)) {
            continue;
        }
        end = None;
        text.push_str(line);
        text.push('\n');
        if let Some((block, _, below)) = BLOCKS.iter().find(|(_, above, _)| line.starts_with(above))
        {
            text.push_str(&modules(word, prefix, block, profiles));
            end = Some(*below);
        }
    }
    text
}

/// The lines of one block. `end` in a line means a jump over all modules behind it.
fn modules(word: &str, prefix: &str, block: &str, profiles: &[&Profile]) -> String {
    let kind = format!("{prefix}-Type");
    let inside = profiles
        .iter()
        .filter(|profile| profile.get(&kind).is_some_and(|found| found == block));
    let mut lines = Vec::new();
    for (place, profile) in inside.enumerate() {
        let first = profile.get(&format!("{prefix}-Initial"));
        let chosen = first.filter(|text| place == 0 && !text.is_empty());
        if let Some(text) = chosen.or_else(|| profile.get(prefix)) {
            lines.extend(text.lines());
        }
    }
    if lines.is_empty() && block == "Primary" {
        return format!("{word}\t[default=1]\t\t\tpam_permit.so\n");
    }
    let count = lines.len();
    // A jump out of the last block would leave the stack.
    let reach = if block == "Additional" { 1 } else { 0 };
    let numbered = lines.iter().enumerate().map(|(place, line)| {
        let jump = (count - place).saturating_sub(reach);
        format!("{word}\t{}\n", one_line(line, jump))
    });
    numbered.collect()
}

/// Control and module as they are, the arguments with single blanks.
fn one_line(line: &str, jump: usize) -> String {
    let control = match line.find(']').filter(|_| line.starts_with('[')) {
        Some(at) => at + 1,
        None => line.find(char::is_whitespace).unwrap_or(line.len()),
    };
    let rest = &line[control..];
    let blanks = rest.len() - rest.trim_start().len();
    let module = rest.trim_start();
    let module_end = module.find(char::is_whitespace).unwrap_or(module.len());
    let split = control + blanks + module_end;
    let head = line[..split].replace("end", &jump.to_string());
    let arguments: Vec<&str> = line[split..].split_whitespace().collect();
    format!("{head} {}", arguments.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configure::testing;

    const TEMPLATE: &str = "# head\n\
        # here are the per-package modules (the \"Primary\" block)\n$auth_primary\n\
        # here's the fallback if no module succeeds\nauth\trequisite\tpam_deny.so\n\
        # and here are more per-package modules (the \"Additional\" block)\n$auth_additional\n\
        # end of pam-auth-update config\n";

    #[test]
    fn profiles_stand_by_priority_and_jump_over_what_follows() {
        let unix = "Name: Unix\nDefault: yes\nPriority: 256\nAuth-Type: Primary\nAuth:\n\
            \t[success=end default=ignore]\tpam_unix.so  nullok try_first_pass\n\
            Auth-Initial:\n\t[success=end default=ignore]\tpam_unix.so nullok\n";
        let other = "Name: Other\nDefault: yes\nPriority: 128\nAuth-Type: Primary\nAuth:\n\
            \t[success=end default=ignore]\tpam_other.so\n";
        let off = "Name: Off\nDefault: no\nPriority: 999\nAuth-Type: Primary\nAuth:\n\trequired\tpam_off.so\n";
        let extra = "Name: Cap\nDefault: yes\nPriority: 0\nAuth-Type: Additional\nAuth:\n\
            \toptional\tpam_cap.so \n";
        let files = [
            ("/usr/share/pam-configs/capability", extra),
            ("/usr/share/pam-configs/off", off),
            ("/usr/share/pam-configs/other", other),
            ("/usr/share/pam-configs/unix", unix),
            ("/usr/share/pam/common-auth", TEMPLATE),
        ];
        let spool = testing::spool();
        let mut image = testing::image(&spool, &files);
        write_stacks(&mut image).unwrap();
        assert_eq!(
            image.read_text("/etc/pam.d/common-auth").unwrap().unwrap(),
            "# head\n\
             # here are the per-package modules (the \"Primary\" block)\n\
             auth\t[success=2 default=ignore]\tpam_unix.so nullok\n\
             auth\t[success=1 default=ignore]\tpam_other.so \n\
             # here's the fallback if no module succeeds\nauth\trequisite\tpam_deny.so\n\
             # and here are more per-package modules (the \"Additional\" block)\n\
             auth\toptional\tpam_cap.so \n\
             # end of pam-auth-update config\n"
        );
    }

    #[test]
    fn an_empty_block_keeps_the_stack_whole() {
        let files = [("/usr/share/pam/common-auth", TEMPLATE)];
        let spool = testing::spool();
        let mut image = testing::image(&spool, &files);
        write_stacks(&mut image).unwrap();
        let text = image.read_text("/etc/pam.d/common-auth").unwrap().unwrap();
        assert!(
            text.contains("auth\t[default=1]\t\t\tpam_permit.so\n"),
            "{text}"
        );
    }
}
