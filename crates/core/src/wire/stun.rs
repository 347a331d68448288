//! STUN (RFC 8489): a client obtains its mapped address from the echo server's UDP port.
//!
//! Only Binding requests are supported, and credentials are not verified. A request starts with `00 01`, so it is never a jamjam packet
//! (version 1). A success response starts with `01 01`, which parses as AUDIO: a client takes a datagram for a response only if it contains the
//! magic cookie and the transaction ID of a request of its own.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use thiserror::Error;

/// Length of a STUN header in bytes.
pub const HEADER_LEN: usize = 20;

/// Bytes 4 to 7 of every STUN message (RFC 8489, section 5).
pub const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// Maximum length of a message in bytes: the minimum MTU of IPv6 (RFC 8489, section 6.1).
pub const MAX_MESSAGE_LEN: usize = 1_280;

/// Matches a response to its request.
pub type TransactionId = [u8; 12];

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_INDICATION: u16 = 0x0011;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const MAPPED_ADDRESS: u16 = 0x0001;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const FINGERPRINT: u16 = 0x8028;

/// Why a datagram that starts like a STUN request cannot be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StunError {
    /// Shorter than a header.
    #[error("STUN message of {0} bytes is shorter than the 20-byte header")]
    TooShort(usize),
    /// Longer than [`MAX_MESSAGE_LEN`].
    #[error("STUN message of {0} bytes exceeds the maximum of 1280 over UDP")]
    TooLong(usize),
    /// The length field is not a multiple of 4 or does not match the datagram's length.
    #[error("STUN length field is {length}, but {found} bytes follow the header")]
    Length {
        /// Value of the length field.
        length: u16,
        /// Bytes after the header.
        found: usize,
    },
    /// Neither a Binding request nor a Binding indication.
    #[error("unsupported STUN type {0:#06x}; only Binding requests are supported")]
    Type(u16),
    /// An attribute ends beyond the message.
    #[error("STUN attribute {attribute_type:#06x} of {len} bytes ends beyond the message")]
    Attribute {
        /// The attribute's type.
        attribute_type: u16,
        /// The attribute's length.
        len: u16,
    },
    /// FINGERPRINT is wrong or not the last attribute.
    #[error("STUN FINGERPRINT is wrong or not the last attribute")]
    Fingerprint,
}

/// Whether a STUN response is an error response.
pub fn is_error_response(response: &[u8]) -> bool {
    response.starts_with(&BINDING_ERROR.to_be_bytes())
}

/// The code and the reason phrase of an error response (RFC 8489, section 14.8). `None` for other messages.
pub fn error_response(response: &[u8]) -> Option<(u16, String)> {
    parse_header(response).ok().filter(|_| is_error_response(response))?;
    let mut error = None;
    for_each_attribute(response, |attribute_type, value| {
        if let (ERROR_CODE, Some(([_, _, class, number], reason))) = (attribute_type, value.split_first_chunk()) {
            let reason = String::from_utf8_lossy(reason).into_owned();
            error.get_or_insert((u16::from(class & 7) * 100 + u16::from(*number), reason));
        }
    })
    .ok()?;
    error
}

/// Whether `datagram` is a STUN message and not a jamjam packet. The first byte of a STUN message is 0, and bytes 4 to 7 are the
/// magic cookie. RFC 3489 messages have no cookie and are not detected.
pub fn is_stun(datagram: &[u8]) -> bool {
    datagram.first() == Some(&0) && datagram.get(4..8) == Some(&MAGIC_COOKIE)
}

/// Whether `datagram` is a STUN message, responses included. [`super::parse_packet`] would parse a success response as AUDIO.
pub fn is_message(datagram: &[u8]) -> bool {
    let is_response = [BINDING_SUCCESS, BINDING_ERROR].iter().any(|kind| datagram.starts_with(&kind.to_be_bytes()));
    let length = (datagram.len().wrapping_sub(HEADER_LEN) as u16).to_be_bytes();
    is_stun(datagram) || is_response && datagram.get(2..4) == Some(&length) && datagram.get(4..8) == Some(&MAGIC_COOKIE)
}

/// Maximum number of unknown attributes listed in a response. If a request contains more unknown attributes, the response omits the
/// remaining ones.
const MAX_UNKNOWN_ATTRIBUTES: usize = 16;

