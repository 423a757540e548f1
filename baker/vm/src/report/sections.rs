//! The parts of a test's section on the page that are lists of facts.

use baker_model::plan::Budget;

use super::markup::Markup;
use super::phases::{seconds, spans};
use crate::Accelerator;
use crate::evidence::{Evidence, Shutdown};

/// What was asked and what was found.
pub(super) fn checks(page: &mut Markup, evidence: &Evidence) {
    if evidence.checks.is_empty() {
        return;
    }
    let held = evidence.checks.iter().filter(|check| check.holds).count();
    let several = evidence.checks.iter().any(|check| check.boot > 1);
    page.raw("<h3>Assertions <small>")
        .number(held as u64)
        .raw(" of ");
    page.number(evidence.checks.len() as u64)
        .raw(" hold</small></h3>");
    page.raw("<table class=\"checks\"><thead><tr><th></th><th>Asked</th><th>Found</th>");
    page.raw(if several { "<th>Boot</th>" } else { "" });
    page.raw("</tr></thead><tbody>");
    for check in &evidence.checks {
        page.raw(if check.holds {
            "<tr><td class=\"passed\" title=\"holds\">\u{2713}</td><td>"
        } else {
            "<tr class=\"failed\"><td class=\"failed\" title=\"does not hold\">\u{2717}</td><td>"
        });
        page.text(&check.what)
            .element("</td><td><code>", &check.found, "</code></td>");
        if several {
            page.raw("<td class=\"boot\">")
                .number(check.boot.into())
                .raw("</td>");
        }
        page.raw("</tr>");
    }
    page.raw("</tbody></table>");
}

pub(super) fn failed_units(page: &mut Markup, evidence: &Evidence) {
    if evidence.failed_units.is_empty() {
        return;
    }
    page.raw("<h3>Failed units</h3><table><thead><tr><th>Unit</th><th>Result</th></tr></thead>");
    page.raw("<tbody>");
    for unit in &evidence.failed_units {
        page.element("<tr class=\"failed\"><td>", &unit.unit, "</td>");
        page.element("<td><code>", &unit.result, "</code></td></tr>");
        if !unit.said.is_empty() {
            let said = unit.said.join("\n");
            page.element("<tr><td colspan=\"2\"><pre>", &said, "</pre></td></tr>");
        }
    }
    page.raw("</tbody></table>");
}

/// Limits beside what was measured. What the evidence has no number of its own for stands among
/// the assertions.
pub(super) fn budgets(page: &mut Markup, evidence: &Evidence) {
    let rows = budget_rows(&evidence.plan.budget, evidence);
    if rows.is_empty() {
        return;
    }
    page.raw("<h3>Budgets</h3><table class=\"budgets\"><thead><tr><th>Of</th><th>Used</th>");
    page.raw("<th>Limit</th></tr></thead><tbody>");
    for row in &rows {
        let used = row.used.map_or_else(String::new, |used| (row.show)(used));
        page.element("<tr><td>", &row.of, "</td><td>").text(&used);
        if let Some(used) = row.used {
            let over = used > row.limit;
            let share = used.min(row.limit).saturating_mul(100) / row.limit.max(1);
            page.raw(if over {
                "<span class=\"gauge failed\"><i"
            } else {
                "<span class=\"gauge\"><i"
            });
            page.attribute("style", &format!("width:{share}%"));
            page.raw("></i></span>");
        }
        page.element("</td><td>", &(row.show)(row.limit), "</td></tr>");
    }
    page.raw("</tbody></table>");
}

/// One limit, in the unit that `show` takes.
struct BudgetRow {
    of: String,
    used: Option<u64>,
    limit: u64,
    show: fn(u64) -> String,
}

fn budget_rows(budget: &Budget, evidence: &Evidence) -> Vec<BudgetRow> {
    let mut rows = Vec::new();
    let mut row = |of: String, limit: Option<u32>, factor: u64, used, show| {
        if let Some(limit) = limit {
            let limit = u64::from(limit) * factor;
            rows.push(BudgetRow {
                of,
                used,
                limit,
                show,
            });
        }
    };
    let memory = evidence.guest.as_ref().map(|guest| guest.memory_kib);
    let memory = memory.filter(|memory| *memory > 0);
    let done = spans(evidence)
        .into_iter()
        .rev()
        .find(|span| span.phase == "done");
    let done = done.map(|span| span.start);
    let mib = |kib: u64| format!("{} MiB", kib.div_ceil(1024));
    let kib = |kib: u64| format!("{kib} KiB");
    let target = budget.target();
    row(
        format!("guest's time to {target}"),
        budget.guest_seconds,
        1000,
        None,
        seconds,
    );
    row(
        "host's time".to_owned(),
        budget.host_seconds,
        1000,
        done,
        seconds,
    );
    row(
        "memory in use".to_owned(),
        budget.memory_mib,
        1024,
        memory,
        mib,
    );
    row(
        "data on the disk".to_owned(),
        budget.disk_mib,
        1024,
        None,
        mib,
    );
    row("initrd".to_owned(), budget.initrd_kib, 1, None, kib);
    row("UKI".to_owned(), budget.uki_kib, 1, None, kib);
    row("packages".to_owned(), budget.packages, 1, None, |count| {
        count.to_string()
    });
    rows
}

