//! Why a stage was done again, in a line.

use baker_model::event::Outcome;

/// Why `stage` came by its result as it did.
pub(super) fn why(stage: &str, how: Option<Outcome>) -> &'static str {
    match (stage, how) {
        (_, None) => "it did not end",
        ("draft", _) => "everything that went in went into the last draft",
        (_, Some(Outcome::Reused)) => "everything that goes into it was there before",
        ("assemble", _) => "some of its packages were not unpacked here before",
        ("kernel", _) => "one of its packages was not unpacked here before",
        ("initrd", _) => "kernel, guest program, modules or the time of the lock are others",
        ("image", _) => "some data was not packed like this before; the rest is taken over",
        ("scripts" | "stages", _) => "packages, commands or what they stand on are others",
        _ => "quick, so made whenever anything changed",
    }
}
