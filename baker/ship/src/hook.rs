//! A key behind a program: a cloud service, a device without PKCS#11, a person with a procedure.
//!
//! The program is run as it is named, without a shell, and is asked two things:
//!
//! ```text
//! PROGRAM public-key               prints the public key: SubjectPublicKeyInfo, PEM
//! PROGRAM sign ALGORITHM KEY-ID    reads the message from standard input until its end, and
//!                                  prints the bytes of the signature and nothing else
//! ```
//! `ALGORITHM` is a word of [`Algorithm::name`](crate::Algorithm::name), which also says how the
//! signature is written; `KEY-ID` is the SHA-256 of the public key's DER. It ends with 0, or says
//! on standard error why not. It inherits the environment except for baker's own secrets, and the
//! terminal, so that it can ask for a touch or a PIN there. After its time it is killed.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::key_source::SECRET_VARIABLES;
use crate::public::{PublicKey, PublicKeyError};
use crate::signer::{Signature, Signer, SigningError};

/// How long a program may take, when nobody says otherwise: a person may have to touch something.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// The most that is read of an answer; real ones have some hundred bytes.
const ANSWER_LIMIT: u64 = 64 * 1024;

/// How often the program is looked at.
const PAUSE: Duration = Duration::from_millis(5);

/// A key behind a program.
#[derive(Debug)]
pub struct Hook {
    program: PathBuf,
    timeout: Duration,
    public: PublicKey,
}

/// The program did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// It cannot be run.
    #[error("cannot run the key program {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot be talked to.
    #[error("cannot talk to the key program {}", program.display())]
    Talk {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended otherwise than well.
    #[error("`{} {request}` ended with {status}: {}", program.display(), words.trim())]
    Failed {
        /// The program.
        program: PathBuf,
        /// What it was asked.
        request: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        words: String,
    },
    /// It did not end in time.
    #[error("`{} {request}` was killed after {} s", program.display(), timeout.as_secs())]
    TimedOut {
        /// The program.
        program: PathBuf,
        /// What it was asked.
        request: String,
        /// How long it had.
        timeout: Duration,
    },
    /// What it printed is too much for an answer.
    #[error("`{} {request}` printed more than {ANSWER_LIMIT} bytes", program.display())]
    TooMuch {
        /// The program.
        program: PathBuf,
        /// What it was asked.
        request: String,
    },
    /// What it printed is no public key.
    #[error("`{} public-key` printed no public key", program.display())]
    PublicKey {
        /// The program.
        program: PathBuf,
        /// What is wrong.
        #[source]
        source: PublicKeyError,
    },
}

impl HookError {
    /// What a person can do about it.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::TimedOut { program, .. } => format!(
                "if it needs longer, say so: command:{}?timeout=SECONDS",
                program.display()
            ),
            _ => "see baker/SIGNING.md for what a key program must do".to_owned(),
        }
    }
}

impl Hook {
    /// Asks `program` for its public key.
    ///
    /// # Errors
    /// It cannot be run, or gives none.
    pub fn open(program: &Path, timeout: Duration) -> Result<Self, HookError> {
        let text = ask(program, &["public-key"], &[], timeout)?;
        let name = program.file_name().unwrap_or(program.as_os_str());
        let public = PublicKey::parse(&name.to_string_lossy(), &String::from_utf8_lossy(&text));
        Ok(Self {
            program: program.to_owned(),
            timeout,
            public: public.map_err(|source| HookError::PublicKey {
                program: program.to_owned(),
                source,
            })?,
        })
    }
}

impl Signer for Hook {
    fn public(&self) -> PublicKey {
        self.public.clone()
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SigningError> {
        let algorithm = self.public.algorithm();
        let words = ["sign", algorithm.name(), &self.public.id().to_string()];
        let bytes = ask(&self.program, &words, message, self.timeout).map_err(|source| {
            SigningError::Hook {
                name: self.public.name().to_owned(),
                source: Box::new(source),
            }
        })?;
        Ok(Signature { algorithm, bytes })
    }
}

/// Runs the program once: `input` in, its standard output out.
fn ask(
    program: &Path,
    words: &[&str],
    input: &[u8],
    timeout: Duration,
) -> Result<Vec<u8>, HookError> {
    let talk = |source| HookError::Talk {
        program: program.to_owned(),
        source,
    };
    let request = words[0].to_owned();
    let mut command = Command::new(program);
    command.args(words.iter().map(OsStr::new));
    for secret in SECRET_VARIABLES {
        command.env_remove(secret);
    }
    // In baker's own process group: in another one it could not read from the terminal.
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| HookError::Start {
            program: program.to_owned(),
            source,
        })?;
    let (answer, words) = (pour(child.stdout.take()), pour(child.stderr.take()));
    feed(&mut child, input);
    let end = Instant::now() + timeout;
    let status = wait(&mut child, end).map_err(talk)?;
    let late = |request| HookError::TimedOut {
        program: program.to_owned(),
        request,
        timeout,
    };
    let Some(status) = status else {
        return Err(late(request));
    };
    // Something that it left running may hold its output open: then there is no answer to be had.
    let taken = |from: &Receiver<io::Result<Vec<u8>>>| match from.recv_timeout(left(end)) {
        Ok(bytes) => bytes.map(Some),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Ok(None),
    };
    let bytes = taken(&answer).map_err(talk)?;
    // A program that says too much dies of a closed pipe; what it did is said, not how it ended.
    if bytes
        .as_ref()
        .is_some_and(|bytes| bytes.len() as u64 > ANSWER_LIMIT)
    {
        return Err(HookError::TooMuch {
            program: program.to_owned(),
            request,
        });
    }
    if !status.success() {
        let words = taken(&words).map_err(talk)?.unwrap_or_default();
        return Err(HookError::Failed {
            program: program.to_owned(),
            request,
            status,
            words: String::from_utf8_lossy(&words).into_owned(),
        });
    }
    bytes.ok_or_else(|| late(request))
}

/// Writes `input` and closes. A program that does not want it all may leave it.
fn feed(child: &mut Child, input: &[u8]) {
    let Some(mut pipe) = child.stdin.take() else {
        return;
    };
    let input = input.to_vec();
    // What it did with its input shows in what it answers.
    thread::spawn(move || drop(pipe.write_all(&input)));
}

/// Reads until the end, one byte more than an answer may have.
fn pour(pipe: Option<impl Read + Send + 'static>) -> Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = match pipe {
            Some(pipe) => pipe.take(ANSWER_LIMIT + 1).read_to_end(&mut bytes),
            None => Ok(0),
        };
        // Nobody listens any more when the time is over.
        drop(sender.send(read.map(|_| bytes)));
    });
    receiver
}

/// How it ended; none when it had to be killed at `end`.
fn wait(child: &mut Child, end: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if left(end).is_zero() {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(PAUSE.min(left(end)));
    }
}

fn left(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
}
