//! `baker store`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use baker_fetch::debian::date;
use baker_fetch::store::Entry;
use baker_fetch::{Act, Collected, Policy, Roots, Store, StoreError};
use baker_ship::cache::Present;
use serde::Serialize;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::pipeline::Cache;
use crate::source::RecipeFolder;

/// What to do with the store.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show how much room the store takes, and what for
    Usage,
    /// List everything in the store: kind, name, size, last use
    List,
    /// Remove what nobody needs any more
    Gc(GcArgs),
    /// Share what the store has for a recipe in the cache
    Share(ShareArgs),
}

/// Puts what bakes of a recipe have made into the cache, signed: packed data, the
/// initrd, what packages' scripts left. Other machines bring it by `baker fetch`
/// instead of making it again. What is there already is not sent.
#[derive(Debug, clap::Args)]
pub struct ShareArgs {
    /// Folder of the recipe
    recipe: PathBuf,
    /// Profile of the recipe
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Send all of it, also what is there already: puts good entries in the place
    /// of those that others refuse
    #[arg(long)]
    again: bool,
}

/// What to keep; everything else goes, longest unused first.
///
/// What a running baker uses always stays, so this is safe beside bakes. What
/// is removed comes back when it is needed: inputs are fetched, results made
/// anew. Without --root, --keep-newer-than or --max-size nothing is removed.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("keeping").required(true).multiple(true)))]
pub struct GcArgs {
    /// Keep what the locks in this folder and below name: recipes, drafts,
    /// releases; may be repeated
    #[arg(long = "root", value_name = "FOLDER", group = "keeping")]
    roots: Vec<PathBuf>,
    /// Keep what was used within this time: 90m, 12h, 30d, 4w
    #[arg(long, value_name = "TIME", group = "keeping", value_parser = time)]
    keep_newer_than: Option<Duration>,
    /// Remove only until the store takes no more than this: 500M, 20G
    #[arg(long, value_name = "SIZE", group = "keeping", value_parser = size)]
    max_size: Option<u64>,
    /// Show what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs it.
pub fn run(command: &Command, context: &Context) -> Result<(), Failure> {
    let store = context.store()?;
    match command {
        Command::Usage => usage(&survey(&store, context)?, &store, context),
        Command::List => list(&survey(&store, context)?, context),
        Command::Gc(args) => collect(args, &store, context),
        Command::Share(args) => share(args, context),
    }
}

fn share(args: &ShareArgs, context: &Context) -> Result<(), Failure> {
    let folder = RecipeFolder::read_profile(&args.recipe, args.profile.as_deref())?;
    let lock = folder.checked_lock()?;
    let Some(cache) = Cache::for_sharing(context)? else {
        let problem = "no cache is named, or no key to sign what is shared there";
        let help = "name both: --cache PLACE --cache-key KEY, or `place` and `key` in [cache] of the \
                    config file; baker key new FILE makes a key";
        return Err(Failure::message(Exit::Usage, problem).help(help));
    };
    let present = match args.again {
        true => Present::Replaced,
        false => Present::Left,
    };
    let shared = cache.share(&folder, &lock, present, context)?;
    context.answer(&shared.summary(), &shared)
}

fn survey(store: &Store, context: &Context) -> Result<Vec<Entry>, Failure> {
    store.survey().map_err(|error| failed(error, context))
}

fn failed(error: StoreError, context: &Context) -> Failure {
    context.failure(Exit::Fetch, error)
}

/// Entries and bytes of one kind.
#[derive(Debug, Default, Serialize)]
struct Share {
    entries: usize,
    bytes: u64,
}

fn usage(entries: &[Entry], store: &Store, context: &Context) -> Result<(), Failure> {
    let mut kinds: BTreeMap<&str, Share> = BTreeMap::new();
    for entry in entries {
        let share = kinds.entry(entry.kind_name()).or_default();
        share.entries += 1;
        share.bytes += entry.size;
    }
    let bytes: u64 = entries.iter().map(|entry| entry.size).sum();
    let row =
        |name: &str, count: usize, bytes: u64| format!("{name:<12} {count:>8}  {:>10}", mib(bytes));
    let mut lines: Vec<String> = kinds
        .iter()
        .map(|(name, share)| row(name, share.entries, share.bytes))
        .collect();
    lines.push(row("all", entries.len(), bytes));
    let value = serde_json::json!({
        "folder": store.root(), "entries": entries.len(), "bytes": bytes, "kinds": kinds,
    });
    context.answer(&lines.join("\n"), &value)
}

/// An entry as `--json` shows it.
#[derive(Debug, Serialize)]
struct Row<'a> {
    kind: &'a str,
    name: &'a str,
    bytes: u64,
    /// Seconds since 1970-01-01 UTC.
    used: i64,
}

