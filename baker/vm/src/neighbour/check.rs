//! What is asked of a neighbour, and what its answer means.

use std::time::Duration;

use baker_contract::neighbour::End;
use baker_model::plan::{Outcome, Reach, TestPlan};
use tokio::time::{Instant, sleep, timeout_at};

use super::Neighbours;
use crate::http::Window;

/// A single try may take this long. Whoever is there and lets the neighbour through has answered
/// long before, also under emulation on a loaded host.
const TRY: Duration = Duration::from_secs(6);

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(500);

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NeighbourCheck {
    /// It runs and has its address.
    Up {
        /// The neighbour.
        name: String,
    },
    /// What becomes of a connection.
    Reach {
        /// The neighbour that connects.
        name: String,
        /// What is planned.
        reach: Reach,
    },
}

/// All checks of a plan: first that all neighbours are there, then what must be answered, at last
/// what must not. The links have proven by then that they carry something.
pub(crate) fn checks(plan: &TestPlan) -> Vec<NeighbourCheck> {
    let up = plan.neighbours.iter().map(|neighbour| NeighbourCheck::Up {
        name: neighbour.name.clone(),
    });
    let reaches = |answered: bool| {
        plan.neighbours.iter().flat_map(move |neighbour| {
            let reaches = neighbour.reaches.iter();
            let reaches = reaches
                .filter(move |reach| (reach.outcome == Outcome::Answer) == answered)
                .cloned();
            reaches.map(|reach| NeighbourCheck::Reach {
                name: neighbour.name.clone(),
                reach,
            })
        })
    };
    up.chain(reaches(true)).chain(reaches(false)).collect()
}

impl NeighbourCheck {
    /// The check for people.
    pub(crate) fn text(&self) -> String {
        let (name, reach) = match self {
            Self::Up { name } => return format!("the neighbour {name} is up"),
            Self::Reach { name, reach } => (name, reach),
        };
        let target = format!("{}:{}", reach.address, reach.port);
        let mut text = match reach.outcome {
            Outcome::Answer => format!("{name} reaches {target}"),
            Outcome::Refusal => format!("{name} is refused at {target}"),
            Outcome::Silence => format!("{name} hears nothing of {target}"),
        };
        if let Some(by) = &reach.by {
            text.push_str(&format!(", where {by} answers"));
        }
        if let Some(address) = reach.seen_as {
            text.push_str(&format!(" and sees {address}"));
        }
        text
    }

    /// Asks until it is answered as planned or the time is up; says what was found, or what was
    /// wrong last.
    pub(crate) async fn ask(
        &self,
        window: Window,
        neighbours: &Neighbours,
    ) -> Result<String, String> {
        let (name, reach) = match self {
            Self::Up { name } => return neighbours.up(name, window.any).await,
            Self::Reach { name, reach } => (name, reach),
        };
        let deadline = Instant::now() + window.any;
        loop {
            let since = Instant::now();
            let end = neighbours.reach(name, reach, TRY).await?;
            let finding = match end {
                // The clock of an emulated machine can jump: silence counts when it was as long
                // here as there.
                End::Silent if since.elapsed() < TRY => {
                    Finding::NotYet("its clock does not go right".to_owned())
                }
                end => judge(reach, &end),
            };
            let retry = match &finding {
                Finding::AsPlanned(found) => return Ok(found.clone()),
                Finding::Wrong(found) => return Err(found.clone()),
                Finding::NotYet(found) => found,
            };
            if timeout_at(deadline, sleep(PAUSE)).await.is_err() || Instant::now() >= deadline {
                return Err(retry.clone());
            }
        }
    }
}

/// What one try means.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    AsPlanned(String),
    /// It will not become right by waiting.
    Wrong(String),
    /// It may: a service that starts, an address that comes.
    NotYet(String),
}

