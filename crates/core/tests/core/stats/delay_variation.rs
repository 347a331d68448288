//! Delay variation by RFC 5481's definitions, against values computed by hand.

use jamjam_core::stats::{Ipdv, StreamStats};
use jamjam_core::time::Time;

fn ipdv(round_trips: &[Option<i64>]) -> Ipdv {
    let mut ipdv = Ipdv::default();
    for round_trip in round_trips {
        ipdv.on_settled(*round_trip);
    }
    ipdv
}

#[test]
fn ipdv_is_the_difference_to_the_previously_sent_packet() {
    // The round trip of the fourth packet is 150 ns, all others are 68 ns. The differences are 0, 0, 82, −82, 0 …
    let found = ipdv(&[68, 68, 68, 150, 68, 68, 68, 68, 68, 68].map(Some));
    assert_eq!((found.magnitudes.count(), found.min(), found.max()), (9, Some(-82), Some(82)));
    assert_eq!(found.magnitudes.mean(), Some(164.0 / 9.0));
    // The sorted magnitudes are seven zeros, 82 and 82. The median is the 5th of 9.
    assert_eq!(found.magnitudes.percentile_if_enough(0.5), Some(0));
}

#[test]
fn lost_packet_has_no_ipdv_on_either_side() {
    let found = ipdv(&[Some(10), Some(30), None, Some(500), Some(505), None, None, Some(9)]);
    // The differences are 30 − 10 and 505 − 500.
    assert_eq!((found.magnitudes.count(), found.min(), found.max()), (2, Some(5), Some(20)));
    assert_eq!(found.magnitudes.mean(), Some(12.5));
    let alone = ipdv(&[None, Some(7), None]);
    assert_eq!((alone.magnitudes.count(), alone.min(), alone.max()), (0, None, None));
}

#[test]
fn pdv_is_the_difference_to_the_smallest_round_trip() {
    let mut stream = StreamStats::new();
    // 1,000 round trips: one for each value from 1,000 ns to 1,999 ns. The histogram stores these values exactly.
    (0..1_000).rev().for_each(|n| stream.on_return(Time::ZERO, 1_000 + n));
    // The percentiles 50, 99 and 99.9 have the ranks 500, 990 and 999. The round trips with these ranks are 1,499, 1,989 and 1,998 ns. The
    // minimum, 1,000 ns, is subtracted from each percentile.
    assert_eq!([0.5, 0.99, 0.999].map(|p| stream.pdv(p)), [Some(499), Some(989), Some(998)]);
    assert_eq!(stream.max_pdv(), Some(999));
}

#[test]
fn audio_pdv_does_not_depend_on_server_delay_or_order() {
    for server_delay in [0, 3_000_000_000] {
        let mut stream = StreamStats::with_rtt_baseline();
        // The echo times exceed the server delay by 500, 300 and 1,500 ns. The median of these values is 500 ns, and the minimum is 300 ns.
        for ns in [500, 300, 1_500] {
            stream.on_return(Time::ZERO, server_delay + ns);
        }
        assert_eq!((stream.pdv(0.5), stream.max_pdv()), (Some(200), Some(1_200)), "{server_delay}");
    }
}

#[test]
fn percentiles_of_variation_need_enough_round_trips() {
    let mut stream = StreamStats::new();
    assert_eq!((stream.pdv(0.5), stream.max_pdv()), (None, None));
    stream.on_return(Time::ZERO, 7);
    assert_eq!((stream.pdv(0.5), stream.max_pdv()), (None, Some(0)));
}
