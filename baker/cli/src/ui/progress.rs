//! Shows the events of stages: bars on a terminal, a line per stage elsewhere, or JSON; and keeps
//! the times for the table at the end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use baker_model::Event;
use baker_model::event::{Listener, Outcome};
use indicatif::{ProgressBar, ProgressStyle};

use super::gantt;
use super::json::{Explained, Explanation, StageEvent, Timing, Timings};
use super::printer::{Answer, Printer};
use super::why::why;

/// Stages that wait for something outside (network, guest) say that they begin, where there is no
/// bar to be seen; the others are over before that line would be read.
const LONG_STAGES: [&str; 4] = ["lock", "resolve", "fetch", "smoke"];

/// How often a bar without a known end shows that it is alive.
const TICK: Duration = Duration::from_millis(120);

/// Time since the program started.
type Clock = Box<dyn Fn() -> Duration + Send + Sync>;

/// Takes the events of all stages.
pub struct Progress {
    printer: Arc<Printer>,
    clock: Clock,
    rows: Mutex<Vec<Row>>,
    notes: Mutex<Notes>,
}

/// What is asked for later.
#[derive(Default)]
struct Notes {
    /// Stage and text.
    warnings: Vec<(String, String)>,
    /// What changed since the last time; none when there was no last time.
    changes: Option<Vec<String>>,
}

/// One run of one stage.
struct Row {
    stage: &'static str,
    thread: ThreadId,
    started: Duration,
    bar: Option<ProgressBar>,
    end: Option<End>,
}

struct End {
    at: Duration,
    how: Outcome,
    summary: String,
}

impl Progress {
    /// Shows progress on `printer`, with times from now on.
    pub fn new(printer: Arc<Printer>) -> Self {
        let start = Instant::now();
        Self::with_clock(printer, Box::new(move || start.elapsed()))
    }

    fn with_clock(printer: Arc<Printer>, clock: Clock) -> Self {
        Self {
            printer,
            clock,
            rows: Mutex::default(),
            notes: Mutex::default(),
        }
    }

    /// Warnings of stages so far: stage and text.
    pub fn warnings(&self) -> Vec<(String, String)> {
        self.notes().warnings.clone()
    }

    /// Takes what changed since the last time.
    pub fn changed(&self, changes: Vec<String>) {
        self.notes().changes = Some(changes);
    }

    /// Says what changed, and for every stage so far why it was done or not.
    pub fn explain(&self) {
        let (rows, notes) = (self.rows(), self.notes());
        let now = (self.clock)();
        let stages = rows.iter().map(|row| Explained {
            why: why(row.stage, row.end.as_ref().map(|end| end.how)),
            timing: row.timing(now),
        });
        if self.printer.answer() == Answer::Json {
            self.answer(&Explanation {
                changed: notes.changes.as_deref(),
                stages: stages.collect(),
            });
            return;
        }
        let changes = match &notes.changes {
            None => "no earlier bake of this recipe is kept".to_owned(),
            Some(changes) if changes.is_empty() => "nothing changed since the last bake".to_owned(),
            Some(changes) => format!("changed since the last bake: {}", changes.join("; ")),
        };
        self.printer.say(&changes);
        let width = rows.iter().map(|row| row.stage.len()).fold(5, usize::max);
        for (row, stage) in rows.iter().zip(stages) {
            let (how, took) = (row.how(), seconds(row.took(now)));
            let line = format!("{:width$}  {how:7}  {took:>10}  {}", row.stage, stage.why);
            self.printer.say(&line);
        }
    }

