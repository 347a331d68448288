//! Parses and answers packets. This code is written only from the description of the protocol.

pub const AUDIO: u8 = 1;
pub const KEEPALIVE: u8 = 4;
pub const PING: u8 = 5;
pub const PONG: u8 = 6;
pub const INFO: u8 = 7;

#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    pub version: u8,
    pub kind: u8,
    pub sequence: u32,
    pub timestamp: u32,
    pub flags: u16,
    pub payload: Vec<u8>,
}

impl Packet {
    pub fn read(bytes: &[u8]) -> Self {
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        Self {
            version: bytes[0],
            kind: bytes[1],
            sequence: word(2),
            timestamp: word(6),
            flags: u16::from_be_bytes([bytes[10], bytes[11]]),
            payload: bytes[12..].to_vec(),
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.version, self.kind];
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.timestamp.to_be_bytes());
        bytes.extend(self.flags.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// The reply of a correct echo server, if any.
    pub fn reply(&self) -> Option<Self> {
        match self.kind {
            AUDIO | KEEPALIVE => Some(self.clone()),
            PING => {
                Some(Self { kind: PONG, timestamp: 0, flags: 0, payload: self.payload[..12].to_vec(), ..self.clone() })
            }
            _ => None,
        }
    }

    /// The packet's index in its stream, from 0 on. AUDIO begins with sequence 1; pings contain their number in the payload.
    pub fn index(&self) -> u32 {
        match self.kind {
            AUDIO => self.sequence - 1,
            PING => u32::from_be_bytes(self.payload[8..12].try_into().unwrap()),
            _ => self.sequence,
        }
    }

    pub fn samples(&self) -> Vec<f32> {
        assert_eq!(self.payload.len() % 4, 0);
        self.payload.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
    }
}
