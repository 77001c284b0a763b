//! UTF-8 that arrives in pieces, refused at the first byte that cannot be.

use simdutf8::compat::from_utf8;

/// The unfinished character at the end of what was seen; at most three bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Utf8Stream {
    tail: [u8; 4],
    len: u8,
}

/// The bytes can no longer become UTF-8.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Invalid;

impl Utf8Stream {
    /// Checks the next bytes.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<(), Invalid> {
        while self.len > 0 {
            let Some((first, rest)) = bytes.split_first() else {
                return Ok(());
            };
            let len = usize::from(self.len);
            self.tail[len] = *first;
            bytes = rest;
            match std::str::from_utf8(&self.tail[..=len]) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_none() && error.valid_up_to() == 0 => {
                    self.len += 1;
                }
                Err(_) => return Err(Invalid),
            }
        }
        let Err(error) = from_utf8(bytes) else {
            return Ok(());
        };
        if error.error_len().is_some() {
            return Err(Invalid);
        }
        let rest = bytes.get(error.valid_up_to()..).unwrap_or_default();
        for (place, byte) in self.tail.iter_mut().zip(rest) {
            *place = *byte;
        }
        // An unfinished character is one to three bytes.
        self.len = u8::try_from(rest.len()).map_err(|_| Invalid)?;
        Ok(())
    }

    /// Whether what was seen ends with a whole character.
    pub(crate) fn is_complete(self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How many bytes were taken before the refusal, or all.
    fn refused_at(bytes: &[u8], chunk: usize) -> Option<usize> {
        let mut stream = Utf8Stream::default();
        for (at, part) in bytes.chunks(chunk).enumerate() {
            if stream.push(part).is_err() {
                return Some(at * chunk);
            }
        }
        (!stream.is_complete()).then_some(bytes.len())
    }

    #[test]
    fn refuses_at_the_first_impossible_byte() {
        for (bytes, at) in [
            (b"\xed\xa0\x80".as_slice(), 1),
            (b"\xf4\x90\x80\x80", 1),
            (b"\xc0\xaf", 0),
            (b"\xe0\x80", 1),
            (b"\xf0\x80", 1),
            (b"ab\xff", 2),
            (b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90", 12),
            (b"\xf0\x9f\x98", 3),
        ] {
            assert_eq!(refused_at(bytes, 1), Some(at), "{bytes:x?}");
        }
        assert_eq!(refused_at("κόσμε 😀".as_bytes(), 1), None);
    }

    proptest! {
        #[test]
        fn agrees_with_the_standard_library_however_it_is_cut(
            bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0xf0), Just(0x9f), Just(0x80)], 0..40),
            text in "\\PC{0,20}",
            chunk in 1_usize..9,
        ) {
            let mixed: Vec<u8> = text.bytes().chain(bytes.iter().copied()).collect();
            for bytes in [text.as_bytes(), &bytes, &mixed] {
                prop_assert_eq!(refused_at(bytes, chunk).is_none(), std::str::from_utf8(bytes).is_ok());
            }
        }
    }
}
