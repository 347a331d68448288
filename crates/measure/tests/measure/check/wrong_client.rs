//! Datagrams of correct and wrong clients, built from `docs/protocol.md` alone and described by `fixtures/check/clients.json`.

use std::f64::consts::TAU;
use std::net::SocketAddr;

use jamjam_core::echo::{DropReason, ObservedDatagram};
use jamjam_core::link::SealMistake;
use jamjam_core::time::Time;
use jamjam_measure::check::{CheckReport, ClientCheck};
use serde_json::Value;

/// A datagram as the server passes it to its observer.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) at: Time,
    pub(super) source: SocketAddr,
    pub(super) bytes: Vec<u8>,
    pub(super) counter: Option<u64>,
    pub(super) drop_reason: Option<DropReason>,
    pub(super) mistake: Option<SealMistake>,
}

impl Sent {
    pub(super) fn observed(&self) -> ObservedDatagram<'_> {
        let Self { at, source, ref bytes, counter, drop_reason, mistake } = *self;
        ObservedDatagram { at, source, dst_ip: None, bytes, counter, drop_reason, mistake }
    }
}

/// What is found about all clients that have sent these datagrams.
pub(super) fn check<'a>(sent: impl IntoIterator<Item = &'a Sent>) -> CheckReport {
    let mut check = ClientCheck::default();
    sent.into_iter().for_each(|datagram| check.on_datagram(datagram.observed()));
    check.report()
}

/// The clients of the table.
pub(super) fn clients() -> Vec<Client> {
    let table: Value = serde_json::from_str(include_str!("../../../../../fixtures/check/clients.json")).unwrap();
    let rows = table["clients"].as_array().unwrap().iter();
    rows.map(|row| Client { row: row.clone(), defaults: table["defaults"].clone() }).collect()
}

/// The client of the table with this name.
pub(super) fn client(name: &str) -> Client {
    clients().into_iter().find(|client| client.name() == name).expect(name)
}

/// A row of the table.
pub(super) struct Client {
    pub(super) row: Value,
    defaults: Value,
}

impl Client {
    pub(super) fn name(&self) -> &str {
        self.row["name"].as_str().unwrap()
    }

    /// Rule and severity of each expected finding.
    pub(super) fn expected(&self) -> Vec<(String, String)> {
        let expected = self.row["expect"].as_object().unwrap().iter();
        expected.map(|(rule, severity)| (rule.clone(), severity.as_str().unwrap().to_owned())).collect()
    }

    fn get(&self, key: &str) -> &Value {
        self.row.get(key).unwrap_or_else(|| &self.defaults[key])
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.get(key).as_f64()
    }

    fn text(&self, key: &str) -> &str {
        self.get(key).as_str().unwrap_or("")
    }

    fn info(&self, key: &str) -> Option<u64> {
        match self.get("info").get(key) {
            Some(value) => value.as_u64(),
            None => self.number(if key == "channel_count" { "channels" } else { key }).map(|value| value as u64),
        }
    }

    /// One second of interleaved samples as bytes, after which the tone of each channel repeats.
    fn second_of_audio(&self) -> Vec<u8> {
        let [rate, channels] = ["sample_rate", "channels"].map(|key| self.number(key).unwrap() as u64);
        let [gain, offset] = ["gain", "offset"].map(|key| self.number(key).unwrap());
        let limit = if self.get("clip") == true { 1.0 } else { f64::MAX };
        let is_quantized = self.get("quantized") == true;
        let sample = |at: u64| {
            let cycles = 441 * (at % channels + 1) * (at / channels) % rate;
            let sample = (gain * (TAU * cycles as f64 / rate as f64).sin() + offset).clamp(-limit, limit);
            if is_quantized { (sample * 32_768.0).round() / 32_768.0 } else { sample }
        };
        let (encode, mut bytes) = (self.encoder(), Vec::new());
        (0..rate * channels).for_each(|at| encode(sample(at), &mut bytes));
        bytes
    }

    /// The bytes of a sample.
    fn encoder(&self) -> fn(f64, &mut Vec<u8>) {
        match self.text("encoding") {
            "f32le" => |sample, bytes| bytes.extend((sample as f32).to_le_bytes()),
            "f32be" => |sample, bytes| bytes.extend((sample as f32).to_be_bytes()),
            "unscaled" => |sample, bytes| bytes.extend(((sample * 32_768.0).round() as f32).to_le_bytes()),
            "f64le" => |sample, bytes| bytes.extend(sample.to_le_bytes()),
            "s16le" => |sample, bytes| bytes.extend(((sample * 32_767.0) as i16).to_le_bytes()),
            "s16be" => |sample, bytes| bytes.extend(((sample * 32_767.0) as i16).to_be_bytes()),
            "s32le" => |sample, bytes| bytes.extend(((sample * 2_147_483_647.0) as i32).to_le_bytes()),
            "u8" => |sample, bytes| bytes.push((sample * 127.0 + 128.0) as u8),
            other => panic!("{other}"),
        }
    }

