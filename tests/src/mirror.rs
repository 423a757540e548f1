//! A mirror on the loopback that misbehaves on demand.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends after this many bytes of the body.
    Cut(usize),
    /// The answer is this status.
    Status(u16),
    /// A byte in the middle is another one.
    Altered,
    /// The body has more bytes than the file.
    Longer,
    /// A pause before each small piece.
    Slow(Duration),
    /// `Range` is ignored.
    NoRange,
    /// `Range` is answered with another one.
    WrongRange,
    /// `Range` is refused, as by a server whose file is shorter by now.
    RangeRefused,
    /// Nothing is answered for this long.
    Silent(Duration),
}

#[derive(Debug)]
struct Planned {
    ending: String,
    fault: Fault,
    times: usize,
}

#[derive(Debug, Default)]
struct State {
    planned: Mutex<Vec<Planned>>,
    log: Mutex<Vec<String>>,
    stop: AtomicBool,
}

/// Serves a folder over HTTP until dropped.
#[derive(Debug)]
pub struct Mirror {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl Mirror {
    /// Serves `root` on a free port of the loopback.
    ///
    /// # Errors
    /// No port can be had.
    pub fn serve(root: &Path) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let (root, shared) = (root.to_owned(), Arc::clone(&state));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::SeqCst) {
                    return;
                }
                let (root, state) = (root.clone(), Arc::clone(&shared));
                if let Ok(stream) = stream {
                    // A client that goes away is no failure of the mirror.
                    std::thread::spawn(move || drop(converse(stream, &root, &state)));
                }
            }
        });
        Ok(Self {
            address,
            state,
            thread: Some(thread),
        })
    }

    /// `http://127.0.0.1:port`
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets the next `times` requests for paths with this ending go wrong.
    pub fn plan(&self, ending: &str, fault: Fault, times: usize) {
        let planned = Planned {
            ending: ending.to_owned(),
            fault,
            times,
        };
        locked(&self.state.planned).push(planned);
    }

    /// All requests so far: path, and the range asked for.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        locked(&self.state.log).clone()
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        // Wakes the listener, which then sees that it is to stop.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn converse(stream: TcpStream, root: &Path, state: &State) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut start = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            if header.trim().is_empty() {
                break;
            }
            let header = header.to_ascii_lowercase();
            if let Some(range) = header.strip_prefix("range: bytes=") {
                start = range.split('-').next().unwrap_or_default().trim().parse()?;
            }
        }
        locked(&state.log).push(format!("{path} from {start}"));
        if !answer(&mut stream, root, &path, start, take(state, &path))? {
            return Ok(());
        }
    }
}

fn take(state: &State, path: &str) -> Option<Fault> {
    let mut planned = locked(&state.planned);
    let found = planned
        .iter_mut()
        .find(|plan| plan.times > 0 && path.ends_with(&plan.ending))?;
    found.times -= 1;
    Some(found.fault)
}

/// Answers one request; false when the connection is to end.
fn answer(
    stream: &mut TcpStream,
    root: &Path,
    path: &str,
    start: usize,
    fault: Option<Fault>,
) -> Result<bool> {
    let file: PathBuf = root.join(path.trim_start_matches('/'));
    let (status, mut bytes) = match (fault, std::fs::read(file)) {
        (Some(Fault::Status(status)), _) => (status, b"no".to_vec()),
        (_, Ok(bytes)) => (200, bytes),
        (_, Err(_)) => (404, b"no".to_vec()),
    };
    if let Some(Fault::Silent(pause)) = fault {
        std::thread::sleep(pause);
    }
    if fault == Some(Fault::Altered) {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    }
    if fault == Some(Fault::Longer) {
        bytes.extend_from_slice(b"and more");
    }
    let (total, mut head) = (bytes.len(), format!("HTTP/1.1 {status} X\r\n"));
    let ranged = start > 0 && status == 200 && fault != Some(Fault::NoRange);
    if ranged && (start >= total || fault == Some(Fault::RangeRefused)) {
        head = "HTTP/1.1 416 X\r\n".to_owned();
        bytes.clear();
    } else if ranged {
        let start = start - usize::from(fault == Some(Fault::WrongRange));
        bytes.drain(..start);
        head = format!(
            "HTTP/1.1 206 X\r\nContent-Range: bytes {start}-{}/{total}\r\n",
            total - 1
        );
    }
    write!(stream, "{head}Content-Length: {}\r\n\r\n", bytes.len())?;
    match fault {
        Some(Fault::Cut(after)) => {
            stream.write_all(&bytes[..after.min(bytes.len())])?;
            return Ok(false);
        }
        Some(Fault::Slow(pause)) => {
            for piece in bytes.chunks(64) {
                stream.write_all(piece)?;
                std::thread::sleep(pause);
            }
        }
        _ => stream.write_all(&bytes)?,
    }
    Ok(true)
}
