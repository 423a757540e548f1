//! Starting quickly: from a template to a locked recipe, and keeping that lock up to date.

mod new;
mod running;
mod schema;
mod shell;
mod updates;