/// Comprehension-required attributes (below 0x8000) of RFC 8489. Credentials are accepted without verification, because the server has
/// no passwords.
const KNOWN_ATTRIBUTES: [u16; 11] = [
    MAPPED_ADDRESS,
    0x0006, // USERNAME
    0x0008, // MESSAGE-INTEGRITY
    ERROR_CODE,
    UNKNOWN_ATTRIBUTES,
    0x0014, // REALM
    0x0015, // NONCE
    0x001c, // MESSAGE-INTEGRITY-SHA256
    0x001d, // PASSWORD-ALGORITHM
    0x001e, // USERHASH
    XOR_MAPPED_ADDRESS,
];

/// A message from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StunMessage {
    /// A request, which requires a response.
    Request(BindingRequest),
    /// Keeps a NAT mapping alive and is never answered.
    Indication,
}

/// A Binding request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindingRequest {
    transaction: TransactionId,
    /// Whether the request has a FINGERPRINT. If the request has a FINGERPRINT, the response also contains one.
    has_fingerprint: bool,
    /// The first unknown comprehension-required attributes.
    unknown_attributes: Vec<u16>,
    /// Whether the datagram requests [`ReceivedCounts`], and when.
    counts_requested: Option<CountsRequestTime>,
    /// Whether the response contains the whole [`ServerReport`]. Otherwise, it contains only [`ReceivedCounts`].
    report_requested: bool,
    /// Length of the datagram in bytes.
    len: usize,
}

/// Parses a datagram for which [`is_stun`] is true. Any input gives a message or an error.
pub fn parse_message(datagram: &[u8]) -> Result<StunMessage, StunError> {
    let (message_type, transaction) = parse_header(datagram)?;
    if message_type != BINDING_REQUEST && message_type != BINDING_INDICATION {
        return Err(StunError::Type(message_type));
    }
    let mut request = BindingRequest { transaction, len: datagram.len(), ..BindingRequest::default() };
    request.has_fingerprint = for_each_attribute(datagram, |attribute_type, value| {
        if attribute_type == LOSS_REPORT {
            // Unknown values count as a run boundary.
            let is_during_run = value.first() == Some(&(CountsRequestTime::DuringRun as u8));
            let time = if is_during_run { CountsRequestTime::DuringRun } else { CountsRequestTime::RunBoundary };
            request.counts_requested = Some(time);
            request.report_requested = value.get(1) == Some(&REPORT_VERSION);
        }
        if attribute_type < 0x8000
            && !KNOWN_ATTRIBUTES.contains(&attribute_type)
            && request.unknown_attributes.len() < MAX_UNKNOWN_ATTRIBUTES
        {
            request.unknown_attributes.push(attribute_type);
        }
    })?;
    Ok(if message_type == BINDING_REQUEST { StunMessage::Request(request) } else { StunMessage::Indication })
}

impl BindingRequest {
    /// If the response should contain [`ReceivedCounts`], returns when they were requested.
    pub fn counts_requested(&self) -> Option<CountsRequestTime> {
        self.counts_requested.filter(|_| self.unknown_attributes.is_empty())
    }

    /// The response to `source`: its mapped address, and `report`, of which a request of version 1 gets only the counts. The report is omitted
    /// if it would make the response longer than the request. If the request has unknown attributes, the response is error 420 and lists them.
    pub fn respond(&self, source: SocketAddr, report: Option<&ServerReport>) -> Vec<u8> {
        let mut message = if self.unknown_attributes.is_empty() {
            self.success(source, report)
        } else {
            let mut message = start_message(BINDING_ERROR, self.transaction);
            // Error code 420. Its reason phrase is empty to keep the response short.
            push_attribute(&mut message, ERROR_CODE, &[0, 0, 4, 20]);
            let unknown: Vec<u8> = self.unknown_attributes.iter().flat_map(|unknown| unknown.to_be_bytes()).collect();
            push_attribute(&mut message, UNKNOWN_ATTRIBUTES, &unknown);
            message
        };
        if self.has_fingerprint {
            push_fingerprint(&mut message);
        }
        message
    }

    /// Adds `report` unless the response would become longer than the request.
    fn success(&self, source: SocketAddr, report: Option<&ServerReport>) -> Vec<u8> {
        let mut message = start_message(BINDING_SUCCESS, self.transaction);
        let mut value = encode_mapped_address(source);
        xor_mapped_address(&mut value, self.transaction);
        push_attribute(&mut message, XOR_MAPPED_ADDRESS, &value);
        let report_len = if self.report_requested { SERVER_REPORT_LEN } else { RECEIVED_COUNTS_LEN };
        let len = message.len() + 4 + report_len + if self.has_fingerprint { 8 } else { 0 };
        if let Some(report) = report.filter(|_| len <= self.len) {
            let mut value = report.encode();
            if !self.report_requested {
                value[..4].copy_from_slice(&RECEIVED_COUNTS_MAGIC);
            }
            push_attribute(&mut message, LOSS_REPORT, &value[..report_len]);
        }
        message
    }
}