fn judge(reach: &Reach, end: &End) -> Finding {
    let found = match end {
        End::Answered { by, seen_as } => match (by, seen_as) {
            (Some(by), Some(seen_as)) => format!("{by} answers and sees {seen_as}"),
            _ => "somebody answers who is no neighbour".to_owned(),
        },
        End::Refused => "it is refused".to_owned(),
        End::Silent => format!("nobody says anything within {} s", TRY.as_secs()),
        End::Failed(problem) => format!("it cannot connect: {problem}"),
    };
    match (reach.outcome, end) {
        (Outcome::Answer, End::Answered { by, seen_as }) => {
            let seen_as = seen_as.as_ref().and_then(|text| text.parse().ok());
            let right = reach.by.is_none() || reach.by == *by;
            let seen = reach.seen_as.is_none() || reach.seen_as == seen_as;
            if right && seen {
                Finding::AsPlanned(found)
            } else {
                // Rules may be loaded after the address is there.
                Finding::NotYet(found)
            }
        }
        (Outcome::Refusal, End::Refused) | (Outcome::Silence, End::Silent) => {
            Finding::AsPlanned(found)
        }
        (Outcome::Refusal | Outcome::Silence, End::Answered { .. }) => Finding::Wrong(found),
        _ => Finding::NotYet(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(outcome: Outcome, by: Option<&str>, seen_as: Option<[u8; 4]>) -> Reach {
        Reach {
            address: [10, 2, 0, 2].into(),
            port: 80,
            outcome,
            by: by.map(str::to_owned),
            seen_as: seen_as.map(Into::into),
        }
    }

    fn answered(by: &str, seen_as: &str) -> End {
        End::Answered {
            by: Some(by.to_owned()),
            seen_as: Some(seen_as.to_owned()),
        }
    }

    #[test]
    fn ends_mean_what_the_plan_wants_of_them() {
        let translated = reach(Outcome::Answer, Some("right"), Some([10, 2, 0, 1]));
        let stranger = End::Answered {
            by: None,
            seen_as: None,
        };
        let rows = [
            (&translated, answered("right", "10.2.0.1"), 'y'),
            (&translated, answered("right", "10.1.0.2"), 'l'),
            (&translated, answered("left", "10.2.0.1"), 'l'),
            (&translated, stranger.clone(), 'l'),
            (&translated, End::Silent, 'l'),
            (&translated, End::Failed("no way".into()), 'l'),
            (&reach(Outcome::Answer, None, None), stranger, 'y'),
            (&reach(Outcome::Silence, None, None), End::Silent, 'y'),
            (&reach(Outcome::Silence, None, None), End::Refused, 'l'),
            (&reach(Outcome::Refusal, None, None), End::Refused, 'y'),
            (&reach(Outcome::Refusal, None, None), End::Silent, 'l'),
            // A way that is not there forbids nothing.
            (
                &reach(Outcome::Silence, None, None),
                End::Failed("no way".into()),
                'l',
            ),
            (
                &reach(Outcome::Silence, None, None),
                answered("right", "10.2.0.1"),
                'n',
            ),
            (
                &reach(Outcome::Refusal, None, None),
                answered("right", "10.2.0.1"),
                'n',
            ),
        ];
        for (reach, end, expected) in rows {
            let found = match judge(reach, &end) {
                Finding::AsPlanned(_) => 'y',
                Finding::Wrong(_) => 'n',
                Finding::NotYet(_) => 'l',
            };
            assert_eq!(found, expected, "{reach:?} {end:?}");
        }
    }

    #[test]
    fn what_must_not_be_comes_last() {
        let neighbour = |name: &str, reaches| baker_model::plan::Neighbour {
            name: name.to_owned(),
            address: "10.1.0.2/24".to_owned(),
            gateway: None,
            card: None,
            serves: Vec::new(),
            reaches,
        };
        let silent = reach(Outcome::Silence, None, None);
        let open = reach(Outcome::Answer, Some("right"), Some([10, 2, 0, 1]));
        let plan = TestPlan {
            neighbours: vec![
                neighbour("left", vec![silent, open]),
                neighbour("right", vec![reach(Outcome::Refusal, None, None)]),
            ],
            ..TestPlan::default()
        };
        let texts: Vec<String> = checks(&plan).iter().map(NeighbourCheck::text).collect();
        assert_eq!(
            texts,
            [
                "the neighbour left is up",
                "the neighbour right is up",
                "left reaches 10.2.0.2:80, where right answers and sees 10.2.0.1",
                "left hears nothing of 10.2.0.2:80",
                "right is refused at 10.2.0.2:80",
            ]
        );
    }
}
