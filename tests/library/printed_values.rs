//! Values of options are printed as a user would type them.

use std::time::Duration;

use jamjam_dev::cli::values::{
    format_request_rate, format_size, parse_message_rate, parse_millis, parse_percent, parse_positive_or_off,
    parse_request_rate, parse_seconds,
};
use jamjam_dev::units::parse_size;

#[test]
fn durations_have_a_default_unit_and_printed_sizes_are_parsed_again() {
    for (text, nanos) in [("2.5us", 2_500), ("5ms", 5_000_000), ("1.5s", 1_500_000_000)] {
        let duration = Duration::from_nanos(nanos);
        assert_eq!((parse_millis(text), parse_seconds(text)), (Ok(duration), Ok(duration)));
    }
    assert_eq!((parse_millis("5"), parse_seconds("5")), (Ok(Duration::from_millis(5)), Ok(Duration::from_secs(5))));

    for (size, text) in [(0, "0"), (1_023, "1023"), (1 << 20, "1MiB"), (3 << 20, "3MiB"), (2 << 30, "2GiB")] {
        assert_eq!((format_size(size).as_str(), parse_size(text)), (text, Ok(size)));
    }
}

#[test]
fn printed_request_rates_are_parsed_again() {
    for (text, count, seconds) in
        [("5/s", 5, 1), ("30/m", 30, 60), ("9/h", 9, 3_600), ("10/15m", 10, 900), ("300/10s", 300, 10)]
    {
        let rate = parse_request_rate(text).unwrap();
        assert_eq!(
            (rate.count, rate.period, format_request_rate(rate).as_str()),
            (count, Duration::from_secs(seconds), text)
        );
    }
    assert_eq!(parse_request_rate("3/2h").map(format_request_rate).as_deref(), Ok("3/120m"));
    assert!(parse_request_rate("1/8760h").is_ok());
    for wrong in ["", "5", "0/s", "5/", "5/0s", "5/d", "5/1", "5/\u{fc}", "-1/s", "5/8761h", "5/99999999999999999999h"]
    {
        assert!(parse_request_rate(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn whole_numbers_have_limits() {
    assert_eq!(["0", "100%", "25"].map(parse_percent), [Ok(0), Ok(100), Ok(25)]);
    assert_eq!(["1000/s", "1/s"].map(parse_message_rate), [Ok(1_000), Ok(1)]);
    assert_eq!(["7", "off"].map(parse_positive_or_off), [Ok(Some(7)), Ok(None)]);
    assert!(["101", "-1", "1.5%", "%"].iter().all(|text| parse_percent(text).is_err()));
    assert!(["0/s", "1000", "/s", "1/m"].iter().all(|text| parse_message_rate(text).is_err()));
    assert!(["0", "", "-1"].iter().all(|text| parse_positive_or_off(text).is_err()));
}
