//! A server of HTTP on the loopback that keeps what it is given, in memory: GET, HEAD and PUT.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// How it answers instead of doing what is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mood {
    /// Does what is asked.
    Kind,
    /// Wants this value of the header `Authorization`.
    Asks(String),
    /// Answers every request with this status.
    Broken(u16),
    /// Sends everybody on to another address of itself, by this status.
    Elsewhere(u16),
}

#[derive(Debug)]
struct State {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    log: Mutex<Vec<String>>,
    mood: Mutex<Mood>,
    stop: AtomicBool,
}

/// Serves until dropped.
#[derive(Debug)]
pub struct CacheServer {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl Default for CacheServer {
    fn default() -> Self {
        Self::start()
    }
}

impl CacheServer {
    /// Serves on a free port of the loopback.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let state = Arc::new(State {
            files: Mutex::default(),
            log: Mutex::default(),
            mood: Mutex::new(Mood::Kind),
            stop: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(stream), state) = (stream, Arc::clone(&shared)) else {
                    continue;
                };
                // Whoever goes away early is no fault of the server.
                std::thread::spawn(move || serve(&stream, &state).ok());
            }
        });
        Self {
            address,
            state,
            thread: Some(thread),
        }
    }

    /// Where it is: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it has, by path.
    pub fn files(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        held(&self.state.files)
    }

    /// What was asked, such as `GET /ac/…`; clears the list.
    #[must_use]
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut held(&self.state.log))
    }

    /// Changes how it answers.
    pub fn become_(&self, mood: Mood) {
        *held(&self.state.mood) = mood;
    }
}

impl Drop for CacheServer {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        // Wakes the one that waits for connections.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(stream: &TcpStream, state: &State) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let (mut length, mut authorization) = (0, String::new());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim().split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "authorization" => value.trim().clone_into(&mut authorization),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    held(&state.log).push(format!("{method} {path}"));
    let mood = held(&state.mood).clone();
    let (status, more, answer) = match mood {
        Mood::Broken(status) => (status, String::new(), Vec::new()),
        Mood::Asks(wanted) if wanted != authorization => (401, String::new(), Vec::new()),
        Mood::Elsewhere(status) if !path.starts_with("/elsewhere") => (
            status,
            format!("Location: /elsewhere{path}\r\n"),
            Vec::new(),
        ),
        _ => {
            let (status, answer) = answer(state, method, path, body);
            (status, String::new(), answer)
        }
    };
    let mut out = stream;
    let size = answer.len();
    write!(
        out,
        "HTTP/1.1 {status} X\r\nContent-Length: {size}\r\nConnection: close\r\n{more}\r\n"
    )?;
    if method != "HEAD" {
        out.write_all(&answer)?;
    }
    out.flush()
}

fn answer(state: &State, method: &str, path: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
    let path = path.strip_prefix("/elsewhere").unwrap_or(path);
    let mut files = held(&state.files);
    match method {
        "PUT" => {
            files.insert(path.to_owned(), body);
            (201, Vec::new())
        }
        _ => match files.get(path) {
            Some(bytes) => (200, bytes.clone()),
            None => (404, b"nothing here".to_vec()),
        },
    }
}
