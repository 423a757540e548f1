//! How a failure looks.
//!
//! ```text
//! error: cannot use the lock recipes/minimal/recipe.lock
//!   because: line 3 names no package
//!   help: write it anew: baker lock recipes/minimal
//! ```

use crate::exit::Failure;
use crate::ui::printer::{Paint, printable};

/// The failure as lines for people, ending in a newline.
pub(super) fn render(failure: &Failure, paint: Paint) -> String {
    let mut text = String::new();
    for (depth, cause) in failure.causes().iter().enumerate() {
        let label = if depth == 0 {
            paint.error("error")
        } else {
            "  because".to_owned()
        };
        push(&mut text, &label, if depth == 0 { 7 } else { 11 }, cause);
    }
    if let Some(help) = &failure.help {
        push(&mut text, &format!("  {}", paint.help("help")), 8, help);
    }
    text
}

/// One labelled entry; further lines of a message stand below its first.
fn push(text: &mut String, label: &str, indent: usize, message: &str) {
    for (number, line) in message.lines().enumerate() {
        if number == 0 {
            text.push_str(label);
            text.push_str(": ");
        } else {
            text.push_str(&" ".repeat(indent));
        }
        text.push_str(&printable(line));
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn a_failure_reads_from_act_to_mend() {
        let failure = Failure::message(Exit::Recipe, "unknown key\n  |\n3 | pakages = []")
            .context("cannot read the recipe \u{1b}[2Jx")
            .help("did you mean `packages`?");
        assert_eq!(
            render(&failure, Paint::Plain),
            "error: cannot read the recipe \\u{1b}[2Jx\n  \
               because: unknown key\n             |\n           3 | pakages = []\n  \
               help: did you mean `packages`?\n"
        );
    }

    #[test]
    fn colour_is_on_labels_only() {
        let failure = Failure::message(Exit::Build, "no").help("yes");
        assert_eq!(
            render(&failure, Paint::Coloured),
            "\u{1b}[1;31merror\u{1b}[0m: no\n  \u{1b}[36mhelp\u{1b}[0m: yes\n"
        );
    }
}