/// When a client requests a [`ServerReport`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountsRequestTime {
    /// Before or after a run. The next run may use the same sequence numbers again.
    RunBoundary = 0,
    /// During a run. The sequence numbers continue.
    DuringRun = 1,
}

/// A Binding request that also requests a [`ServerReport`]. Servers that know only version 1 respond with [`ReceivedCounts`].
pub fn counts_request(transaction: TransactionId, time: CountsRequestTime) -> Vec<u8> {
    let mut message = binding_request(transaction);
    let mut placeholder = [0; PLACEHOLDER_LEN];
    (placeholder[0], placeholder[1]) = (time as u8, REPORT_VERSION);
    push_attribute(&mut message, LOSS_REPORT, &placeholder);
    push_fingerprint(&mut message);
    message
}

/// A Binding request without attributes, for any STUN server.
pub fn binding_request(transaction: TransactionId) -> Vec<u8> {
    start_message(BINDING_REQUEST, transaction)
}

/// Whether `datagram` is a response to this transaction. [`super::parse_packet`] would parse a response as AUDIO or reject its type.
pub fn is_response_to(datagram: &[u8], transaction: &TransactionId) -> bool {
    datagram.get(4..8) == Some(&MAGIC_COOKIE)
        && datagram.get(8..HEADER_LEN) == Some(transaction)
        && (datagram.starts_with(&BINDING_SUCCESS.to_be_bytes()) || datagram.starts_with(&BINDING_ERROR.to_be_bytes()))
}

/// The mapped address and the loss report in a response. An error response contains neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseAttributes {
    /// Mapped address: the source address that the server received the request from.
    pub mapped_address: Option<SocketAddr>,
    /// Number of packets that the server received from this address. Only jamjam-dev sends these counts, and they are ignored without a
    /// FINGERPRINT.
    pub received_counts: Option<ReceivedCounts>,
    /// The server's report, which contains the same counts. Servers that know only version 1 send no report.
    pub server: Option<ServerReport>,
}

impl ResponseAttributes {
    /// Parses a datagram for which [`is_response_to`] is true. `None` if the datagram is damaged.
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let (_, transaction) = parse_header(datagram).ok()?;
        let (mut attributes, mut plain) = (Self::default(), None);
        let has_fingerprint = for_each_attribute(datagram, |attribute_type, value| match attribute_type {
            XOR_MAPPED_ADDRESS => {
                let mut unmasked = value.to_vec();
                xor_mapped_address(&mut unmasked, transaction);
                attributes.mapped_address = attributes.mapped_address.or_else(|| decode_mapped_address(&unmasked));
            }
            MAPPED_ADDRESS => plain = plain.or_else(|| decode_mapped_address(value)),
            LOSS_REPORT => {
                attributes.server = attributes.server.or_else(|| ServerReport::from_bytes(value));
                let counts = attributes.server.map(|report| report.received);
                attributes.received_counts = counts.or_else(|| ReceivedCounts::from_bytes(value));
            }
            _ => {}
        })
        .ok()?;
        // Servers of RFC 3489 send only MAPPED-ADDRESS, which a NAT may have rewritten.
        attributes.mapped_address = attributes.mapped_address.or(plain);
        // The server's response has a FINGERPRINT, because our request has one. Without FINGERPRINT, bit errors are not detected.
        if !has_fingerprint {
            (attributes.received_counts, attributes.server) = (None, None);
        }
        Some(attributes)
    }
}

/// Attribute type of the loss report, from the first-come-first-served range (RFC 8489, section 18.3); not registered.
const LOSS_REPORT: u16 = 0xc0ec;

/// The second byte of the attribute's value in a request for a [`ServerReport`].
const REPORT_VERSION: u8 = 2;

/// Length of [`ReceivedCounts`] as the attribute's value in a response, in bytes.
const RECEIVED_COUNTS_LEN: usize = 20;

/// Length of a [`ServerReport`] as the attribute's value in a response, in bytes.
const SERVER_REPORT_LEN: usize = RECEIVED_COUNTS_LEN + 16 + 8 * MAX_RECENT_PAUSES;