/// Warnings and repeated runs.
pub(super) fn notes(page: &mut Markup, evidence: &Evidence) {
    if evidence.warnings.is_empty() && evidence.retries.is_empty() {
        return;
    }
    page.raw("<h3>Warnings</h3><ul class=\"notes\">");
    for warning in &evidence.warnings {
        page.element("<li>", warning, "</li>");
    }
    for retry in &evidence.retries {
        page.element(
            "<li>Run again: ",
            &retry.cause,
            ". That run would have been ",
        );
        page.element("<code>", &retry.verdict.to_string(), "</code> after ");
        page.text(&seconds(retry.milliseconds));
        page.element(
            "; its console is in <code>",
            &retry.serial_log,
            "</code></li>",
        );
    }
    page.raw("</ul>");
}

/// The command lines: the one to repeat the boot by hand, and the one that was run.
pub(super) fn command(page: &mut Markup, evidence: &Evidence) {
    page.raw("<h3>Repeat it by hand <small>one click selects the whole line</small></h3>");
    page.element("<pre class=\"command\">", &evidence.command, "</pre>");
    page.raw("<details><summary>The command line as it was run</summary>");
    page.element(
        "<pre class=\"command\">",
        &evidence.argv.join("\n"),
        "</pre></details>",
    );
}

/// Machine, guest and identity.
pub(super) fn facts(page: &mut Markup, evidence: &Evidence) {
    page.raw("<h3>Facts</h3><dl>");
    let mut fact = |name: &'static str, value: &str| {
        if !value.is_empty() {
            page.raw("<div><dt>")
                .raw(name)
                .element("</dt><dd>", value, "</dd></div>");
        }
    };
    for (name, value) in machine(evidence).into_iter().chain(guest(evidence)) {
        fact(name, &value);
    }
    let asked = evidence
        .root_hash
        .map_or_else(String::new, |hash| hash.to_string());
    fact("Root hash", &asked);
    if let Some(guest) = evidence
        .guest
        .as_ref()
        .filter(|guest| guest.root_hash != asked)
    {
        let found = if guest.root_hash.is_empty() {
            "none"
        } else {
            &guest.root_hash
        };
        fact("Root hash in the guest", found);
    }
    fact("Disk (SHA-256)", &evidence.disk_before.to_string());
    if evidence.disk_after == evidence.disk_before {
        fact("Disk after the test", "unchanged");
    } else {
        fact("Disk after the test", &evidence.disk_after.to_string());
    }
    fact("Nonce", &evidence.nonce);
    page.raw("</dl>");
}

fn machine(evidence: &Evidence) -> Vec<(&'static str, String)> {
    let plan = &evidence.plan;
    let accelerator = match evidence.accelerator.accelerator {
        Accelerator::Kvm => "KVM",
        Accelerator::Tcg => "TCG",
    };
    let bus = format!("{:?}", plan.disk_bus).to_lowercase();
    let count = |count: u32, one: &str| match count {
        1 => format!("1 {one}"),
        many => format!("{many} {one}s"),
    };
    let machine = [
        count(plan.cpus, "CPU"),
        format!("{} MiB", plan.memory_mib),
        format!("disk on {bus}"),
        count(plan.networks, "network card"),
    ];
    vec![
        ("Firmware", plan.firmware.name().to_owned()),
        ("Machine", machine.join(", ")),
        ("QEMU", evidence.qemu_version.clone()),
        (
            "Accelerator",
            format!("{accelerator}: {}", evidence.accelerator.reason),
        ),
        ("Probe", evidence.probe.name().to_owned()),
        ("Boot shared with", evidence.shared_with.join(", ")),
        ("Shutdown", shutdown(evidence.shutdown)),
    ]
}

fn shutdown(shutdown: Shutdown) -> String {
    match shutdown {
        Shutdown::Clean { milliseconds } => format!("clean, within {}", seconds(milliseconds)),
        Shutdown::Hung => "asked to power off and did not".to_owned(),
        Shutdown::Killed => "killed".to_owned(),
    }
}

fn guest(evidence: &Evidence) -> Vec<(&'static str, String)> {
    let Some(guest) = &evidence.guest else {
        return vec![("Guest", "never spoke".to_owned())];
    };
    let known = |number: u64, show: fn(u64) -> String| match number {
        0 => String::new(),
        number => show(number),
    };
    vec![
        ("Kernel", guest.kernel.clone()),
        ("Secure Boot", guest.secure_boot.clone()),
        ("systemd", guest.state.clone()),
        (
            "Memory in use",
            known(guest.memory_kib, |kib| {
                format!("{} MiB", kib.div_ceil(1024))
            }),
        ),
        ("Settled by its own clock", known(guest.settled_ms, seconds)),
    ]
}
