//! What baker and a neighbour say to each other: a small machine at the other end of a network
//! card of the machine under test.
//!
//! Both use its serial console, where the kernel speaks too; what is no line of the protocol is
//! skipped. The neighbour begins with [`Report::Ready`]: what was said before it is lost. It runs
//! baker's own program and nothing of the image but the kernel, so its lines carry no nonce.

use crate::Line;

/// One line from the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Who the neighbour is; the first line, answered by [`Report::Up`] or [`Report::Failed`].
    Be {
        /// Its name, told to whoever connects to it.
        name: String,
        /// Its IPv4 address with prefix length.
        address: String,
        /// Where packets for other networks go.
        gateway: Option<String>,
        /// TCP ports on which it says who connected.
        serves: Vec<u16>,
    },
    /// Connect to a TCP port; answered by [`Report::Reached`].
    Reach {
        /// The answer's id.
        id: u32,
        /// IPv4 address and port.
        target: String,
        /// How long to wait for a sign of the other end.
        milliseconds: u32,
    },
}

/// One line from the neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// It runs and takes orders.
    Ready,
    /// It has its address and listens.
    Up,
    /// It cannot go on, and why.
    Failed {
        /// One line.
        problem: String,
    },
    /// What became of a connection.
    Reached {
        /// The order's id.
        id: u32,
        /// How it ended.
        end: End,
    },
}

/// How an attempt to connect ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Somebody accepted the connection.
    Answered {
        /// The neighbour that did, when it was one.
        by: Option<String>,
        /// The address that it saw the connection come from.
        seen_as: Option<String>,
    },
    /// Somebody refused it.
    Refused,
    /// Nobody said anything.
    Silent,
    /// It could not even be tried: no way there.
    Failed(String),
}

/// What a neighbour says to whoever connects to one of its ports.
#[must_use]
pub fn greeting(name: &str, peer: &str) -> Line {
    Line::new("neighbour").with("name", name).with("sees", peer)
}

/// What [`greeting`] says; nothing when it is some other server's.
#[must_use]
pub fn heard(text: &str) -> End {
    let line = Line::parse(text).filter(|line| line.word == "neighbour");
    let value = |key| line.as_ref()?.get(key).map(str::to_owned);
    End::Answered {
        by: value("name"),
        seen_as: value("sees"),
    }
}

impl Order {
    /// The line to write.
    #[must_use]
    pub fn to_line(&self) -> Line {
        match self {
            Self::Be {
                name,
                address,
                gateway,
                serves,
            } => {
                let line = Line::new("be").with("name", name).with("address", address);
                let line = line.with_some("gateway", gateway.as_ref());
                serves
                    .iter()
                    .fold(line, |line, port| line.with("serves", port))
            }
            Self::Reach {
                id,
                target,
                milliseconds,
            } => Line::new("reach")
                .with("id", id)
                .with("target", target)
                .with("milliseconds", milliseconds),
        }
    }

    /// The meaning of a line; none when it is no order.
    #[must_use]
    pub fn from_line(line: &Line) -> Option<Self> {
        let text = |key| line.get(key).map(str::to_owned);
        match line.word.as_str() {
            "be" => Some(Self::Be {
                name: text("name")?,
                address: text("address")?,
                gateway: text("gateway"),
                serves: line
                    .all("serves")
                    .iter()
                    .filter_map(|port| port.parse().ok())
                    .collect(),
            }),
            "reach" => Some(Self::Reach {
                id: line.get("id")?.parse().ok()?,
                target: text("target")?,
                milliseconds: line.get("milliseconds")?.parse().ok()?,
            }),
            _ => None,
        }
    }
}

impl Report {
    /// The line to write.
    #[must_use]
    pub fn to_line(&self) -> Line {
        match self {
            Self::Ready => Line::new("ready"),
            Self::Up => Line::new("up"),
            Self::Failed { problem } => Line::new("failed").with("problem", problem),
            Self::Reached { id, end } => {
                let line = Line::new("reached").with("id", id);
                match end {
                    End::Answered { by, seen_as } => line
                        .with("end", "answered")
                        .with_some("by", by.as_ref())
                        .with_some("seen-as", seen_as.as_ref()),
                    End::Refused => line.with("end", "refused"),
                    End::Silent => line.with("end", "silent"),
                    End::Failed(problem) => line.with("end", "failed").with("problem", problem),
                }
            }
        }
    }

    /// The meaning of a line; none when it is no report.
    #[must_use]
    pub fn from_line(line: &Line) -> Option<Self> {
        let text = |key| line.get(key).map(str::to_owned);
        match line.word.as_str() {
            "ready" => Some(Self::Ready),
            "up" => Some(Self::Up),
            "failed" => Some(Self::Failed {
                problem: text("problem")?,
            }),
            "reached" => {
                let end = match line.get("end")? {
                    "answered" => End::Answered {
                        by: text("by"),
                        seen_as: text("seen-as"),
                    },
                    "refused" => End::Refused,
                    "silent" => End::Silent,
                    _ => End::Failed(text("problem").unwrap_or_default()),
                };
                let id = line.get("id")?.parse().ok()?;
                Some(Self::Reached { id, end })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_reports_round_trip() {
        let be = Order::Be {
            name: "left".into(),
            address: "10.1.0.2/24".into(),
            gateway: Some("10.1.0.1".into()),
            serves: vec![80, 443],
        };
        let alone = Order::Be {
            name: "x".into(),
            address: "10.1.0.2/8".into(),
            gateway: None,
            serves: Vec::new(),
        };
        let reach = Order::Reach {
            id: 7,
            target: "10.2.0.2:80".into(),
            milliseconds: 5000,
        };
        for order in [be, alone, reach] {
            let line = Line::parse(&order.to_line().to_string()).unwrap();
            assert_eq!(Order::from_line(&line), Some(order));
        }
        let ends = [
            heard(&greeting("right", "10.2.0.1").to_string()),
            heard("SSH-2.0-OpenSSH"),
            End::Refused,
            End::Silent,
            End::Failed("no route".into()),
        ];
        let reached = ends.map(|end| Report::Reached { id: 3, end });
        let failed = Report::Failed {
            problem: "no card".into(),
        };
        for report in [Report::Ready, Report::Up, failed]
            .into_iter()
            .chain(reached)
        {
            let line = Line::parse(&format!("[  1.0] {}", report.to_line())).unwrap();
            assert_eq!(Report::from_line(&line), Some(report));
        }
        assert_eq!(Report::from_line(&Line::new("init")), None);
    }
}
