//! A neighbour of the machine under test: another machine, at the other end of one of its network
//! cards.
//!
//! PID 1 of an initramfs, and all there is in it but a driver of the card. Takes orders on its
//! console (see [`baker_contract::neighbour`]): gets an address, listens, says to whoever connects
//! who it is and whom it sees, and connects to others. It decides nothing: what an answer means is
//! for the host to say. It never ends by itself; whoever started the machine ends it.

mod card;
mod console;
mod serve;
mod start;

use std::net::SocketAddr;
use std::time::Duration;

use baker_contract::Line;
use baker_contract::neighbour::{End, Order, Report};

/// What went wrong, in one line.
type Fault = String;

fn main() {
    if std::process::id() != 1 {
        console::say(&Report::Failed {
            problem: "this program is the first process of a machine that baker starts".into(),
        });
        std::process::exit(1);
    }
    if let Err(problem) = run() {
        console::say(&Report::Failed { problem });
    }
    start::power_off();
}

fn run() -> Result<(), Fault> {
    start::mount_basics()?;
    console::make_raw()?;
    start::load_modules()?;
    console::say(&Report::Ready);
    for line in std::io::stdin().lines() {
        let line = line.map_err(doing("read orders"))?;
        let order = Line::parse(&line).and_then(|line| Order::from_line(&line));
        match order {
            Some(order) => obey(order)?,
            // The host knows no other words; a disturbed line is told of.
            None => return Err(format!("`{}` is no order", line.trim())),
        }
    }
    Ok(())
}

fn obey(order: Order) -> Result<(), Fault> {
    match order {
        Order::Be {
            name,
            address,
            gateway,
            serves,
        } => {
            card::configure(&address, gateway.as_deref())?;
            for port in serves {
                serve::listen(&name, port)?;
            }
            console::say(&Report::Up);
        }
        Order::Reach {
            id,
            target,
            milliseconds,
        } => {
            let patience = Duration::from_millis(milliseconds.into());
            let end = match target.parse::<SocketAddr>() {
                Ok(target) => serve::reach(target, patience),
                Err(error) => End::Failed(format!("{target}: {error}")),
            };
            console::say(&Report::Reached { id, end });
        }
    }
    Ok(())
}

/// Says what was being done when something failed.
fn doing<E: std::fmt::Display>(what: impl std::fmt::Display) -> impl FnOnce(E) -> Fault {
    move |error| format!("cannot {what}: {error}")
}
