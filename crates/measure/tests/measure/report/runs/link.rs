//! Runs over an encrypted link, for the tests of reports.

use jamjam_core::stats::StreamStats;
use jamjam_measure::client::{LinkFailure, LinkResults, RunResults};

use super::{probe, stream};

/// The link settled after 2.5 ms, and each count is different.
pub(crate) fn all_counts() -> RunResults {
    let link = LinkResults {
        is_signed: true,
        is_encrypted: true,
        setup_ns: Some(2_500_000),
        not_opened: 1,
        replayed: 2,
        without_keys: 3,
        plain: 4,
        refused_keys: 5,
        ..LinkResults::default()
    };
    RunResults { link: Some(link), ..probe(stream(StreamStats::new(), [1_000_000; 100])) }
}

/// A plain link, and a run for each [`LinkFailure`].
pub(crate) fn link_runs() -> Vec<(&'static str, RunResults)> {
    let plain = LinkResults { is_plain: true, ..LinkResults::default() };
    let plain = RunResults { link: Some(plain), ..all_counts() };
    let failed = |failure: LinkFailure| {
        let link = LinkResults { failure: Some((failure, 5_000_000_000)), ..LinkResults::default() };
        (failure.kind(), RunResults { link: Some(link), ..probe(StreamStats::new()) })
    };
    let failures = [
        LinkFailure::NoReply,
        LinkFailure::PortUnreachable,
        LinkFailure::NoKeyExchange,
        LinkFailure::KeyRefused,
        LinkFailure::SignatureRefused,
        LinkFailure::PlainRefused,
        LinkFailure::NotOpened,
    ];
    // An array of runs would not fit on the stack of a test.
    let mut runs = vec![("encrypted link", all_counts())];
    runs.push(("plain link", plain));
    runs.extend(failures.into_iter().map(failed));
    runs
}
