//! Identities that nobody can guess: of rooms, of peers, and codes to be read out over the telephone.

use sha2::{Digest, Sha256};

/// Letters and digits that are not mistaken for each other.
const READABLE: &[u8; 31] = b"ABCDEFGHJKMNPQRSTUVWXYZ23456789";

/// Length of an invite code.
const INVITE_LEN: usize = 6;

/// Length of the invite codes that newer servers make.
const LONG_INVITE_LEN: usize = 9;

/// A source of names: SHA-256 of a key, which came in from outside, and a counter. Who does not know the key cannot tell the next
/// from those before.
pub(in crate::rooms) struct Names {
    key: [u64; 4],
    counter: u64,
}

impl Names {
    pub(in crate::rooms) fn new(key: [u64; 4]) -> Self {
        Self { key, counter: 0 }
    }

    fn next(&mut self) -> u64 {
        self.counter += 1;
        let mut digest = Sha256::new();
        for word in self.key.into_iter().chain([self.counter]) {
            digest.update(word.to_le_bytes());
        }
        let digest: [u8; 32] = digest.finalize().into();
        digest.iter().take(8).fold(0, |bits, byte| bits << 8 | u64::from(*byte))
    }

    /// Eight lower-case hexadecimal digits.
    pub(in crate::rooms) fn room(&mut self) -> String {
        format!("{:08x}", self.next() as u32)
    }

    /// Six letters and digits.
    pub(in crate::rooms) fn invite(&mut self) -> String {
        let mut bits = self.next();
        let mut letter = || {
            let letter = READABLE[(bits % READABLE.len() as u64) as usize];
            bits /= READABLE.len() as u64;
            char::from(letter)
        };
        (0..INVITE_LEN).map(|_| letter()).collect()
    }

    /// So many decimal digits, 19 at most.
    pub(in crate::rooms) fn code(&mut self, digits: usize) -> String {
        // All codes are equally likely but for one part in ten million million or less.
        let code = self.next() % 10_u64.pow(digits as u32);
        format!("{code:0digits$}")
    }

    /// A version 4 UUID (RFC 9562, section 5.4).
    pub(in crate::rooms) fn uuid(&mut self) -> String {
        let bits = u128::from(self.next()) << 64 | u128::from(self.next());
        let bits = bits & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
        let hex = format!("{bits:032x}");
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

/// Whether this could be an invite code.
pub(in crate::rooms) fn is_invite(name: &str) -> bool {
    name.len() == INVITE_LEN && is_readable(name)
}

/// Whether this could be an invite code of a newer server than ours.
pub(in crate::rooms) fn is_long_invite(name: &str) -> bool {
    name.len() == LONG_INVITE_LEN && is_readable(name)
}

fn is_readable(name: &str) -> bool {
    name.bytes().all(|byte| READABLE.contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_forms_and_differ() {
        let mut names = Names::new([1, 2, 3, 4]);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1_000 {
            let (room, invite, uuid) = (names.room(), names.invite(), names.uuid());
            assert!(room.len() == 8 && room.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{room}");
            assert!(is_invite(&invite), "{invite}");
            let version_and_variant = (uuid.as_bytes()[14], uuid.as_bytes()[19]);
            assert!(uuid.len() == 36 && matches!(version_and_variant, (b'4', b'8' | b'9' | b'a' | b'b')), "{uuid}");
            assert!(seen.insert(uuid));
        }
        // python3 -c 'import hashlib, struct; print(hashlib.sha256(struct.pack("<5Q", 1, 2, 3, 4, 1)).hexdigest()[:16])'
        assert_eq!(format!("{:016x}", Names::new([1, 2, 3, 4]).next()), "5897e478f7f8ab05");
        for digits in 4..=6 {
            let codes: Vec<String> = (0..100_000).map(|_| names.code(digits)).collect();
            assert!(codes.iter().all(|code| code.len() == digits && code.bytes().all(|byte| byte.is_ascii_digit())));
            // Each first digit about one time in ten.
            for first in "0123456789".chars() {
                let share = codes.iter().filter(|code| code.starts_with(first)).count();
                assert!((9_500..10_500).contains(&share), "{digits} digits, {first}: {share}");
            }
        }
        assert_ne!(Names::new([1, 2, 3, 5]).uuid(), Names::new([1, 2, 3, 4]).uuid());
        for other in ["ABC23", "ABC2345", "abc234", "ABCI23", "ABC0O1", "ÄBC23"] {
            assert!(!is_invite(other), "{other}");
        }
    }
}