    /// The stages so far as a page with a chart.
    pub fn chart(&self) -> String {
        let (rows, notes) = (self.rows(), self.notes());
        let now = (self.clock)();
        let mut threads: Vec<ThreadId> = Vec::new();
        for row in rows.iter() {
            if !threads.contains(&row.thread) {
                threads.push(row.thread);
            }
        }
        let number = |thread| threads.iter().position(|it| *it == thread).unwrap_or(0);
        let bars = rows.iter().map(|row| gantt::Bar {
            stage: row.stage,
            how: row.end.as_ref().map(|end| end.how),
            start: row.started,
            end: row.end.as_ref().map_or(now, |end| end.at),
            thread: number(row.thread),
            summary: row.end.as_ref().map_or("", |end| &end.summary),
        });
        gantt::page(&bars.collect::<Vec<_>>(), now, notes.changes.as_deref())
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes all bars away and says how long each stage took; nothing when no stage ran.
    pub fn finish(&self) {
        let now = (self.clock)();
        let mut rows = self.rows();
        for bar in rows.iter_mut().filter_map(|row| row.bar.take()) {
            bar.finish_and_clear();
        }
        if rows.is_empty() {
            return;
        }
        if self.printer.answer() == Answer::Json {
            let stages = rows.iter().map(|row| row.timing(now)).collect();
            self.answer(&Timings {
                stages,
                seconds: now.as_secs_f64(),
            });
        } else {
            table(&rows, now)
                .lines()
                .for_each(|line| self.printer.say(line));
        }
    }

    fn started(&self, stage: &'static str, total: Option<u64>, unit: &str) {
        let bar = self.printer.bars().map(|bars| {
            let bar = bars.add(ProgressBar::no_length().with_style(style(total, unit)));
            bar.set_prefix(stage);
            match total {
                Some(total) => bar.set_length(total),
                None => bar.enable_steady_tick(TICK),
            }
            bar
        });
        if bar.is_none() && LONG_STAGES.contains(&stage) && self.printer.answer() == Answer::Text {
            self.printer.say(&format!("{stage}: started"));
        }
        self.rows().push(Row {
            stage,
            thread: thread::current().id(),
            started: (self.clock)(),
            bar,
            end: None,
        });
    }

    /// Ends the newest run of `stage` and gives how long it took.
    fn finished(&self, stage: &'static str, how: Outcome, summary: &str) -> Duration {
        let at = (self.clock)();
        let end = End {
            at,
            how,
            summary: summary.to_owned(),
        };
        let mut rows = self.rows();
        let row = rows
            .iter_mut()
            .rev()
            .find(|row| row.stage == stage && row.end.is_none());
        let Some(row) = row else {
            rows.push(Row {
                stage,
                thread: thread::current().id(),
                started: at,
                bar: None,
                end: Some(end),
            });
            return Duration::ZERO;
        };
        row.end = Some(end);
        if let Some(bar) = row.bar.take() {
            bar.finish_and_clear();
        }
        at.saturating_sub(row.started)
    }

    /// The bar of the newest run of `stage` that has not ended.
    fn with_bar(&self, stage: &str, act: impl FnOnce(&ProgressBar)) {
        let rows = self.rows();
        let running = rows
            .iter()
            .rev()
            .find(|row| row.stage == stage && row.end.is_none());
        if let Some(bar) = running.and_then(|row| row.bar.as_ref()) {
            act(bar);
        }
    }

    fn rows(&self) -> MutexGuard<'_, Vec<Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A listener cannot fail; a standard output that is full is told once, by the command.
    fn answer(&self, value: &impl serde::Serialize) {
        drop(self.printer.json(value));
    }

    /// Shows an event to a person.
    fn show(&self, event: &Event, took: Duration) {
        match event {
            Event::Advanced { stage, by } => self.with_bar(stage, |bar| bar.inc(*by)),
            Event::Note { stage, text } => {
                self.with_bar(stage, |bar| {
                    bar.set_message(super::printer::printable(text))
                });
            }
            Event::Warning { stage, text } => self.printer.warn(&format!("{stage}: {text}")),
            Event::Finished {
                stage,
                how,
                summary,
            } => {
                let took = seconds(took);
                self.printer.say(&match how {
                    Outcome::Done => format!("{stage}: {summary} ({took})"),
                    Outcome::Reused => format!("{stage}: {summary} (reused, {took})"),
                });
            }
            Event::Started { .. } => {}
        }
    }
}

impl Listener for Progress {
    fn event(&self, event: Event) {
        let mut took = None;
        match &event {
            Event::Started { stage, total, unit } => self.started(stage, *total, unit),
            Event::Finished {
                stage,
                how,
                summary,
            } => {
                took = Some(self.finished(stage, *how, summary));
            }
            Event::Warning { stage, text } => {
                let warning = ((*stage).to_owned(), text.clone());
                self.notes().warnings.push(warning);
            }
            Event::Advanced { .. } | Event::Note { .. } => {}
        }
        if self.printer.answer() == Answer::Json {
            self.answer(&StageEvent {
                event: &event,
                seconds: took.map(|took| took.as_secs_f64()),
            });
        } else {
            self.show(&event, took.unwrap_or_default());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        for bar in self.rows().iter_mut().filter_map(|row| row.bar.take()) {
            bar.finish_and_clear();
        }
    }
}

impl Row {
    fn took(&self, now: Duration) -> Duration {
        self.end
            .as_ref()
            .map_or(now, |end| end.at)
            .saturating_sub(self.started)
    }

