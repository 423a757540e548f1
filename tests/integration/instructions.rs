//! Three loops that a bake spends baker's own time in, held to a number of instructions.
//!
//! Wall clocks are noisy, most of all beside other tests; valgrind counts the same twice. The loops
//! are in `baker/build/examples/loops`, the numbers in `tests/instructions.toml`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use baker_tests::{skip, tool, workspace};

/// Where the numbers are, below the workspace.
const FIGURES: &str = "tests/instructions.toml";

/// What a person runs after a change on purpose.
const TAKE: &str = "BAKER_TAKE_INSTRUCTIONS=1 scripts/test instructions";

const LOOPS: [&str; 3] = ["assemble", "image", "describe"];

/// Per cent that a loop may be off.
const MARGIN: u64 = 10;

/// Where codecs and digests begin: calls of these are counted, instructions inside are not.
const OUTSIDE: [&str; 3] = [
    "LZ4_compress_HC_continue_destSize",
    "sha1::block_api::compress",
    "sha2::sha256::compress256",
];

/// The C library takes the best way to copy memory that a processor has. Without these it takes the
/// same on each; the rest of what is newer than 2013, such as instructions for SHA-256, valgrind
/// hides.
const PLAIN_MEMORY: &str = "glibc.cpu.hwcaps=-AVX2,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM,-SSE4_2";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    instructions: u64,
    calls: u64,
}

