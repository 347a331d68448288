//! Parsing of quantities with units.

use std::time::Duration;

use jamjam_core::units::{parse_bit_rate, parse_duration, parse_or_off, parse_ratio, parse_size};

#[test]
fn duration_uses_its_unit_and_a_bare_number_the_default_unit() {
    for (text, nanos) in [
        ("3000", 3_000_000_000),
        ("5ms", 5_000_000),
        ("250us", 250_000),
        ("250µs", 250_000),
        ("7ns", 7),
        ("2 s", 2_000_000_000),
        ("1.5m", 90_000_000_000),
        ("2min", 120_000_000_000),
        ("1h", 3_600_000_000_000),
        ("2.666667ms", 2_666_667),
    ] {
        assert_eq!(parse_duration(text, "ms"), Ok(Duration::from_nanos(nanos)), "{text}");
    }
    assert_eq!(parse_duration("2.5", "s"), Ok(Duration::from_millis(2_500)));
}

#[test]
fn invalid_duration_is_rejected_with_an_example() {
    for (text, error) in [
        ("soon", "`soon` is not a number; expected a duration such as 5ms or 2s"),
        ("5 parsec", "unknown unit `parsec`; expected ns, us, ms, s, m or h"),
        ("999999999999h", "`999999999999h` is too large; the maximum is 584 years"),
    ] {
        assert_eq!(parse_duration(text, "ms").unwrap_err().to_string(), error);
    }
    for bad in ["", "-5ms", ".5s", "5.s", "1.2.3s", "1e3", "0x10"] {
        assert!(parse_duration(bad, "ms").is_err(), "{bad}");
    }
}

#[test]
fn ratio_is_a_percentage_and_equals_the_float_computed_from_counts() {
    for (text, ratio) in [("0%", 0.0), ("100%", 1.0), ("1", 0.01), ("0.5", 1.0 / 200.0), ("0.7%", 7.0 / 1_000.0)] {
        assert_eq!(parse_ratio(text), Ok(ratio), "{text}");
    }
    assert!(parse_ratio("100.1%").is_err() && parse_ratio("5ms").is_err());
}

#[test]
fn size_accepts_binary_and_decimal_multiples_of_bytes() {
    for (text, bytes) in [
        ("4096", 4_096),
        ("64MiB", 67_108_864),
        ("1.5KiB", 1_536),
        ("2MB", 2_000_000),
        ("16777215TiB", 16_777_215 << 40),
    ] {
        assert_eq!(parse_size(text), Ok(bytes), "{text}");
    }
    let error = parse_size("1XB").unwrap_err().to_string();
    assert_eq!(error, "unknown unit `XB`; expected B, KiB, MiB, GiB, TiB, kB, MB or GB");
    assert!(parse_size("99999999999TiB").is_err());
}

#[test]
fn bit_rate_uses_decimal_multiples_in_either_letter_case() {
    for (text, rate) in
        [("2Mbit", 2_000_000), ("500kbit", 500_000), ("1.5 Gbit", 1_500_000_000), ("9600bit", 9_600), ("0", 0)]
    {
        assert_eq!(parse_bit_rate(text), Ok(rate), "{text}");
    }
    for (text, error) in [
        // tc uses mbps for megabytes per second; other programs use it for megabits per second.
        ("2Mbps", "unknown unit `Mbps`; expected bit, kbit, mbit or gbit"),
        ("2", "`2` could be bits or megabits per second; use 2bit or 2mbit"),
        ("1,5mbit", "`1,5mbit`: use a decimal point, not a comma"),
        ("fast", "`fast` is not a number; expected a bit rate such as 64mbit or 500kbit"),
        ("18446744074gbit", "`18446744074gbit` is too large; the maximum is 18446744073gbit"),
    ] {
        assert_eq!(parse_bit_rate(text).unwrap_err().to_string(), error);
    }
}

#[test]
fn off_disables_a_limit() {
    assert_eq!(parse_or_off("off", parse_size), Ok(None));
    assert_eq!(parse_or_off("1KiB", parse_size), Ok(Some(1_024)));
    assert!(parse_or_off("of", parse_size).is_err());
}