    fn timing(&self, now: Duration) -> Timing<'_> {
        Timing {
            stage: self.stage,
            how: self.end.as_ref().map(|end| end.how),
            seconds: self.took(now).as_secs_f64(),
            summary: self.end.as_ref().map_or("", |end| &end.summary),
        }
    }

    fn how(&self) -> &'static str {
        match self.end.as_ref().map(|end| end.how) {
            Some(Outcome::Done) => "done",
            Some(Outcome::Reused) => "reused",
            None => "stopped",
        }
    }
}

/// The table of stages, and a last line with the time of everything.
fn table(rows: &[Row], now: Duration) -> String {
    let width = rows.iter().map(|row| row.stage.len()).fold(5, usize::max);
    let mut text = format!("{:width$}  {:7}  {:>10}  result\n", "stage", "how", "time");
    for row in rows {
        let (stage, how, took) = (row.stage, row.how(), seconds(row.took(now)));
        let summary = row.end.as_ref().map_or("", |end| &end.summary);
        let line = format!("{stage:width$}  {how:7}  {took:>10}  {summary}");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let total = seconds(now);
    text.push_str(&format!("{:width$}  {:7}  {total:>10}\n", "total", ""));
    text
}

/// A time as people read it: `0.04 s`, `12.3 s`, `2 min 05 s`.
fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match time.as_secs() {
        0..10 => format!("{seconds:.2} s"),
        10..60 => format!("{seconds:.1} s"),
        whole => format!("{} min {:02} s", whole / 60, whole % 60),
    }
}

