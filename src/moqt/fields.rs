//! What bodies of messages are made of: integers, strings, arrays, parameters. Reading is total, a count
//! or length over its limit is refused before anything else is read or reserved.

use thiserror::Error;

use super::varint;

/// Longest body of a message, and longest frame, in bytes.
pub const BODY_BYTES: usize = 1 << 20;
/// Most parts of a path.
pub const PATH_PARTS: usize = 64;
/// Most parameters of a message.
pub const PARAMETERS: usize = 64;
/// Most versions that a client may offer.
pub const VERSIONS: usize = 64;
/// Most suffixes that are announced at once.
pub const SUFFIXES: usize = 1_024;

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// The body ends within a field.
    #[error("the body ends within {0}")]
    Short(&'static str),
    /// A length that is over the limit.
    #[error("a length of {len} bytes, {most} at most")]
    Long {
        /// Bytes announced.
        len: u64,
        /// Bytes allowed.
        most: usize,
    },
    /// A count that is over the limit.
    #[error("{count} {what}, {most} at most")]
    Many {
        /// What is counted.
        what: &'static str,
        /// How many are announced.
        count: u64,
        /// How many are allowed.
        most: usize,
    },
    /// A string that is not UTF-8.
    #[error("{0} is not UTF-8")]
    Text(&'static str),
    /// A status that no announcement has.
    #[error("an announcement with status {0}")]
    Status(u64),
    /// A stream that ends within a message.
    #[error("the stream ends {0} bytes into a message")]
    Truncated(usize),
    /// A message that this flavour does not have.
    #[error("{0} does not exist in this flavour")]
    Foreign(&'static str),
}

/// Keys and values at the end of a message, in the order in which they came.
pub type Parameters = Vec<(u64, Vec<u8>)>;

/// What is left of a body.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Reads `body`.
    pub const fn new(body: &'a [u8]) -> Self {
        Self(body)
    }

    /// Whether nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An integer.
    pub fn number(&mut self, what: &'static str) -> Result<u64, Malformed> {
        let (value, len) = varint::read(self.0).ok_or(Malformed::Short(what))?;
        self.0 = &self.0[len..];
        Ok(value)
    }

    /// A length and as many bytes.
    pub fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], Malformed> {
        let len = self.number(what)?;
        let len = usize::try_from(len).map_err(|_| Malformed::Short(what))?;
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Malformed::Short(what))?;
        self.0 = rest;
        Ok(bytes)
    }

    /// A string.
    pub fn text(&mut self, what: &'static str) -> Result<String, Malformed> {
        std::str::from_utf8(self.bytes(what)?).map(str::to_owned).map_err(|_| Malformed::Text(what))
    }

    /// A count of at most `most` things.
    fn count(&mut self, what: &'static str, most: usize) -> Result<usize, Malformed> {
        let count = self.number(what)?;
        usize::try_from(count).ok().filter(|fits| *fits <= most).ok_or(Malformed::Many { what, count, most })
    }

    /// A count and as many strings.
    pub fn texts(&mut self, what: &'static str, most: usize) -> Result<Vec<String>, Malformed> {
        let count = self.count(what, most)?;
        (0..count).map(|_| self.text(what)).collect()
    }

    /// A count and as many integers.
    pub fn numbers(&mut self, what: &'static str, most: usize) -> Result<Vec<u64>, Malformed> {
        let count = self.count(what, most)?;
        (0..count).map(|_| self.number(what)).collect()
    }

    /// Parameters; none where the body ends.
    pub fn parameters(&mut self) -> Result<Parameters, Malformed> {
        if self.is_empty() {
            return Ok(Parameters::new());
        }
        let count = self.count("parameters", PARAMETERS)?;
        (0..count).map(|_| Ok((self.number("parameters")?, self.bytes("parameters")?.to_vec()))).collect()
    }
}

/// Appends a length and the bytes.
pub fn put_bytes(bytes: &[u8], to: &mut Vec<u8>) {
    varint::write(bytes.len() as u64, to);
    to.extend_from_slice(bytes);
}

/// Appends a count and the strings.
pub fn put_texts<S: AsRef<str>>(texts: &[S], to: &mut Vec<u8>) {
    varint::write(texts.len() as u64, to);
    for text in texts {
        put_bytes(text.as_ref().as_bytes(), to);
    }
}

/// Appends a count and the parameters.
pub fn put_parameters(parameters: &Parameters, to: &mut Vec<u8>) {
    varint::write(parameters.len() as u64, to);
    for (key, value) in parameters {
        varint::write(*key, to);
        put_bytes(value, to);
    }
}
