//! Entries of the journal against the allow-list of a plan.

use baker_model::plan::{Day, JournalCheck};

/// So many entries are quoted in a verdict.
const QUOTED: usize = 3;

/// Whether all `entries` are excused today, and what was found.
pub(crate) fn judge(check: &JournalCheck, entries: &[String], today: Day) -> (bool, String) {
    let mut problems = Vec::new();
    for entry in entries {
        let matching = || check.allowed.iter().filter(|a| entry.contains(&a.contains));
        if matching().any(|allowance| today <= allowance.until) {
            continue;
        }
        problems.push(match matching().map(|allowance| allowance.until).max() {
            Some(until) => format!("`{entry}` (excused until {until}, which is over)"),
            None => format!("`{entry}`"),
        });
    }
    let excused = entries.len() - problems.len();
    if problems.is_empty() {
        return (true, format!("{excused} excused entries"));
    }
    let more = problems.len().saturating_sub(QUOTED);
    problems.truncate(QUOTED);
    let mut found = problems.join("; ");
    if more > 0 {
        found.push_str(&format!("; and {more} more"));
    }
    (false, found)
}

#[cfg(test)]
mod tests {
    use baker_model::plan::JournalAllowance;

    use super::*;

    fn day(text: &str) -> Day {
        Day::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn an_excuse_holds_for_its_text_and_until_its_day() {
        let allow = |contains: &str, until| JournalAllowance {
            contains: contains.into(),
            reason: "known".into(),
            until: day(until),
        };
        let check = JournalCheck {
            allowed: vec![allow("floppy", "2026-11-30"), allow("tpm", "2026-11-01")],
        };
        let judged = |entries: &[&str], today| {
            let entries: Vec<String> = entries.iter().map(|e| (*e).to_owned()).collect();
            judge(&check, &entries, day(today))
        };
        assert_eq!(
            judged(&[], "2026-11-22"),
            (true, "0 excused entries".into())
        );
        assert!(judged(&["kernel: floppy error"], "2026-11-30").0);
        let (holds, found) = judged(&["kernel: floppy error"], "2026-12-01");
        assert!(
            !holds && found.contains("excused until 2026-11-30, which is over"),
            "{found}"
        );
        let (holds, found) = judged(&["floppy", "a", "b", "c", "tpm"], "2026-11-22");
        assert!(!holds);
        assert_eq!(found, "`a`; `b`; `c`; and 1 more");
    }
}
