//! The stages of a run as a chart: a page that needs nothing but a browser.

use std::time::Duration;

use baker_model::event::Outcome;

/// Height of a bar and the room around it, in CSS pixels.
const LANE: usize = 26;

/// Width of the chart, and of the names before it.
const WIDTH: f64 = 900.0;
const NAMES: f64 = 110.0;

const STYLE: &str = "body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:64rem;\
    padding:0 1rem;color:#1c2733;background:#fff}h1{font-size:1.3rem}table{border-collapse:collapse}\
    td,th{padding:.2rem .8rem .2rem 0;text-align:left;border-bottom:1px solid #d8dee5}\
    td.n{text-align:right;font-variant-numeric:tabular-nums}svg{width:100%;height:auto}\
    svg text{font:12px system-ui,sans-serif;fill:#1c2733}.done{fill:#3f7fbf}.reused{fill:#7bb58a}\
    .stopped{fill:#c25b4e}.grid{stroke:#d8dee5}\
    @media(prefers-color-scheme:dark){body{color:#dfe6ee;background:#14191f}\
    svg text{fill:#dfe6ee}td,th,.grid{border-color:#39434e;stroke:#39434e}}";

/// One run of one stage.
pub(super) struct Bar<'a> {
    pub(super) stage: &'a str,
    pub(super) how: Option<Outcome>,
    pub(super) start: Duration,
    pub(super) end: Duration,
    /// Number of the thread that began it, in the order of their first stage.
    pub(super) thread: usize,
    pub(super) summary: &'a str,
}

impl Bar<'_> {
    fn class(&self) -> &'static str {
        match self.how {
            Some(Outcome::Done) => "done",
            Some(Outcome::Reused) => "reused",
            None => "stopped",
        }
    }
}

/// The page of a run that took `total`; `changes` is what it was made for.
pub(super) fn page(bars: &[Bar<'_>], total: Duration, changes: Option<&[String]>) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>Timings of baker</title>\n\
         <style>{STYLE}</style>\n<h1>{:.2} s in {} stages</h1>\n",
        total.as_secs_f64(),
        bars.len()
    );
    if let Some(changes) = changes.filter(|changes| !changes.is_empty()) {
        page.push_str("<p>Changed since the last bake:</p>\n<ul>\n");
        for change in changes {
            page.push_str(&format!("<li>{}</li>\n", escaped(change)));
        }
        page.push_str("</ul>\n");
    }
    page.push_str(&chart(bars, total));
    page.push_str("<table>\n<tr><th>stage<th>how<th>thread<th>from<th>took<th>result\n");
    for bar in bars {
        let (from, took) = (bar.start, bar.end.saturating_sub(bar.start));
        page.push_str(&format!(
            "<tr><td>{}<td>{}<td class=\"n\">{}<td class=\"n\">{:.3} s<td class=\"n\">{:.3} s<td>{}\n",
            escaped(bar.stage),
            bar.class(),
            bar.thread + 1,
            from.as_secs_f64(),
            took.as_secs_f64(),
            escaped(bar.summary)
        ));
    }
    page.push_str("</table>\n</html>\n");
    page
}

fn chart(bars: &[Bar<'_>], total: Duration) -> String {
    let scale = (WIDTH - NAMES) / total.as_secs_f64().max(0.001);
    let height = bars.len() * LANE + LANE;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"Which stage ran when\">\n"
    );
    for step in 0..=4 {
        let at = total.as_secs_f64() * f64::from(step) / 4.0;
        let x = NAMES + at * scale;
        let anchor = if step == 4 { "end" } else { "middle" };
        svg.push_str(&format!(
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"18\" y2=\"{height}\"/>\
             <text x=\"{x:.1}\" y=\"12\" text-anchor=\"{anchor}\">{at:.2} s</text>\n"
        ));
    }
    for (row, bar) in bars.iter().enumerate() {
        let y = LANE + row * LANE;
        let x = NAMES + bar.start.as_secs_f64() * scale;
        let took = bar.end.saturating_sub(bar.start).as_secs_f64();
        svg.push_str(&format!(
            "<text x=\"0\" y=\"{}\">{}</text><rect class=\"{}\" x=\"{x:.1}\" y=\"{}\" \
             width=\"{:.1}\" height=\"{}\" rx=\"2\"><title>{}: {took:.3} s on thread {}</title></rect>\n",
            y + 14,
            escaped(bar.stage),
            bar.class(),
            y + 2,
            (took * scale).max(1.0),
            LANE - 8,
            escaped(bar.stage),
            bar.thread + 1,
        ));
    }
    svg.push_str("</svg>\n");
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_is_a_bar_and_a_row_and_nothing_is_markup() {
        let bar = |stage, how, start, end, thread| Bar {
            stage,
            how,
            start: Duration::from_millis(start),
            end: Duration::from_millis(end),
            thread,
            summary: "1 < 2 & \"so on\"",
        };
        let bars = [
            bar("assemble", Some(Outcome::Reused), 0, 250, 0),
            bar("image", Some(Outcome::Done), 250, 1000, 1),
            bar("smoke", None, 1000, 2000, 0),
        ];
        let changes = ["file <b>".to_owned()];
        let page = page(&bars, Duration::from_secs(2), Some(&changes));
        assert!(page.contains("<h1>2.00 s in 3 stages</h1>"));
        assert!(page.contains("<li>file &lt;b&gt;</li>"));
        assert_eq!(page.matches("<rect").count(), 3);
        assert_eq!(page.matches("<tr><td>").count(), 3);
        assert!(page.contains("1 &lt; 2 &amp; &quot;so on&quot;"));
        // A quarter of the time is a quarter of the width.
        let image = "class=\"done\" x=\"208.8\" y=\"54\" width=\"296.2\"";
        assert!(page.contains(image), "{page}");
    }
}
