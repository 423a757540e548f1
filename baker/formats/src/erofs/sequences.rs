//! Ending an LZ4 block earlier, without packing anything again.
//!
//! ```text
//! block     one sequence after the other
//! sequence  token | more of the literals' length | literals
//!           | offset (u16 LE) | more of the match's length
//! ```
//! The last sequence ends behind its literals. No sequence depends on those behind it, so that a
//! block can end after any of them, given literals to end with. That is what LZ4 itself does with
//! an output that is full; but it finds the matches first, and that takes nearly all the time.
//!
//! Reference: `doc/lz4_Block_format.md` of LZ4.

/// A block ends with at least so many literals.
const LAST_LITERALS: usize = 5;
/// The last match starts at least so many bytes before the end of the data.
const LAST_MATCH: usize = 12;
/// The shortest match.
const SHORTEST: usize = 4;
/// The greatest value of half a token says that more of the length follows.
const MORE: usize = 15;
/// The shortest end of a block.
const END: usize = 1 + LAST_LITERALS;

/// A sequence with a match.
struct Sequence {
    literals: usize,
    matched: usize,
    /// Bytes of the block up to the end of the offset.
    fixed: usize,
    /// All its bytes.
    size: usize,
}

/// A place behind a sequence.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// Bytes of the block before it.
    at: usize,
    /// Bytes of the data that these stand for.
    taken: usize,
    /// Length of the match before it; at the start, one that all rules are kept with.
    matched: usize,
}

/// Makes a block of at most `room` bytes out of a longer one, `block`, that stands for `data`;
/// gives how much of the data it stands for, nearly always as much as packing it anew would. None
/// when there is no room for anything, or when `block` is broken.
pub fn cut(block: &[u8], data: &[u8], room: usize) -> Option<(usize, Vec<u8>)> {
    let mut here = Place {
        matched: LAST_MATCH,
        ..Place::default()
    };
    let mut before = here;
    while let Some(next) = sequence(block.get(here.at..)?) {
        if here.at + next.size + END > room {
            if let Some(length) = shortened(&next, here.at, room) {
                let mut made = block[..here.at + next.fixed].to_vec();
                made[here.at] = made[here.at] & 0xf0 | nibble(length - SHORTEST);
                push_more(&mut made, length - SHORTEST);
                return end(made, data, here.taken + next.literals + length, room);
            }
            break;
        }
        before = here;
        here = Place {
            at: here.at + next.size,
            taken: here.taken + next.literals + next.matched,
            matched: next.matched,
        };
    }
    // A sequence has three bytes or more, so a match that comes too late was preceded by one that
    // does not: it is followed by two literals more than the last one at least.
    let literals = literals(room.checked_sub(here.at)?).min(data.len().checked_sub(here.taken)?);
    let place = if here.matched + literals < LAST_MATCH {
        before
    } else {
        here
    };
    end(block[..place.at].to_vec(), data, place.taken, room)
}

/// Adds the last literals.
fn end(mut made: Vec<u8>, data: &[u8], taken: usize, room: usize) -> Option<(usize, Vec<u8>)> {
    let rest = data.get(taken..)?;
    let literals = &rest[..literals(room.checked_sub(made.len())?).min(rest.len())];
    if literals.len() < LAST_LITERALS {
        return None;
    }
    made.push(nibble(literals.len()) << 4);
    push_more(&mut made, literals.len());
    made.extend_from_slice(literals);
    Some((taken + literals.len(), made))
}

/// How long the match of a sequence that lies at `at` and is too long for `room` can be instead.
fn shortened(sequence: &Sequence, at: usize, room: usize) -> Option<usize> {
    let spare = room.checked_sub(at + sequence.fixed + END)?;
    let length = SHORTEST + MORE - 1 + 255 * spare;
    (length < sequence.matched).then_some(length)
}

/// The sequence that a block goes on with; none when it is the last.
fn sequence(rest: &[u8]) -> Option<Sequence> {
    let token = usize::from(*rest.first()?);
    let mut at = 1;
    let literals = length(rest, &mut at, token >> 4)?;
    let fixed = at.checked_add(literals)?.checked_add(2)?;
    at = fixed;
    rest.get(..fixed)?;
    let matched = length(rest, &mut at, token & MORE)?.checked_add(SHORTEST)?;
    Some(Sequence {
        literals,
        matched,
        fixed,
        size: at,
    })
}

/// A length of which the token has the beginning.
fn length(rest: &[u8], at: &mut usize, nibble: usize) -> Option<usize> {
    let mut length = nibble;
    let mut more = nibble == MORE;
    while more {
        let byte = *rest.get(*at)?;
        length = length.checked_add(byte.into())?;
        more = byte == u8::MAX;
        *at += 1;
    }
    Some(length)
}

/// How many literals, their token included, go into so many bytes.
fn literals(room: usize) -> usize {
    let mut literals = room.saturating_sub(1);
    while literals > 0 && 1 + more(literals) + literals > room {
        literals -= 1;
    }
    literals
}

/// Bytes of a length that do not go into the token.
fn more(length: usize) -> usize {
    length.checked_sub(MORE).map_or(0, |left| left / 255 + 1)
}

fn push_more(made: &mut Vec<u8>, length: usize) {
    if let Some(left) = length.checked_sub(MORE) {
        made.resize(made.len() + left / 255, u8::MAX);
        made.push(u8::try_from(left % 255).expect("below 255"));
    }
}

fn nibble(length: usize) -> u8 {
    u8::try_from(length.min(MORE)).expect("at most 15")
}