impl<'a> Row<'a> {
    fn of(entry: &'a Entry) -> Self {
        let since = entry.used.duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since.map(|since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        Self {
            kind: entry.kind_name(),
            name: &entry.name,
            bytes: entry.size,
            used: seconds.unwrap_or_default(),
        }
    }

    fn line(&self) -> String {
        let Self { kind, name, .. } = self;
        format!(
            "{kind:<12} {name}  {}  {}",
            self.bytes,
            date::text(self.used)
        )
    }
}

fn list(entries: &[Entry], context: &Context) -> Result<(), Failure> {
    let rows: Vec<Row<'_>> = entries.iter().map(Row::of).collect();
    let lines: Vec<String> = rows.iter().map(Row::line).collect();
    context.answer(&lines.join("\n"), &rows)
}

fn collect(args: &GcArgs, store: &Store, context: &Context) -> Result<(), Failure> {
    let roots = Roots::read(&args.roots).map_err(|error| {
        let help = "nothing was removed; name folders of recipes, drafts or releases with --root";
        Failure::new(Exit::Usage, error).help(help)
    })?;
    let policy = Policy {
        roots: &roots,
        now: SystemTime::now(),
        keep_newer_than: args.keep_newer_than,
        max_size: args.max_size,
        act: match args.dry_run {
            true => Act::Pretend,
            false => Act::Remove,
        },
    };
    let collected = store
        .collect(&policy, context.interrupt())
        .map_err(|error| failed(error, context))?;
    let removed: Vec<Row<'_>> = collected.removed.iter().map(Row::of).collect();
    let bytes: u64 = removed.iter().map(|row| row.bytes).sum();
    let over = args
        .max_size
        .map_or(0, |limit| collected.kept_bytes.saturating_sub(limit));
    let mut lines: Vec<String> = match policy.act {
        Act::Pretend => removed.iter().map(Row::line).collect(),
        Act::Remove => Vec::new(),
    };
    lines.extend(summary(&collected, policy.act, bytes, over));
    let value = serde_json::json!({
        "dry-run": args.dry_run, "removed": removed, "bytes": bytes, "kept": collected.kept,
        "kept-bytes": collected.kept_bytes, "rooted": collected.rooted,
        "in-use": collected.in_use, "over": over, "locks": roots.locks(),
    });
    context.answer(&lines.join("\n"), &value)
}

fn summary(collected: &Collected, act: Act, bytes: u64, over: u64) -> Vec<String> {
    let verb = match act {
        Act::Pretend => "would remove",
        Act::Remove => "removed",
    };
    let Collected {
        removed,
        kept,
        kept_bytes,
        rooted,
        in_use,
    } = collected;
    let mut lines = vec![format!(
        "{verb} {} entries, {}; {kept} stay, {} ({rooted} named by locks, {in_use} in use)",
        removed.len(),
        mib(bytes),
        mib(*kept_bytes)
    )];
    if over > 0 {
        let text = format!(
            "{} more than --max-size, and all of it must stay",
            mib(over)
        );
        lines.push(text);
    }
    lines
}

/// `1234.5 MiB`.
fn mib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// `30d`: a whole number of minutes, hours, days or weeks.
fn time(text: &str) -> Result<Duration, String> {
    let units = [("m", 60), ("h", 3_600), ("d", 86_400), ("w", 604_800)];
    let seconds = measure(text, &units);
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| "write a number and m, h, d or w, such as 30d".to_owned())
}

/// `20G`: a whole number of KiB, MiB, GiB or TiB.
fn size(text: &str) -> Result<u64, String> {
    let text = text.strip_suffix("iB").unwrap_or(text);
    let units = [
        ("K", 1 << 10),
        ("M", 1 << 20),
        ("G", 1 << 30),
        ("T", 1 << 40),
    ];
    measure(text, &units).ok_or_else(|| "write a number and K, M, G or T, such as 20G".to_owned())
}

fn measure(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let found = units
        .iter()
        .find_map(|(unit, of)| text.strip_suffix(unit).map(|number| (number, of)));
    let (number, of) = found?;
    number.parse::<u64>().ok()?.checked_mul(*of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_units() {
        let day = Duration::from_secs(86_400);
        for (text, expected) in [
            ("30d", Some(day * 30)),
            ("2w", Some(day * 14)),
            ("90m", Some(Duration::from_secs(5_400))),
            ("30", None),
            ("d", None),
            ("-1d", None),
            ("99999999999999999w", None),
        ] {
            assert_eq!(time(text).ok(), expected, "{text}");
        }
        for (text, expected) in [
            ("20G", Some(20 << 30)),
            ("500MiB", Some(500 << 20)),
            ("7", None),
            ("1.5G", None),
            ("99999999T", None),
        ] {
            assert_eq!(size(text).ok(), expected, "{text}");
        }
        assert_eq!(mib(1_572_864), "1.5 MiB");
    }
}
