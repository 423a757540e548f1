//! DER, as far as certificates and signatures need it (X.690).
//!
//! Takes and gives bytes. The reader takes definite lengths in their shortest form only, which is
//! what DER means: a structure that reads in two ways is no base for a signature.

/// Tags that occur here.
pub(crate) mod tag {
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const BIT_STRING: u8 = 0x03;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const NULL: u8 = 0x05;
    pub(crate) const OID: u8 = 0x06;
    pub(crate) const UTF8_STRING: u8 = 0x0c;
    pub(crate) const UTC_TIME: u8 = 0x17;
    pub(crate) const GENERALIZED_TIME: u8 = 0x18;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;
    /// `[n]`, constructed: an explicit tag, or an implicit one over a sequence or set.
    pub(crate) const fn context(number: u8) -> u8 {
        0xa0 | number
    }
    /// `[n]`, primitive: an implicit tag over a string.
    pub(crate) const fn context_primitive(number: u8) -> u8 {
        0x80 | number
    }
}

/// The bytes are no DER, or not of the structure that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unexpected DER at byte {offset}: {problem}")]
pub struct DerError {
    /// Where, from the start of what is read.
    pub offset: usize,
    /// What is wrong.
    pub problem: &'static str,
}

/// One element made of `parts`, one after the other.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut out = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            // At most 8 bytes, so the sum stays under 0x89.
            let count = u8::try_from(bytes.len() - zeros).unwrap_or(8);
            out.push(0x80 | count);
            out.extend_from_slice(&bytes[zeros..]);
        }
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// A sequence of `parts`.
pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(tag::SEQUENCE, parts)
}

/// A set of `parts`, sorted as DER wants it.
pub(crate) fn set(parts: &[&[u8]]) -> Vec<u8> {
    let mut parts = parts.to_vec();
    parts.sort_unstable();
    element(tag::SET, &parts)
}

/// An object identifier from its encoded arcs.
pub(crate) fn oid(arcs: &[u8]) -> Vec<u8> {
    element(tag::OID, &[arcs])
}

/// `AlgorithmIdentifier` with NULL as its parameters.
pub(crate) fn algorithm(arcs: &[u8]) -> Vec<u8> {
    sequence(&[&oid(arcs), &element(tag::NULL, &[])])
}

/// One element of a structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    /// Tag and length too.
    pub(crate) whole: &'a [u8],
    /// What is inside.
    pub(crate) content: &'a [u8],
    /// Offset of `content` from the start of what is read.
    offset: usize,
}

impl<'a> Element<'a> {
    /// Reads what is inside.
    pub(crate) fn reader(self) -> Reader<'a> {
        Reader {
            rest: self.content,
            offset: self.offset,
        }
    }
}

/// Reads elements one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            offset: 0,
        }
    }

    /// A complaint about the next element.
    pub(crate) const fn problem(&self, problem: &'static str) -> DerError {
        DerError {
            offset: self.offset,
            problem,
        }
    }

    /// True when nothing is left.
    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next element, whatever it is.
    pub(crate) fn next(&mut self) -> Result<Element<'a>, DerError> {
        let cut = self.problem("it is cut off");
        let [tag, first, ..] = *self.rest else {
            return Err(cut);
        };
        if tag & 0x1f == 0x1f {
            return Err(self.problem("tags of more than one byte are not known here"));
        }
        let (header, length) = match first {
            0..=0x7f => (2, usize::from(first)),
            0x81..=0x84 => {
                let count = usize::from(first & 0x7f);
                let bytes = self.rest.get(2..2 + count).ok_or(cut)?;
                let length = bytes
                    .iter()
                    .fold(0_usize, |length, byte| (length << 8) | usize::from(*byte));
                if length < 0x80 || bytes[0] == 0 {
                    return Err(self.problem("its length is not in the shortest form"));
                }
                (2 + count, length)
            }
            _ => return Err(self.problem("its length is indefinite or too large")),
        };
        let end = header.checked_add(length).ok_or(cut)?;
        let whole = self.rest.get(..end).ok_or(cut)?;
        let element = Element {
            tag,
            whole,
            content: &whole[header..],
            offset: self.offset + header,
        };
        self.rest = &self.rest[end..];
        self.offset += end;
        Ok(element)
    }

    /// The next element, which must have this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Result<Element<'a>, DerError> {
        if self.rest.first() != Some(&tag) {
            return Err(self.problem("an element of another kind is expected here"));
        }
        self.next()
    }

    /// The next element when it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, DerError> {
        match self.rest.first() {
            Some(found) if *found == tag => self.next().map(Some),
            _ => Ok(None),
        }
    }

    /// Nothing may be left.
    pub(crate) fn finish(self) -> Result<(), DerError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(self.problem("something follows that does not belong here"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_take_the_shortest_form_only() {
        for (length, header) in [
            (0x7f, &[4, 0x7f][..]),
            (0x80, &[4, 0x81, 0x80]),
            (0x100, &[4, 0x82, 1, 0]),
        ] {
            let bytes = element(tag::OCTET_STRING, &[&vec![9; length]]);
            assert!(bytes.starts_with(header));
            let read = Reader::new(&bytes).next().unwrap();
            assert_eq!((read.tag, read.content.len()), (4, length));
        }
        for bad in [
            &[4, 0x81, 0x7f][..],
            &[4, 0x82, 0, 0x80],
            &[4, 0x80],
            &[4, 2, 0],
            &[0x1f, 0],
            &[4],
        ] {
            assert!(Reader::new(bad).next().is_err(), "{bad:02x?}");
        }
    }

    #[test]
    fn places_are_told_from_the_start() {
        let bytes = sequence(&[&sequence(&[&element(tag::INTEGER, &[&[1]])])]);
        let mut outer = Reader::new(&bytes).expect(tag::SEQUENCE).unwrap().reader();
        let mut inner = outer.expect(tag::SEQUENCE).unwrap().reader();
        assert_eq!(inner.expect(tag::SET).unwrap_err().offset, 4);
        assert_eq!(inner.expect(tag::INTEGER).unwrap().content, [1]);
        assert!(inner.finish().is_ok() && outer.finish().is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = Reader::new(&bytes);
            let mut read = 0;
            while let Ok(element) = reader.next() {
                read += element.whole.len();
            }
            prop_assert!(read <= bytes.len());
        }
    }
}
