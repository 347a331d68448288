//! The session stream: versions offered, the version chosen, the bitrate wished.

use super::super::fields::{Fields, Malformed, Parameters, VERSIONS, put_parameters};
use super::super::varint;
use super::{Body, Flavour};

/// The key of the parameter that names the path over raw QUIC; over WebTransport the CONNECT request does.
pub const PATH_PARAMETER: u64 = 0x01;

/// What a client says first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionClient {
    /// The versions it speaks.
    pub versions: Vec<u64>,
    /// Among them the path, over raw QUIC.
    pub parameters: Parameters,
}

impl SessionClient {
    /// The path that it asks for, or why that is none.
    pub fn path(&self) -> Result<&str, &'static str> {
        let named = self.parameters.iter().find(|(key, _)| *key == PATH_PARAMETER);
        let (_, value) = named.ok_or("the set-up names no path")?;
        std::str::from_utf8(value).map_err(|_| "the path in the set-up is no UTF-8")
    }
}

impl Body for SessionClient {
    fn put(&self, _: Flavour, to: &mut Vec<u8>) {
        varint::write(self.versions.len() as u64, to);
        for version in &self.versions {
            varint::write(*version, to);
        }
        put_parameters(&self.parameters, to);
    }

    fn take(_: Flavour, fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        Ok(Self { versions: fields.numbers("versions", VERSIONS)?, parameters: fields.parameters()? })
    }
}

/// What a server answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionServer {
    /// The version chosen.
    pub version: u64,
    /// None of them is used here.
    pub parameters: Parameters,
}

impl Body for SessionServer {
    fn put(&self, _: Flavour, to: &mut Vec<u8>) {
        varint::write(self.version, to);
        put_parameters(&self.parameters, to);
    }

    fn take(_: Flavour, fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        Ok(Self { version: fields.number("a version")?, parameters: fields.parameters()? })
    }
}

/// What either may say later on the session stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionUpdate {
    /// Bits a second.
    pub bitrate: u64,
}

impl Body for SessionUpdate {
    fn put(&self, _: Flavour, to: &mut Vec<u8>) {
        varint::write(self.bitrate, to);
    }

    fn take(_: Flavour, fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        Ok(Self { bitrate: fields.number("a bitrate")? })
    }
}
