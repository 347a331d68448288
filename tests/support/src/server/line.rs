//! Parses log lines, whose parts are separated by spaces.

/// `2024-01-15T10:30:00.000Z INFO Echo server listening on 0.0.0.0:5000`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub time: String,
    pub level: String,
    pub message: String,
}

impl Line {
    pub fn parse(text: &str) -> Self {
        let (time, rest) = text.split_once(' ').unwrap_or_else(|| panic!("no time in {text:?}"));
        let (level, message) = rest.split_once(' ').unwrap_or_else(|| panic!("no level in {text:?}"));
        assert!(is_timestamp(time), "{time:?} is not a time like 2024-01-15T10:30:00.000Z");
        Self { time: time.to_owned(), level: level.to_owned(), message: message.to_owned() }
    }

    pub fn level_and_message(&self) -> (&str, &str) {
        (&self.level, &self.message)
    }
}

fn is_timestamp(text: &str) -> bool {
    const SHAPE: &[u8] = b"dddd-dd-ddTdd:dd:dd.dddZ";
    let fits = |(shape, byte): (&u8, u8)| if *shape == b'd' { byte.is_ascii_digit() } else { byte == *shape };
    text.len() == SHAPE.len() && SHAPE.iter().zip(text.bytes()).all(fits)
}

#[derive(Clone, Debug)]
pub struct Stats {
    text: String,
    fields: Vec<(String, String)>,
}

impl Stats {
    /// Parses `Stats: received=100, sent=100, buffered=0` and the fields after it.
    pub fn parse(line: &Line) -> Self {
        assert_eq!(line.level, "INFO");
        let text = line.message.strip_prefix("Stats: ").unwrap_or_else(|| panic!("{:?}", line.message));
        let field = |field: &str| {
            let (name, value) = field.split_once('=').unwrap_or_else(|| panic!("no = in {field:?}"));
            (name.to_owned(), value.to_owned())
        };
        let fields: Vec<_> = text.split(", ").map(field).collect();
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names[..3], ["received", "sent", "buffered"], "{text}");
        Self { text: text.to_owned(), fields }
    }

    /// A counter; a counter that is not printed is zero.
    pub fn count(&self, name: &str) -> u64 {
        let value = self.fields.iter().find_map(|(field, value)| (field == name).then_some(value));
        value.map_or(0, |value| value.parse().unwrap_or_else(|_| panic!("{name} is {value:?}")))
    }

    /// The number of datagrams that arrived at the server: the sum of all outcome counters.
    pub fn arrivals(&self) -> u64 {
        const ANSWERED: &str =
            "received keepalives loop_checks pings stun_requests key_exchanges latency_infos ignored";
        let is_drop = |name: &str| {
            name == "kernel_dropped"
                || name.starts_with("dropped_") && !matches!(name, "dropped_at_stop" | "dropped_old_link")
        };
        let ends = |name: &str| is_drop(name) || ANSWERED.split(' ').any(|answered| answered == name);
        let counts = self.fields.iter().filter(|(name, _)| ends(name));
        counts.map(|(name, value)| value.parse::<u64>().unwrap_or_else(|_| panic!("{name} is {value:?}"))).sum()
    }
}

impl std::fmt::Display for Stats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}
