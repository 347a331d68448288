//! The caps of the signaling server, in one table, which is part of `docs/signaling-server.md`.

use std::fmt::Write;

use super::options::signaling_limits::{
    DEFAULT_CONNECTION_RATE, DEFAULT_MAX_CONNECTIONS, DEFAULT_MAX_CONNECTIONS_PER_ADDRESS,
};
use super::values::{format_request_rate, format_size};
use crate::io::http::login::FAILURE_RATE;
use crate::io::signaling::broadcast_http::BroadcastHttpConfig;
use crate::memory_budget::DEFAULT_MEMORY_BUDGET;
use crate::signaling::broadcast::DEFAULT_MAX_PAYLOAD_BYTES;
use crate::signaling::{
    ALL_WRONG_CODES_RATE, MAX_POSTPONEMENT, REQUESTED_BYTES_PER_SECOND, SignalingLimits, WRONG_CODE_RATE,
    WRONG_PASSWORD_RATE,
};

/// What is capped, the option or variable, the value, what happens above it, its counter in `/metrics`, and the attack of
/// `benches/attacks.py` that needs it.
type Cap = (&'static str, &'static str, String, &'static str, &'static str, &'static str);

/// The caps, first those of connections.
#[rustfmt::skip]
fn caps() -> [Cap; 20] {
    let limits = SignalingLimits::default();
    let http = BroadcastHttpConfig::default();
    let rate = |rate: Option<_>| rate.map_or_else(String::new, format_request_rate);
    let per_second = limits.message_rate.unwrap_or_default();
    let cost = limits.cost_rate.unwrap_or_default();
    let (wait, burst) = (MAX_POSTPONEMENT.as_secs(), 2 + MAX_POSTPONEMENT.as_secs());
    let requested = format_size(REQUESTED_BYTES_PER_SECOND);
    [
        ("connections", "`--max-connections`", DEFAULT_MAX_CONNECTIONS.to_string(), "new ones wait", "", "`headers`"),
        ("connections of an address", "`--max-connections-per-address`", DEFAULT_MAX_CONNECTIONS_PER_ADDRESS.to_string(), "closed, or 429", "`connections_rejected_address_limit`", "`silent`"),
        ("new connections of an address", "`RATE_LIMIT_CONNECTIONS`", format_request_rate(DEFAULT_CONNECTION_RATE), "closed, or 429", "`connections_rejected_address_limit`", "`churn`"),
        ("TLS handshake and head of the first request", "", "10 s".to_owned(), "closed", "`handshake_timeouts`", "`headers`, `tls`"),
        ("messages of a connection", "`--rate-limit-messages`", format!("{per_second}/s, twice as many at once; 1 more for each full 16 KiB"), "closed 1008", "`closed_message_rate`", "`long-messages`"),
        ("pings, pongs and fragments of a connection", "`--rate-limit-messages`", format!("{per_second}/s, {burst} times as many at once"), "closed 1008", "`closed_frame_rate`", ""),
        ("[cost](#cost) of the messages of an address", "`RATE_LIMIT_COST`", format!("{cost}/s, twice as many at once; a wait of at most {wait} s"), "read later", "`messages_postponed`", "`json`, `flood`"),
        ("bytes of a message", "`--max-payload` (broadcast)", format!("{}, with a token {}", format_size(limits.max_message_bytes as u64), format_size(DEFAULT_MAX_PAYLOAD_BYTES as u64)), "closed 1009", "`closed_message_too_big`", "`bodies`"),
        ("depth and values of a message", "", "128 levels, 100000 values".to_owned(), "ignored", "`messages_ignored`", "`json`"),
        ("lists on request of an address", "", format!("{requested}/s"), "an error, or no reply (webrtc)", "`requests_limited`", "`sync`"),
        ("joins of an address, with their messages to others", "", format!("{requested}/s, 32 times as much at once"), "closed 1013, or an error", "`requests_limited`", "`joins`, `join`"),
        ("rooms of an address, in each dialect", "", limits.max_rooms_per_address.to_string(), "closed 1013, or an error", "`requests_limited`", "`passwords`"),
        ("wrong passwords of an address", "", rate(Some(WRONG_PASSWORD_RATE)), "an error", "`requests_limited`", "`guessing`"),
        ("wrong codes of an address; of all", "", format!("{}; {}", format_request_rate(WRONG_CODE_RATE), format_request_rate(ALL_WRONG_CODES_RATE)), "not checked, except of known addresses", "`codes_not_checked`", "`guessing`"),
        ("failed logins of an address", "", rate(Some(FAILURE_RATE)), "429", "`logins_rate_limited`", "`guessing`"),
        ("token requests of an address", "`RATE_LIMIT_TOKEN`", rate(http.token_limit), "429", "`requests_limited`", ""),
        ("posts of an address", "`RATE_LIMIT_POST`", rate(http.post_limit), "429", "`requests_limited`", "`posts-burst`"),
        ("parameters of a bbx room", "", "4096, a quarter from one address".to_owned(), "`TOO_MANY_PARAMETERS`", "`parameters_rejected`", "`parameters`"),
        ("queue of a reader", "", "4096 messages, 16 MiB, 10 s for the oldest".to_owned(), "closed 1013", "`closed_slow_reader`", "`slow-readers`"),
        ("memory of all clients, also for delayed messages", "`--memory-budget`", format!("{}, an eighth for one address; half of both for what stays", format_size(DEFAULT_MEMORY_BUDGET)), "closed 1013, or refused", "`closed_for_memory`", "`bodies`, `delayed`"),
    ]
}

/// The table of the caps in Markdown.
pub fn cap_table() -> String {
    let mut table = String::from("\n| cap | option | value | above | counter | attack |\n|---|---|---|---|---|---|\n");
    for (what, option, value, above, counter, attack) in caps() {
        // Writing to a string cannot fail.
        let _ = writeln!(table, "| {what} | {option} | {value} | {above} | {counter} | {attack} |");
    }
    table
}