    fn latency_info(&self) -> Vec<u8> {
        let codec = self.get("info")["codec"].as_str().unwrap_or("pcm");
        let mut payload = vec![0; 20];
        for key in ["frame_size", "sample_rate"] {
            let value = self.info(key).unwrap() as u32;
            payload.extend(if self.text("info_order") == "little" { value.to_le_bytes() } else { value.to_be_bytes() });
        }
        payload.push(codec.len() as u8);
        payload.extend(codec.bytes());
        payload.extend(self.info("channel_count").map(|count| count as u8));
        payload.truncate(self.number("info_len").map_or(usize::MAX, |len| len as usize));
        payload
    }

    /// All datagrams in the order of sending.
    pub(super) fn datagrams(&self) -> Vec<Sent> {
        let mut out = Outbox::new(self.text("link"));
        let second = self.second_of_audio();
        let [rate, frame, seconds, ppm, group] =
            ["sample_rate", "frame_size", "seconds", "ppm", "group"].map(|key| self.number(key).unwrap());
        let due_s = self.number("packet_us").map_or(frame / rate, |us| us / 1e6) / (1.0 + ppm / 1e6);
        let payload_len = (second.len() as f64 / rate * frame) as usize;
        let [first, step, extra_len, flags] =
            ["first_sequence", "sequence_step", "payload_extra", "flags"].map(|key| self.number(key).unwrap() as i32);
        let mask = u32::MAX >> (32 - self.number("sequence_bits").unwrap() as u32);
        let timestamp_step = self.number("timestamp_step").unwrap_or(frame) as u32;
        let is_little = ["sequence_order", "timestamp_order"].map(|key| self.text(key) == "little");
        let word = |value: u32, is_little| if is_little { value.swap_bytes() } else { value };
        let is_empty = self.get("payload_empty") == true;
        let special = match self.text("special") {
            "nan" => Some(f32::NAN),
            "infinity" => Some(f32::INFINITY),
            _ => None,
        };
        let [restart_s, port_change_s] = ["restart_s", "port_change_s"].map(|key| self.number(key).unwrap_or(f64::MAX));
        let mut restart = Some((restart_s / due_s) as u64);
        let mut timers = ["keepalive_s", "ping_s", "info_s", "extra"].map(|key| {
            let interval = if key == "extra" { Some(1.0) } else { self.number(key) };
            (key, interval.unwrap_or(f64::MAX), if interval.is_some() { 0.0 } else { f64::MAX })
        });
        let [is_shared, drops] = ["sequence_shared", "drops"].map(|key| self.get(key) == true);
        // How far the sequence is ahead of the timestamp.
        let (mut index, mut ahead) = (0_u32, 0_i32);
        for n in 0..(seconds / due_s) as u64 {
            let at_s = (n / group as u64 * group as u64) as f64 * due_s;
            out.at(Time::from_nanos(1_000_000_000 + (at_s * 1e9).round() as u64), at_s >= port_change_s);
            for (key, interval, next) in &mut timers {
                if at_s < *next {
                    continue;
                }
                *next += *interval;
                ahead += i32::from(is_shared);
                match *key {
                    "keepalive_s" => out.send(4, (0, 0, 0), &[]),
                    "ping_s" => {
                        let clock_us = 1_700_000_000_000_000 + (at_s * 1e6) as u64;
                        let payload = [&clock_us.to_be_bytes()[..], &[0; 4]].concat();
                        out.send(5, (0, 0, 0), &payload[..self.number("ping_len").unwrap() as usize]);
                    }
                    "info_s" => out.send(7, (0, 0, 0), &self.latency_info()),
                    _ => out.raw(self.text("extra"), self.text("extra_reason")),
                }
            }
            if restart.take_if(|restart| *restart == n).is_some() {
                index = 0;
            }
            let sequence = first.wrapping_add(step.wrapping_mul(index.cast_signed() + ahead)).cast_unsigned() & mask;
            let timestamp = timestamp_step.wrapping_mul(index);
            index += 1;
            // The sound device was too fast for the network: of 48 packets, 12 are sent.
            if drops && n % 1_000 >= 500 && n % 1_000 < 548 && n % 4 > 0 {
                ahead -= 1;
                continue;
            }
            let start = n as usize * payload_len % second.len();
            let mut payload = Vec::with_capacity(payload_len + 4);
            payload.extend(&second[start..(start + payload_len).min(second.len())]);
            payload.extend(&second[..payload_len - payload.len()]);
            if let Some(value) = special.filter(|_| n % 100 == 50) {
                payload[..4].copy_from_slice(&value.to_le_bytes());
            }
            payload.resize(if is_empty { 0 } else { payload_len + extra_len as usize }, 0);
            out.send(1, (word(sequence, is_little[0]), word(timestamp, is_little[1]), flags as u16), &payload);
        }
        out.sent
    }
}

