//! Completions and manual pages, used by the programs that they are made for.

use std::fs;
use std::process::Command;

use baker_tests::program::{Baker, program};
use baker_tests::skip;

/// What bash offers behind these words; the last one is being typed.
fn completed(baker: &Baker, words: &[&str]) -> Option<Vec<String>> {
    let current = words.len();
    let (last, previous) = (
        words[current - 1],
        *words.get(current.wrapping_sub(2)).unwrap_or(&"baker"),
    );
    let script = format!(
        "source <(\"$BAKER\" completions bash) && COMP_WORDS=(baker {words}) COMP_CWORD={current}\n\
         function=$(complete -p baker | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n\
         \"$function\" baker '{last}' '{previous}'\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words = words
            .iter()
            .map(|word| format!("'{word}'"))
            .collect::<Vec<_>>()
            .join(" "),
    );
    let output = Command::new("bash")
        .args(["--norc", "-c", &script])
        .env("BAKER", program())
        .current_dir(baker.home())
        .output()
        .ok()?;
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    Some(text.split_whitespace().map(str::to_owned).collect())
}

#[test]
fn bash_completes_commands_options_and_values() {
    let test = "bash_completes_commands_options_and_values";
    let baker = Baker::new();
    let rows: [(&[&str], &[&str]); 5] = [
        (&["loc"], &["lock"]),
        (&["lock", "--up"], &["--update"]),
        (&["key", "ro"], &["rotate"]),
        (&["lock", "--color", "al"], &["always"]),
        (&["completions", "f"], &["fish"]),
    ];
    for (words, expected) in rows {
        let Some(offered) = completed(&baker, words) else {
            return skip(test, "bash is not installed");
        };
        assert_eq!(offered, expected, "{words:?}");
    }
    for shell in ["zsh", "fish"] {
        let script = baker.ok(["completions", shell]).stdout;
        assert!(script.contains("secure-boot"), "{shell}: {script}");
    }
    baker
        .run(["completions", "cmd"])
        .assert(2, &["possible values"]);
}

#[test]
fn groff_reads_every_manual_page_without_a_warning() {
    let baker = Baker::new();
    baker.ok(["man", "--to", "man1"]);
    let folder = baker.home().join("man1");
    let mut pages: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    pages.sort();
    let names: Vec<_> = pages
        .iter()
        .filter_map(|page| page.file_name()?.to_str())
        .collect();
    for name in [
        "baker.1",
        "baker-lock.1",
        "baker-new.1",
        "baker-key-rotate.1",
    ] {
        assert!(names.contains(&name), "{name} is missing: {names:?}");
    }
    for page in &pages {
        let Ok(output) = Command::new("groff")
            .args(["-man", "-ww", "-Tutf8", "-P-cbou"])
            .arg(page)
            .output()
        else {
            return skip(
                "groff_reads_every_manual_page_without_a_warning",
                "groff is not installed",
            );
        };
        let problems = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && problems.is_empty(),
            "{}: {problems}",
            page.display()
        );
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(shown.contains("SYNOPSIS"), "{}", page.display());
    }
}
