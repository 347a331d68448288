//! Checks the pseudo-headers of an HTTP/3 request (RFC 9114, section 4.3). The crate `web-transport-proto` keeps only the last of repeated
//! fields, and ignores the order of fields.

use std::ops::RangeInclusive;

// Why a request is malformed.
const MISPLACED: &str = "a pseudo-header follows a regular field";
const UNKNOWN: &str = "unknown pseudo-header, or one that is only allowed in responses";
const ENCODING: &str = "the field section is truncated or uses an unsupported encoding";

/// The pseudo-headers of a request: the name, the name in Huffman code (RFC 7541, appendix B), and the indexes of its fields in the static
/// table of QPACK (RFC 9204, appendix A).
const PSEUDO_HEADERS: [(&str, &[u8], RangeInclusive<u64>); 5] = [
    (":method", &[0xb9, 0x49, 0x53, 0x39, 0xe4], 15..=21),
    (":scheme", &[0xb8, 0x82, 0x4e, 0x5a, 0x4b], 22..=23),
    (":authority", &[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f], 0..=0),
    (":path", &[0xb9, 0x58, 0xd3, 0x3f], 1..=1),
    // RFC 9220. Not in the static table.
    (":protocol", &[0xb9, 0x5d, 0x87, 0x49, 0xc8, 0x7a, 0x3f], u64::MAX..=u64::MAX),
];

/// The indexes of `:status` in the static table. A request has no such field.
const STATUS_INDEXES: [RangeInclusive<u64>; 2] = [24..=28, 63..=71];

/// The first seven bits of a name in Huffman code that begins with a colon.
const HUFFMAN_COLON: u8 = 0x5c;

/// The index in [`PSEUDO_HEADERS`] of a name in the static table. `Ok(None)` for a regular field.
fn find_static(index: u64) -> Result<Option<usize>, &'static str> {
    if STATUS_INDEXES.iter().any(|indexes| indexes.contains(&index)) {
        return Err(UNKNOWN);
    }
    Ok(PSEUDO_HEADERS.iter().position(|(_, _, indexes)| indexes.contains(&index)))
}

/// The index in [`PSEUDO_HEADERS`] of a literal name. `Ok(None)` for a regular field.
fn find_literal(name: &[u8], is_huffman: bool) -> Result<Option<usize>, &'static str> {
    let mut known =
        PSEUDO_HEADERS.iter().map(|(plain, huffman, _)| if is_huffman { huffman } else { plain.as_bytes() });
    let found = known.position(|known| known == name);
    let is_pseudo =
        name.first().is_some_and(|first| if is_huffman { first >> 1 == HUFFMAN_COLON } else { *first == b':' });
    if found.is_none() && is_pseudo { Err(UNKNOWN) } else { Ok(found) }
}

/// Checks an encoded field section (RFC 9204, section 4.5). The error is the reason why the request is malformed.
pub(super) fn check(section: &[u8]) -> Result<(), String> {
    let mut reader = Reader(section);
    // Required insert count and base. The dynamic table is not used.
    reader.integer(8)?;
    reader.integer(7)?;
    let (mut seen, mut has_regular_field) = ([false; PSEUDO_HEADERS.len()], false);
    while let Some(first) = reader.0.first().copied() {
        let found = if first & 0b1100_0000 == 0b1100_0000 {
            find_static(reader.integer(6)?)?
        } else if first & 0b1101_0000 == 0b0101_0000 {
            let index = reader.integer(4)?;
            reader.string(8)?;
            find_static(index)?
        } else if first & 0b1110_0000 == 0b0010_0000 {
            let name = reader.string(4)?;
            reader.string(8)?;
            find_literal(name, first & 0b0000_1000 != 0)?
        } else {
            return Err(ENCODING.to_owned());
        };
        let Some(pseudo_header) = found else {
            has_regular_field = true;
            continue;
        };
        if has_regular_field {
            return Err(MISPLACED.to_owned());
        }
        if std::mem::replace(&mut seen[pseudo_header], true) {
            return Err(format!("the pseudo-header {} occurs twice", PSEUDO_HEADERS[pseudo_header].0));
        }
    }
    Ok(())
}