#[test]
fn no_loop_takes_many_more_instructions() {
    if !cfg!(target_arch = "x86_64") {
        return skip("instructions", "the counts are of x86-64 code");
    }
    let Some(valgrind) = tool("valgrind") else {
        return skip(
            "instructions",
            "valgrind is missing (scripts/setup --judges)",
        );
    };
    let path = workspace().join(FIGURES);
    let text = fs::read_to_string(&path).unwrap();
    let program = loops();
    let found = LOOPS.map(|name| (name, cost(&valgrind, &program, name)));
    let text = if std::env::var_os("BAKER_TAKE_INSTRUCTIONS").is_some() {
        let text = taken(&text, &found);
        fs::write(&path, &text).unwrap();
        text
    } else {
        text
    };

    let figures: toml::Table = text.parse().unwrap();
    assert_eq!(
        figures["toolchain"].as_str(),
        toolchain().as_deref(),
        "{FIGURES} is not of the toolchain that rust-toolchain.toml names; take it anew: {TAKE}"
    );
    let mut problems = Vec::new();
    for (name, cost) in found {
        let expected = |key: &str| figures[name][key].as_integer().unwrap().cast_unsigned();
        for (what, expected, found) in [
            ("instructions", expected("instructions"), cost.instructions),
            ("calls", expected("calls"), cost.calls),
        ] {
            eprintln!("{name}: {found} {what}, {expected} expected");
            problems.extend(verdict(name, what, expected, found));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_count_is_judged_by_ten_per_cent_either_way() {
    let judge = |found| verdict("image", "instructions", 1000, found);
    assert_eq!((judge(1100), judge(900)), (None, None));
    for (found, words) in [
        (
            1101,
            "image: 1101 instructions, 10.1 % more than the 1000 of tests/instructions.toml",
        ),
        (
            899,
            "image: 899 instructions, 10.1 % fewer than the 1000 of tests/instructions.toml",
        ),
    ] {
        let text = judge(found).unwrap();
        assert!(text.starts_with(words) && text.ends_with(TAKE), "{text}");
    }
}

/// What is wrong with a count, and what to do.
fn verdict(name: &str, what: &str, expected: u64, found: u64) -> Option<String> {
    let apart = found.abs_diff(expected);
    if apart * 100 <= expected * MARGIN {
        return None;
    }
    let tenths = apart * 1000 / expected.max(1);
    let (whole, tenth) = (tenths / 10, tenths % 10);
    let (than, advice) = if found > expected {
        let profile = profile(name, "");
        let show = format!("callgrind_annotate --inclusive=yes {}", profile.display());
        ("more", format!("where: {show}; if it is worth it"))
    } else {
        (
            "fewer",
            "if the loop still does its work, keep the gain".to_owned(),
        )
    };
    Some(format!(
        "{name}: {found} {what}, {whole}.{tenth} % {than} than the {expected} of {FIGURES}; {advice}: {TAKE}"
    ))
}

/// The text of the figures with these costs.
fn taken(text: &str, costs: &[(&str, Cost)]) -> String {
    let mut within = None;
    let mut line = |line: &str| {
        let key = line.split(" = ").next().unwrap_or_default();
        if let Some(name) = key
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'))
        {
            within = costs
                .iter()
                .find(|(of, _)| *of == name)
                .map(|(_, cost)| cost);
        }
        match (key, within) {
            ("toolchain", _) => format!("toolchain = \"{}\"\n", toolchain().unwrap()),
            ("instructions", Some(cost)) => format!("instructions = {}\n", cost.instructions),
            ("calls", Some(cost)) => format!("calls = {}\n", cost.calls),
            _ => format!("{line}\n"),
        }
    };
    text.lines().map(&mut line).collect()
}

fn toolchain() -> Option<String> {
    let text = fs::read_to_string(workspace().join("rust-toolchain.toml")).unwrap();
    let table: toml::Table = text.parse().unwrap();
    table["toolchain"]["channel"].as_str().map(str::to_owned)
}

/// The program with the loops, built like the one that people run. `scripts/test` has it built
/// before the tests, so that no boot shares the machine with a compiler.
fn loops() -> PathBuf {
    let status = Command::new(env!("CARGO"))
        .current_dir(workspace())
        .args(["build", "--quiet", "--locked", "--profile", "guard"])
        .args(["--package", "baker-build", "--example", "loops"])
        .status()
        .unwrap();
    assert!(status.success(), "building the loops failed");
    guard_folder().join("examples/loops")
}

/// What cargo builds with the profile `guard` lies beside what it builds for tests.
fn guard_folder() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(3).unwrap().join("guard")
}

/// Where callgrind's profile is left for whoever wants to know more.
fn profile(name: &str, part: &str) -> PathBuf {
    guard_folder().join(format!("{name}{part}.callgrind"))
}

/// What a loop costs: the whole program less the program that only makes the loop's inputs.
fn cost(valgrind: &Path, program: &Path, name: &str) -> Cost {
    let all = run(valgrind, program, &[name], &profile(name, ""));
    let inputs = run(
        valgrind,
        program,
        &[name, "inputs"],
        &profile(name, "-inputs"),
    );
    Cost {
        instructions: all.instructions - inputs.instructions,
        calls: all.calls - inputs.calls,
    }
}

fn run(valgrind: &Path, program: &Path, arguments: &[&str], profile: &Path) -> Cost {
    let out = Command::new(valgrind)
        .env_clear()
        .env("GLIBC_TUNABLES", PLAIN_MEMORY)
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(program)
        .args(arguments)
        .output()
        .unwrap();
    let talk = String::from_utf8_lossy(&out.stderr);
    assert!(
        out.status.success(),
        "{arguments:?} under valgrind:\n{talk}"
    );
    read(&fs::read_to_string(profile).unwrap())
}

/// Reads a profile: all instructions, less those of calls that lead outside.
///
/// A call is three lines, `cfn=(7) name`, `calls=3 ...` and positions with the instructions of these
/// three; names are given in full once, then by number.
fn read(profile: &str) -> Cost {
    let (mut names, mut leads_outside) = (HashMap::new(), false);
    let (mut total, mut calls, mut outside) = (0, 0, 0);
    let mut lines = profile.lines();
    while let Some(line) = lines.next() {
        let Some((key, value)) = line.split_once('=') else {
            if let Some(sum) = line.strip_prefix("totals: ") {
                total = sum.parse::<u64>().unwrap();
            }
            continue;
        };
        match key {
            "fn" | "cfn" => {
                let (number, name) = value.split_once(' ').unwrap_or((value, ""));
                if !name.is_empty() {
                    names.insert(number, name);
                }
                leads_outside = key == "cfn" && OUTSIDE.contains(&names[number]);
            }
            "calls" if leads_outside => {
                let last = lines.next().and_then(|line| line.rsplit(' ').next());
                outside += last.unwrap().parse::<u64>().unwrap();
                calls += value.split(' ').next().unwrap().parse::<u64>().unwrap();
            }
            _ => {}
        }
    }
    Cost {
        instructions: total - outside,
        calls,
    }
}