/// Length of the attribute's value in a request, in bytes, of which all but the first two are zeros. It is the length of a report and an IPv6
/// client's mapped address together, so that the response is not longer than the request.
const PLACEHOLDER_LEN: usize = SERVER_REPORT_LEN + 24;

/// The first bytes of the attribute's value in a response that contains only [`ReceivedCounts`]. No request begins with these bytes.
const RECEIVED_COUNTS_MAGIC: [u8; 4] = *b"jam1";

/// The first bytes of the attribute's value in a response that contains a [`ServerReport`].
const SERVER_REPORT_MAGIC: [u8; 4] = *b"jam2";

/// Number of pauses in a [`ServerReport`].
pub(crate) const MAX_RECENT_PAUSES: usize = 8;

/// For each type of packet, how many distinct packets a server received from one address and port. All counts wrap at 2^32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceivedCounts {
    /// A number that identifies when the server started to count packets. Two responses are comparable if their epochs are equal.
    pub epoch: u32,
    /// AUDIO packets.
    pub audio: u32,
    /// `LATENCY_PING` packets.
    pub ping: u32,
    /// KEEPALIVE packets.
    pub keepalive: u32,
}

impl ReceivedCounts {
    fn from_bytes(value: &[u8]) -> Option<Self> {
        let (words, rest) = value.as_chunks::<4>();
        let [magic, epoch, audio, ping, keepalive] = *words else { return None };
        let [epoch, audio, ping, keepalive] = [epoch, audio, ping, keepalive].map(u32::from_be_bytes);
        (magic == RECEIVED_COUNTS_MAGIC && rest.is_empty()).then_some(Self { epoch, audio, ping, keepalive })
    }
}

/// A time in which the server did not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportedPause {
    /// Time from the end of the pause to the report.
    pub ended_ago: Duration,
    /// Length of the pause.
    pub length: Duration,
}

/// What a server reports to a client: received packets, server delay, and faults of the server's host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerReport {
    /// The packets that the server received from the client.
    pub received: ReceivedCounts,
    /// The configured server delay.
    pub delay: Duration,
    /// Number of pauses since the server's start.
    pub pauses: u32,
    /// Total length of all pauses.
    pub paused: Duration,
    /// Datagrams dropped since the server's start, because the receive buffer of the server's socket was full.
    pub dropped: u32,
    /// The last pauses, newest first. The length of unused entries is 0.
    pub recent: [ReportedPause; MAX_RECENT_PAUSES],
}

impl ServerReport {
    fn encode(&self) -> Vec<u8> {
        let Self { received: ReceivedCounts { epoch, audio, ping, keepalive }, .. } = *self;
        let magic = u32::from_be_bytes(SERVER_REPORT_MAGIC);
        let saturating = |number: u128| u32::try_from(number).unwrap_or(u32::MAX);
        let (delay, millis) = (saturating(self.delay.as_micros()), |time: Duration| saturating(time.as_millis()));
        let head = [magic, epoch, audio, ping, keepalive, delay, self.pauses, millis(self.paused), self.dropped];
        let recent = self.recent.iter().flat_map(|pause| [millis(pause.ended_ago), millis(pause.length)]);
        head.into_iter().chain(recent).flat_map(u32::to_be_bytes).collect()
    }

    fn from_bytes(value: &[u8]) -> Option<Self> {
        let value: &[u8; SERVER_REPORT_LEN] = value.try_into().ok()?;
        let mut words = value.as_chunks::<4>().0.iter().map(|word| u32::from_be_bytes(*word));
        let mut next = || words.next().unwrap_or(0);
        if next().to_be_bytes() != SERVER_REPORT_MAGIC {
            return None;
        }
        Some(Self {
            received: ReceivedCounts { epoch: next(), audio: next(), ping: next(), keepalive: next() },
            delay: Duration::from_micros(next().into()),
            pauses: next(),
            paused: Duration::from_millis(next().into()),
            dropped: next(),
            recent: std::array::from_fn(|_| ReportedPause {
                ended_ago: Duration::from_millis(next().into()),
                length: Duration::from_millis(next().into()),
            }),
        })
    }
}

/// The value of MAPPED-ADDRESS: family, port, address. An IPv4-mapped address is encoded as IPv4.
fn encode_mapped_address(source: SocketAddr) -> Vec<u8> {
    let (family, address) = match source.ip().to_canonical() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    [&[0, family][..], &source.port().to_be_bytes(), &address].concat()
}