/// Sends packets on a link, and knows what a server with keys does with them.
struct Outbox<'a> {
    link: &'a str,
    now: Time,
    port: u16,
    next_control: Time,
    controls: u32,
    sealed: u32,
    opened: u64,
    sent: Vec<Sent>,
}

impl<'a> Outbox<'a> {
    fn new(link: &'a str) -> Self {
        let (now, next_control) = (Time::ZERO, Time::ZERO);
        Self { link, now, port: 40_000, next_control, controls: 0, sealed: 0, opened: 0, sent: Vec::new() }
    }

    fn at(&mut self, now: Time, is_port_changed: bool) {
        (self.now, self.port) = (now, if is_port_changed { 40_001 } else { 40_000 });
        // A client without an answer repeats CONTROL forever. With one, it sends a sealed KEEPALIVE.
        let max_controls = match self.link {
            "sealed" | "wrong_header" | "one_counter" | "plain_after_keys" => 1,
            "wrong_keys" | "early_audio" => u32::MAX,
            _ => 0,
        };
        if self.controls < max_controls && now >= self.next_control {
            self.next_control = now + std::time::Duration::from_millis(250);
            self.controls += 1;
            self.push([&[1, 3][..], &[0; 10], &[1, 1], &[7; 32]].concat(), false, None);
            match self.link {
                "early_audio" => {}
                "wrong_keys" => self.push(packet(4, (0, 0, 1), &[9; 24]), false, Some(DropReason::NoKeys)),
                _ => self.push(packet(4, (0, 0, 1), &[]), true, None),
            }
        }
    }

    fn send(&mut self, packet_type: u8, (sequence, timestamp, flags): (u32, u32, u16), payload: &[u8]) {
        let plain = packet(packet_type, (sequence, timestamp, flags), payload);
        let opened = packet(packet_type, (sequence, timestamp, flags | 1), payload);
        let sealed = || [&opened[..12], &[0; 8], payload, &[0; 16]].concat();
        self.sealed += 1;
        let is_audio = packet_type == 1;
        match self.link {
            "plain" | "early_audio" => self.push(plain, false, None),
            "required" => self.push(plain, false, is_audio.then_some(DropReason::Plain)),
            "plain_after_keys" => self.push(plain, false, Some(DropReason::Plain)),
            "wrong_keys" => {}
            "no_keys" => self.push(sealed(), false, (!is_audio).then_some(DropReason::NoKeys)),
            "wrong_header" if is_audio => self.push(sealed(), false, Some(DropReason::NotOpened)),
            "one_counter" if self.sealed > 1 => self.push(sealed(), false, Some(DropReason::Replayed)),
            _ => self.push(opened, true, None),
        }
    }

    fn raw(&mut self, hex: &str, reason: &str) {
        if !hex.is_empty() {
            let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
            let reason = DropReason::ALL.into_iter().map(|(one, ..)| one).find(|one| one.name() == reason);
            self.push(bytes, false, reason);
        }
    }

    fn push(&mut self, bytes: Vec<u8>, is_opened: bool, drop_reason: Option<DropReason>) {
        let source = SocketAddr::from(([192, 0, 2, 7], self.port));
        let counter = is_opened.then_some(self.opened);
        self.opened += u64::from(is_opened);
        self.sent.push(Sent { at: self.now, source, bytes, counter, drop_reason, mistake: None });
    }
}

fn packet(packet_type: u8, (sequence, timestamp, flags): (u32, u32, u16), payload: &[u8]) -> Vec<u8> {
    [&[1, packet_type][..], &sequence.to_be_bytes(), &timestamp.to_be_bytes(), &flags.to_be_bytes(), payload].concat()
}
