//! Parsing of quantities with units.

use std::time::Duration;

use jamjam_core::units::{parse_bit_rate, parse_duration, parse_or_off, parse_ratio, parse_size};

#[test]
fn duration_uses_its_unit_and_a_bare_number_the_default_unit() {
    let millis = |text| parse_duration(text, "ms").unwrap();
    assert_eq!(millis("3000"), Duration::from_secs(3));
    assert_eq!(millis("5ms"), Duration::from_millis(5));
    assert_eq!(millis("250us"), Duration::from_micros(250));
    assert_eq!(millis("250µs"), Duration::from_micros(250));
    assert_eq!(millis("7ns"), Duration::from_nanos(7));
    assert_eq!(millis("2s"), Duration::from_secs(2));
    assert_eq!(millis("2 s"), Duration::from_secs(2));
    assert_eq!(millis("1.5m"), Duration::from_secs(90));
    assert_eq!(millis("1h"), Duration::from_secs(3_600));
    assert_eq!(millis("0"), Duration::ZERO);
    assert_eq!(parse_duration("2.5", "s"), Ok(Duration::from_millis(2_500)));
}

#[test]
fn decimals_are_exact() {
    assert_eq!(parse_duration("0.1ms", "ms"), Ok(Duration::from_micros(100)));
    assert_eq!(parse_duration("2.666667ms", "ms"), Ok(Duration::from_nanos(2_666_667)));
}

#[test]
fn invalid_duration_is_rejected_with_an_example() {
    let error = |text| parse_duration(text, "ms").unwrap_err().to_string();
    assert_eq!(error("soon"), "`soon` is not a number; expected a duration such as 5ms or 2s");
    assert_eq!(error("-5ms"), "`-5ms` is not a number; expected a duration such as 5ms or 2s");
    assert_eq!(error(""), "`` is not a number; expected a duration such as 5ms or 2s");
    assert_eq!(error("5 parsec"), "unknown unit `parsec`; expected ns, us, ms, s, m or h");
    assert_eq!(error("999999999999h"), "`999999999999h` is too large; the maximum is 584 years");
    for bad in [".5s", "5.s", "1.2.3s", "1e3", "0x10"] {
        assert!(parse_duration(bad, "ms").is_err(), "{bad}");
    }
}

#[test]
fn ratio_is_a_percentage() {
    assert_eq!(parse_ratio("0%"), Ok(0.0));
    assert_eq!(parse_ratio("0"), Ok(0.0));
    assert_eq!(parse_ratio("100%"), Ok(1.0));
    assert_eq!((parse_ratio("1"), parse_ratio("0.5")), (Ok(0.01), Ok(0.005)));
    assert!(parse_ratio("100.1%").is_err());
    assert!(parse_ratio("5ms").is_err());
}

#[test]
fn ratio_equals_the_float_computed_from_counts() {
    assert_eq!(parse_ratio("0.5%"), Ok(1.0 / 200.0));
    assert_eq!(parse_ratio("0.1%"), Ok(1.0 / 1_000.0));
    assert_eq!(parse_ratio("0.7%"), Ok(7.0 / 1_000.0));
}

#[test]
fn size_accepts_binary_and_decimal_multiples_of_bytes() {
    assert_eq!(parse_size("4096"), Ok(4_096));
    assert_eq!(parse_size("64MiB"), Ok(67_108_864));
    assert_eq!(parse_size("1GiB"), Ok(1_073_741_824));
    assert_eq!(parse_size("1.5KiB"), Ok(1_536));
    assert_eq!(parse_size("2MB"), Ok(2_000_000));
    assert_eq!(parse_size("16777215TiB").map(|size| size >> 40), Ok(16_777_215));
    assert_eq!(
        parse_size("1XB").unwrap_err().to_string(),
        "unknown unit `XB`; expected B, KiB, MiB, GiB, TiB, kB, MB or GB"
    );
    assert!(parse_size("99999999999TiB").is_err());
}

#[test]
fn bit_rate_uses_decimal_multiples_in_either_letter_case() {
    assert_eq!(parse_bit_rate("64mbit"), Ok(64_000_000));
    assert_eq!(parse_bit_rate("2Mbit"), Ok(2_000_000));
    assert_eq!(parse_bit_rate("500kbit"), Ok(500_000));
    assert_eq!(parse_bit_rate("1.5 Gbit"), Ok(1_500_000_000));
    assert_eq!(parse_bit_rate("9600bit"), Ok(9_600));
    assert_eq!(parse_bit_rate("0"), Ok(0));
    let error = |text| parse_bit_rate(text).unwrap_err().to_string();
    // tc uses mbps for megabytes per second; other programs use it for megabits per second.
    assert_eq!(error("2Mbps"), "unknown unit `Mbps`; expected bit, kbit, mbit or gbit");
    assert_eq!(error("2"), "`2` could be bits or megabits per second; use 2bit or 2mbit");
    assert_eq!(error("1,5mbit"), "`1,5mbit`: use a decimal point, not a comma");
    assert_eq!(error("fast"), "`fast` is not a number; expected a bit rate such as 64mbit or 500kbit");
    assert_eq!(error("18446744074gbit"), "`18446744074gbit` is too large; the maximum is 18446744073gbit");
}

#[test]
fn off_disables_a_limit() {
    assert_eq!(parse_or_off("off", parse_size), Ok(None));
    assert_eq!(parse_or_off("1KiB", parse_size), Ok(Some(1_024)));
    assert!(parse_or_off("of", parse_size).is_err());
}
