//! `[[network]]` and `[resolver]`: the services behind them, and `/etc/resolv.conf`.

use std::fmt::Write as _;

use baker_model::Recipe;
use baker_model::recipe::Resolver;

use super::{need, write};
use crate::configure::error::ConfigureError;
use crate::configure::image::Image;
use crate::configure::units::{Missing, Units};

const EFFECT: &str = "names";
const STUB: &str = "../run/systemd/resolve/stub-resolv.conf";
const RESOLV: &str = "/etc/resolv.conf";

/// Enables what reads the tables; gives what a person should know.
pub(super) fn provide(
    image: &mut Image<'_>,
    recipe: &Recipe,
) -> Result<Option<String>, ConfigureError> {
    if !recipe.networks.is_empty() {
        let daemon = "/usr/lib/systemd/systemd-networkd";
        need(image, "[[network]]", daemon, "systemd")?;
        Units::enable(image, "systemd-networkd.service", Missing::Refuse)?;
    }
    let resolved = Units::has(image, "systemd-resolved.service")?;
    let named = recipe
        .networks
        .iter()
        .any(|network| !network.dns.is_empty());
    match (&recipe.resolver, resolved) {
        (Some(resolver), true) => {
            let path = "/etc/systemd/resolved.conf.d/50-recipe.conf";
            write(image, path, settings(resolver), EFFECT)?;
            through_stub(image)?;
        }
        (None, true) if named => through_stub(image)?,
        (Some(resolver), false) => write(image, RESOLV, fixed(resolver), EFFECT)?,
        (None, false) if named => {
            let text = "`dns` of [[network]] is read by systemd-resolved, which is not in the \
                        image: add \"systemd-resolved\" to [debian] packages, or write [resolver]";
            return Ok(Some(text.to_owned()));
        }
        (None, _) => {}
    }
    Ok(None)
}

fn through_stub(image: &mut Image<'_>) -> Result<(), ConfigureError> {
    Units::enable(image, "systemd-resolved.service", Missing::Refuse)?;
    if image.node_itself(RESOLV)?.is_none() {
        image.symlink(RESOLV, STUB, EFFECT)?;
    }
    Ok(())
}

fn words<T: ToString>(all: &[T]) -> String {
    all.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

fn settings(resolver: &Resolver) -> String {
    format!(
        "[Resolve]\nDNS={}\nDomains={}\n",
        words(&resolver.dns),
        words(&resolver.domains)
    )
}

fn fixed(resolver: &Resolver) -> String {
    let mut text = String::new();
    for server in &resolver.dns {
        // Writing to a string cannot fail.
        writeln!(text, "nameserver {server}").unwrap_or_default();
    }
    if !resolver.domains.is_empty() {
        writeln!(text, "search {}", words(&resolver.domains)).unwrap_or_default();
    }
    text
}
