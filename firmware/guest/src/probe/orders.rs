//! Orders from the host, read off the port.

use std::io;
use std::time::Duration;

use baker_contract::{Line, MAGIC, Order};

/// Between two reads of a port whose host side is not there yet.
const RETRY: Duration = Duration::from_millis(50);

/// A longer line comes from no sane host: 64 KiB of file content, each byte at most three on the
/// wire, and as much again for all else.
const LINE_LIMIT: usize = 256 * 1024;

/// Reads orders from the port.
pub struct Orders<R> {
    port: R,
    buffer: Vec<u8>,
    /// Bytes of the buffer that hold no line end.
    searched: usize,
}

impl<R: io::Read> Orders<R> {
    /// Reads from this port.
    pub fn new(port: R) -> Self {
        Self {
            port,
            buffer: Vec::new(),
            searched: 0,
        }
    }

    /// The next order; lines that are none are skipped.
    ///
    /// # Errors
    /// The port breaks, or a line is too long.
    pub fn next(&mut self) -> io::Result<Order> {
        loop {
            while let Some(line) = self.line() {
                if let Some(order) = order(&String::from_utf8_lossy(&line)) {
                    return Ok(order);
                }
            }
            if self.buffer.len() > LINE_LIMIT {
                return Err(io::Error::other("too long a line"));
            }
            let mut bytes = [0; 4096];
            match self.port.read(&mut bytes)? {
                // The host's side is not open: virtio_console then gives nothing, at once.
                0 => std::thread::sleep(RETRY),
                count => self.buffer.extend_from_slice(&bytes[..count]),
            }
        }
    }

    fn line(&mut self) -> Option<Vec<u8>> {
        let found = self.buffer[self.searched..]
            .iter()
            .position(|&byte| byte == b'\n');
        let Some(end) = found else {
            self.searched = self.buffer.len();
            return None;
        };
        let end = self.searched + end;
        self.searched = 0;
        Some(self.buffer.drain(..=end).collect())
    }
}

/// The order of a line. A run may begin in the middle of one: what a host wrote before the guest
/// restarted can end anywhere.
fn order(line: &str) -> Option<Order> {
    // No field can look like this: it would hold a `=`.
    let begin = format!("{MAGIC} begin ");
    let line = line.rfind(&begin).map_or(line, |start| &line[start..]);
    Line::parse(line).map(Order::from_line)
}

#[cfg(test)]
mod tests {
    use baker_contract::Check;

    use super::*;

    fn orders(text: &str) -> Orders<io::Cursor<Vec<u8>>> {
        Orders::new(io::Cursor::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn orders_are_read_one_by_one() {
        let mut orders = orders(
            "junk\nbaker1 begin nonce=ab\nbaker1 unit-active unit=a%20b id=0\n\nbaker1 end\n",
        );
        let begin = Order::Begin { nonce: "ab".into() };
        assert_eq!(orders.next().unwrap(), begin);
        let check = Check::UnitActive { unit: "a b".into() };
        assert_eq!(orders.next().unwrap(), Order::Check { id: 0, check });
        assert_eq!(orders.next().unwrap(), Order::End);
    }

    #[test]
    fn a_run_begins_even_behind_half_a_line() {
        for rest in ["baker1 lo", "baker1 mark folder=/x", "\0\u{fffd}ab", ""] {
            let mut orders = orders(&format!("{rest}baker1 begin nonce=ab\n"));
            let begin = Order::Begin { nonce: "ab".into() };
            assert_eq!(orders.next().unwrap(), begin, "{rest}");
        }
    }

    #[test]
    fn whole_files_fit_into_a_line_and_endless_ones_do_not() {
        let content = "ü".repeat(32 * 1024);
        let check = Check::FilePresent {
            path: "/x".into(),
            content: Some(content),
            contains: None,
            mode: None,
            owner: None,
            group: None,
        };
        let order = Order::Check { id: 1, check };
        assert_eq!(
            orders(&format!("{}\n", order.to_line())).next().unwrap(),
            order
        );
        assert!(orders(&"x".repeat(LINE_LIMIT + 5000)).next().is_err());
    }
}