/// The rest of a field section.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads an integer whose first byte has a prefix of `bits` bits (RFC 7541, section 5.1).
    fn integer(&mut self, bits: u32) -> Result<u64, &'static str> {
        let first = self.0.split_off_first().ok_or(ENCODING)?;
        let max = (1_u64 << bits) - 1;
        let mut value = u64::from(*first) & max;
        if value < max {
            return Ok(value);
        }
        for shift in (0..35).step_by(7) {
            let byte = self.0.split_off_first().ok_or(ENCODING)?;
            value += u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ENCODING)
    }

    /// Reads a string whose first byte has a prefix of `bits` bits. The first of these bits is set if the string is in Huffman code.
    fn string(&mut self, bits: u32) -> Result<&'a [u8], &'static str> {
        let len = self.integer(bits - 1)?;
        usize::try_from(len).ok().and_then(|len| self.0.split_off(..len)).ok_or(ENCODING)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const METHOD: &[u8] = &[0xcf];
    const SCHEME: &[u8] = &[0xd7];
    const AUTHORITY: &[u8] = b"\x50\x09localhost";
    const PATH: &[u8] = b"\x51\x05/echo";
    const PROTOCOL: &[u8] = b"\x27\x02:protocol\x0cwebtransport";
    /// `:protocol` in Huffman code, as Chromium sends it.
    const HUFFMAN_PROTOCOL: &[u8] = b"\x2f\x00\xb9\x5d\x87\x49\xc8\x7a\x3f\x0cwebtransport";
    /// `origin` from the static table, with a value.
    const ORIGIN: &[u8] = b"\x5f\x4b\x01x";

    fn section(fields: &[&[u8]]) -> Vec<u8> {
        [&[&[0, 0][..]], fields].concat().concat()
    }

    #[test]
    fn duplicate_misplaced_and_unknown_pseudo_headers_are_rejected() {
        let valid = [METHOD, SCHEME, AUTHORITY, PATH, PROTOCOL, ORIGIN];
        assert_eq!(check(&section(&valid)), Ok(()));
        assert_eq!(check(&section(&[METHOD, SCHEME, AUTHORITY, PATH, HUFFMAN_PROTOCOL, ORIGIN, ORIGIN])), Ok(()));
        // In each encoding of the name.
        for (field, name) in [
            (METHOD, ":method"),
            (b"\xd4", ":method"),
            (b"\x5f\x00\x03GET", ":method"),
            (SCHEME, ":scheme"),
            (AUTHORITY, ":authority"),
            (b"\x2f\x01\xb8\x3b\x53\x39\xec\x32\x7d\x7f\x01x", ":authority"),
            (b"\x25:path\x01/", ":path"),
            (HUFFMAN_PROTOCOL, ":protocol"),
        ] {
            let with = |at: usize| section(&[&valid[..at], &[field], &valid[at..]].concat());
            assert_eq!(check(&with(5)), Err(format!("the pseudo-header {name} occurs twice")), "{field:x?}");
            assert_eq!(check(&with(6)), Err(MISPLACED.to_owned()), "{field:x?}");
        }
        for field in
            [&b"\xd9"[..], b"\xff\x00", b"\x27\x00:status\x03200", b"\x24:foo\x00", b"\x2c\xb9\x00\x00\x00\x00"]
        {
            assert_eq!(check(&section(&[METHOD, field])), Err(UNKNOWN.to_owned()), "{field:x?}");
        }
        for field in [&b"\x80"[..], b"\x10", b"\x00", b"\x51", b"\x51\x05ab", b"\x3f", b"\xff\xff\xff\xff\xff\xff\xff"]
        {
            assert_eq!(check(&section(&[METHOD, field])), Err(ENCODING.to_owned()), "{field:x?}");
        }
        assert_eq!((check(&[]), check(&[0])), (Err(ENCODING.to_owned()), Err(ENCODING.to_owned())));
    }

    proptest! {
        #[test]
        fn every_section_has_a_result(section in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = check(&section);
        }
    }
}