fn style(total: Option<u64>, unit: &str) -> ProgressStyle {
    let template = match (total, unit) {
        (None, _) => "{prefix:10} {spinner} {elapsed} {wide_msg}",
        (Some(_), "bytes") => {
            "{prefix:10} [{bar:30}] {binary_bytes}/{binary_total_bytes} {wide_msg}"
        }
        (Some(_), "packages") => "{prefix:10} [{bar:30}] {pos}/{len} packages {wide_msg}",
        (Some(_), "files") => "{prefix:10} [{bar:30}] {pos}/{len} files {wide_msg}",
        (Some(_), _) => "{prefix:10} [{bar:30}] {pos}/{len} {wide_msg}",
    };
    let style = ProgressStyle::with_template(template);
    style
        .expect("the templates above are well formed")
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::printer::tests::{Page, printer};
    use super::super::printer::{Settings, Talk};
    use super::*;

    /// A progress whose clock goes on by 1.25 s at every look.
    fn progress(settings: Settings) -> (Progress, Page, Page) {
        let (printer, data, talk) = printer(settings);
        let looks = AtomicU64::new(0);
        let clock = move || Duration::from_millis(1250 * looks.fetch_add(1, Ordering::Relaxed));
        (Progress::with_clock(printer, Box::new(clock)), data, talk)
    }

    fn play(progress: &Progress) {
        let started = |stage, total| Event::Started {
            stage,
            total,
            unit: "bytes",
        };
        let finished = |stage, how, summary: &str| {
            let summary = summary.to_owned();
            Event::Finished {
                stage,
                how,
                summary,
            }
        };
        progress.event(started("fetch", Some(10)));
        progress.event(Event::Advanced {
            stage: "fetch",
            by: 10,
        });
        progress.event(Event::Note {
            stage: "fetch",
            text: "systemd".to_owned(),
        });
        progress.event(Event::Warning {
            stage: "fetch",
            text: "slow mirror".to_owned(),
        });
        progress.event(finished("fetch", Outcome::Done, "71 packages"));
        progress.event(started("assemble", None));
        progress.event(finished("assemble", Outcome::Reused, "212 files"));
        progress.event(finished("sign", Outcome::Done, "key a"));
        progress.event(started("smoke", None));
    }

    #[test]
    fn plain_lines_and_a_table_away_from_a_terminal() {
        let (progress, data, talk) = progress(Settings::default());
        play(&progress);
        progress.finish();
        assert_eq!(data.text(), "");
        assert_eq!(
            talk.text(),
            "fetch: started\n\
             warning: fetch: slow mirror\n\
             fetch: 71 packages (1.25 s)\n\
             assemble: 212 files (reused, 1.25 s)\n\
             sign: key a (0.00 s)\n\
             smoke: started\n\
             stage     how            time  result\n\
             fetch     done         1.25 s  71 packages\n\
             assemble  reused       1.25 s  212 files\n\
             sign      done         0.00 s  key a\n\
             smoke     stopped      1.25 s\n\
             total                  7.50 s\n"
        );
    }

    #[test]
    fn every_event_is_one_line_of_json() {
        let (progress, data, talk) = progress(Settings {
            answer: Answer::Json,
            ..Settings::default()
        });
        play(&progress);
        progress.finish();
        assert_eq!(talk.text(), "");
        let text = data.text();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 10);
        assert_eq!(
            text.lines().next(),
            Some(r#"{"event":"started","stage":"fetch","total":10,"unit":"bytes"}"#)
        );
        assert_eq!(
            text.lines().nth(4),
            Some(concat!(
                r#"{"event":"finished","stage":"fetch","how":"done","summary":"71 packages","#,
                r#""seconds":1.25}"#
            ))
        );
        let timings = &lines[9];
        assert_eq!(timings["event"], "timings");
        assert_eq!(timings["stages"][1]["how"], "reused");
        assert_eq!(timings["stages"][3]["how"], serde_json::Value::Null);
        assert_eq!(timings["seconds"], 7.5);
    }

    #[test]
    fn quiet_is_quiet_and_no_stage_is_no_table() {
        let (quiet, data, talk) = progress(Settings {
            talk: Talk::Quiet,
            ..Settings::default()
        });
        play(&quiet);
        quiet.finish();
        assert_eq!(data.text() + &talk.text(), "");
        let (idle, data, talk) = progress(Settings::default());
        idle.finish();
        assert_eq!(data.text() + &talk.text(), "");
    }

    #[test]
    fn times_read_well() {
        for (milliseconds, expected) in [
            (4, "0.00 s"),
            (40, "0.04 s"),
            (9_990, "9.99 s"),
            (12_340, "12.3 s"),
            (125_000, "2 min 05 s"),
            (3_600_000, "60 min 00 s"),
        ] {
            assert_eq!(seconds(Duration::from_millis(milliseconds)), expected);
        }
    }

    #[test]
    fn all_bar_templates_are_well_formed() {
        for total in [None, Some(1)] {
            for unit in ["bytes", "packages", "files", "boots"] {
                drop(style(total, unit));
            }
        }
    }
}
