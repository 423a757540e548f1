//! Hashing beside reading and writing: on a fast network the digest of a large file is as much
//! work as all the rest of its download.

use std::sync::mpsc::{self, SyncSender};
use std::thread::JoinHandle;

use baker_model::{Digest, Digester};
use bytes::Bytes;

/// Pieces that may wait; each is what came in at once, up to some 500 KiB.
const WAITING: usize = 4;

/// Files that are smaller are hashed where they come in: a thread would cost more than it saves.
const LARGE: u64 = 4 << 20;

/// Takes the bytes of one file, in order.
pub struct Hasher(State);

enum State {
    Here(Digester),
    Beside {
        pieces: SyncSender<Bytes>,
        thread: JoinHandle<Digester>,
    },
}

impl Hasher {
    /// Goes on from `digester`; about `rest` bytes are to come.
    pub fn new(mut digester: Digester, rest: u64) -> Self {
        if rest < LARGE {
            return Self(State::Here(digester));
        }
        let (sender, pieces) = mpsc::sync_channel::<Bytes>(WAITING);
        // It ends when the sender does, also when a download is given up.
        let thread = std::thread::spawn(move || {
            pieces.iter().for_each(|piece| digester.update(&piece));
            digester
        });
        let pieces = sender;
        Self(State::Beside { pieces, thread })
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: Bytes) {
        match &mut self.0 {
            State::Here(digester) => digester.update(&bytes),
            // It fails only when the thread panicked, which comes up at the end.
            State::Beside { pieces, .. } => drop(pieces.send(bytes)),
        }
    }

    /// The digest of everything.
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Here(digester) => digester.finish(),
            State::Beside { pieces, thread } => {
                drop(pieces);
                let digester = thread.join();
                digester
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                    .finish()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn here_and_beside_give_the_same() {
        let bytes: Vec<u8> = (0..250_000_u32).flat_map(u32::to_le_bytes).collect();
        let begun = || {
            let mut digester = Digester::new();
            digester.update(&bytes[..17]);
            digester
        };
        for rest in [0, LARGE] {
            for step in [1_000, 65_536, 2_000_000] {
                let mut hasher = Hasher::new(begun(), rest);
                let pieces = bytes[17..].chunks(step);
                pieces.for_each(|piece| hasher.update(Bytes::copy_from_slice(piece)));
                assert_eq!(hasher.finish(), Digest::of(&bytes), "{rest} {step}");
            }
            let nothing = Hasher::new(begun(), rest);
            assert_eq!(nothing.finish(), Digest::of(&bytes[..17]));
        }
        drop(Hasher::new(begun(), LARGE));
    }
}