/// The address in the value of MAPPED-ADDRESS.
fn decode_mapped_address(value: &[u8]) -> Option<SocketAddr> {
    let ([_, family, p0, p1], address) = value.split_first_chunk()?;
    let ip = match family {
        1 => IpAddr::from(<[u8; 4]>::try_from(address).ok()?),
        2 => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes([*p0, *p1])))
}

/// Masks or unmasks port and address. Masking hides port and address from NATs that rewrite addresses in payloads (RFC 8489, section 14.2).
fn xor_mapped_address(value: &mut [u8], transaction: TransactionId) {
    let key = || MAGIC_COOKIE.into_iter().chain(transaction);
    // The key begins anew for the address.
    for (byte, key) in value.iter_mut().skip(2).zip(key().take(2).chain(key())) {
        *byte ^= key;
    }
}

const MESSAGE_INTEGRITY: u16 = 0x0008;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;

/// Parses type and transaction ID. The caller checks the magic cookie.
fn parse_header(message: &[u8]) -> Result<(u16, TransactionId), StunError> {
    let Some((head, rest)) = message.split_first_chunk::<HEADER_LEN>() else {
        return Err(StunError::TooShort(message.len()));
    };
    if message.len() > MAX_MESSAGE_LEN {
        return Err(StunError::TooLong(message.len()));
    }
    let [t0, t1, l0, l1, _, _, _, _, transaction @ ..] = *head;
    let length = u16::from_be_bytes([l0, l1]);
    if usize::from(length) != rest.len() || !length.is_multiple_of(4) {
        return Err(StunError::Length { length, found: rest.len() });
    }
    Ok((u16::from_be_bytes([t0, t1]), transaction))
}

/// Calls `visit` with each attribute of a message that passed [`parse_header`]. Attributes after MESSAGE-INTEGRITY are skipped (RFC 8489,
/// section 14.5). Returns whether the message has a valid FINGERPRINT.
fn for_each_attribute<'a>(message: &'a [u8], mut visit: impl FnMut(u16, &'a [u8])) -> Result<bool, StunError> {
    let mut at = HEADER_LEN;
    let mut covered = true;
    // The lengths of the message and of each attribute with its padding are multiples of 4. Each attribute is therefore followed by no bytes or
    // by enough for another attribute header, and its padding never extends past the end of the message.
    while let Some(([k0, k1, l0, l1], rest)) = message[at..].split_first_chunk::<4>() {
        let (attribute_type, len) = (u16::from_be_bytes([*k0, *k1]), u16::from_be_bytes([*l0, *l1]));
        let value = rest.get(..usize::from(len)).ok_or(StunError::Attribute { attribute_type, len })?;
        let next = at + 4 + usize::from(len).next_multiple_of(4);
        if attribute_type == FINGERPRINT {
            let is_valid = next == message.len() && value == fingerprint_value(&message[..at]);
            return if is_valid { Ok(true) } else { Err(StunError::Fingerprint) };
        }
        if covered {
            visit(attribute_type, value);
        }
        covered &= !matches!(attribute_type, MESSAGE_INTEGRITY | MESSAGE_INTEGRITY_SHA256);
        at = next;
    }
    Ok(false)
}

/// Length of the longest message that is sent: a request for a [`ServerReport`].
const MAX_SENT_LEN: usize = HEADER_LEN + 4 + PLACEHOLDER_LEN + 8;

fn start_message(message_type: u16, transaction: TransactionId) -> Vec<u8> {
    let mut message = Vec::with_capacity(MAX_SENT_LEN);
    message.extend(message_type.to_be_bytes());
    message.extend([0, 0]);
    message.extend(MAGIC_COOKIE);
    message.extend(transaction);
    message
}

/// Appends an attribute, padded with zeros.
fn push_attribute(message: &mut Vec<u8>, attribute_type: u16, value: &[u8]) {
    message.extend(attribute_type.to_be_bytes());
    message.extend((value.len() as u16).to_be_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
    let length = (message.len() - HEADER_LEN) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

/// Appends FINGERPRINT; nothing may follow it.
fn push_fingerprint(message: &mut Vec<u8>) {
    let at = message.len();
    push_attribute(message, FINGERPRINT, &[0; 4]);
    let value = fingerprint_value(&message[..at]);
    message[at + 4..].copy_from_slice(&value);
}

/// Computes the value of the FINGERPRINT attribute of a message. `before` contains all bytes of the message before this attribute. The
/// length field in `before` must already include the attribute.
fn fingerprint_value(before: &[u8]) -> [u8; 4] {
    (crc32fast::hash(before) ^ 0x5354_554e).to_be_bytes()
}
