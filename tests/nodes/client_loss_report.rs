//! `--loss-direction` in virtual time: when a client asks, what it makes of what it is told, and what it does not believe.

use std::time::Duration;
use test_support::script;
use test_support::stun;
use test_support::tape;

use jamjam_dev::client::{ClientNode, LossReport, ProbeConfig, ProbeWorkload, Prober, RunResults, StreamKind};
use jamjam_dev::node::{Node, SendStatus};
use jamjam_dev::time::Time;

use script::{MS, deadline, header, hear, peer, poll, pong, terms};
use stun::{heard, is_question, response};
use tape::Tape;

fn asking(stream_kind: StreamKind, count: u64) -> Prober {
    let questions =
        ProbeConfig { stream_kind, count: Some(count), interval: Duration::from_millis(10), payload_len: 64 };
    let terms = jamjam_dev::client::RunConfig { loss_report_nonce: Some(0x0102_0304 << 96 | 5), ..terms(stream_kind) };
    ClientNode::new(terms, ProbeWorkload::new(questions), Box::new(()))
}

fn told(question: &[u8], since: u32, pings: u32) -> Vec<u8> {
    response(&question[8..20], &heard(since, [0, pings, 0]))
}

/// Answers the first question at 1 ms with `before`, and each of the pings that leave as `returns` says, 1 ms after it left.
/// Gives the node at its last ping.
fn probed(count: u64, before: impl Fn(&[u8]) -> Vec<u8>, returns: impl Fn(u64) -> bool) -> Prober {
    let mut node = asking(StreamKind::Ping, count);
    let question = poll(&mut node, 0).remove(0);
    hear(&mut node, MS, peer(), &before(&question));
    for n in 0..count {
        let at = (1 + n * 10) * MS;
        let left = poll(&mut node, at);
        assert_eq!(left.len(), 1, "ping {n}");
        if returns(n) {
            hear(&mut node, at + MS, peer(), &pong(&left[0]));
        }
    }
    node
}

/// Follows the node's deadlines up to its end and answers every question with `after`, if it says anything. When each question
/// left, and the end.
fn ended(node: &mut Prober, after: impl Fn(&[u8]) -> Option<Vec<u8>>) -> (Vec<u64>, u64) {
    let (mut asked, mut now) = (Vec::new(), 0);
    while let Some(next) = deadline(node) {
        now = next.max(now);
        for question in poll(node, now) {
            assert!(is_question(&question), "{question:02x?}");
            asked.push(now);
            if let Some(answer) = after(&question) {
                hear(node, now + MS, peer(), &answer);
            }
        }
    }
    (asked, now)
}

fn run(node: Prober) -> RunResults {
    node.into_results("", None, &mut ())
}

/// Lost outward and homeward.
fn split(run: &RunResults, kind: StreamKind) -> Option<(u64, u64)> {
    let outward = run.lost_upstream(kind)?;
    Some((outward, run.stream(kind)?.lost - outward))
}

#[test]
fn nothing_counts_and_nothing_is_sent_before_the_server_has_answered() {
    let mut node = asking(StreamKind::Ping, 1);
    let left = poll(&mut node, 7);
    assert!(left.len() == 1 && is_question(&left[0]), "{left:02x?}");
    assert_eq!(left[0][8..20], [1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(deadline(&node), Some(200 * MS + 7));
    hear(&mut node, 50 * MS, peer(), &header(4, 0, 0));
    assert_eq!(poll(&mut node, 200 * MS + 7), left, "the same transaction again");
    hear(&mut node, 230 * MS, peer(), &told(&left[0], 1, 0));
    assert_eq!(deadline(&node), Some(230 * MS));
    let ping = poll(&mut node, 230 * MS).remove(0);
    assert_eq!(ping[..2], [1, 5]);
    // The answer to the other try is no AUDIO, and no stray.
    hear(&mut node, 231 * MS, peer(), &told(&left[0], 1, 0));
    hear(&mut node, 232 * MS, peer(), &pong(&ping));
    poll(&mut node, 232 * MS);
    // All came back: there is nothing to ask.
    assert_eq!(ended(&mut node, |_| panic!("a question")), (vec![], 332 * MS));
    let run = run(node);
    assert_eq!((run.duration_ns, run.stray, split(&run, StreamKind::Ping)), (102 * MS, 0, Some((0, 0))));
    let mapped_address = Some("192.0.2.1:32853".parse().expect("an address"));
    assert_eq!(run.loss_report, Some(LossReport { response_received: true, mapped_address, received: None }));
}

#[test]
fn a_server_that_does_not_answer_is_asked_three_times_and_never_again() {
    let mut node = asking(StreamKind::Ping, 2);
    let mut asked = Vec::new();
    for at in [0, 200, 400, 1_000] {
        assert!(deadline(&node).expect("a deadline") <= at * MS, "{at}");
        asked.push(poll(&mut node, at * MS));
    }
    assert!(asked[..3].iter().all(|left| left.len() == 1 && is_question(&left[0])));
    assert_eq!(asked[3][0][..2], [1, 5], "counting began");
    assert_eq!(poll(&mut node, 1_010 * MS).len(), 1);
    // Nothing returned: 2 s after the last ping.
    assert_eq!(ended(&mut node, |_| panic!("a question")), (vec![], 3_010 * MS));
    let run = run(node);
    assert_eq!((run.loss_report, split(&run, StreamKind::Ping)), (Some(LossReport::default()), None));
    assert_eq!(run.duration_ns, 2_010 * MS);
}

#[test]
fn what_the_server_heard_splits_the_loss() {
    // Seven had come before; of these ten it hears eight, of which six come back.
    let mut node = probed(10, |question| told(question, 9, u32::MAX - 2), |n| n < 6);
    let (asked, end) = ended(&mut node, |question| Some(told(question, 9, 5)));
    // The last left at 91 ms, the shortest round trip was 1 ms, the time-out is 2 s; 600 ms before that.
    assert_eq!((asked, end), (vec![1_492 * MS], 2_092 * MS));
    let run = run(node);
    assert_eq!(run.stream(StreamKind::Ping).expect("pings").lost, 4);
    assert_eq!(split(&run, StreamKind::Ping), Some((2, 2)));
    assert_eq!(run.stray, 0);
}

#[test]
fn the_end_waits_for_its_question_and_no_longer_than_a_second() {
    let mut node = probed(2, |question| told(question, 9, 0), |n| n == 0);
    let (asked, end) = ended(&mut node, |_| None);
    // The last left at 11 ms: its deadline is 2,012 ms.
    assert_eq!((asked, end), (vec![1_412 * MS, 1_612 * MS, 1_812 * MS], 2_412 * MS));
    let run = run(node);
    assert_eq!(
        (split(&run, StreamKind::Ping), run.loss_report.map(|asked| asked.response_received)),
        (None, Some(true))
    );
}

#[test]
fn a_server_that_does_not_tell_is_not_asked_again() {
    let mut node = probed(2, |question| response(&question[8..20], &[]), |n| n == 0);
    assert_eq!(ended(&mut node, |_| panic!("a question")), (vec![], 2_012 * MS));
    let run = run(node);
    assert_eq!(split(&run, StreamKind::Ping), None);
    assert_eq!(
        run.loss_report.and_then(|asked| asked.mapped_address),
        Some("192.0.2.1:32853".parse().expect("an address"))
    );
}

#[test]
fn counts_without_a_fingerprint_are_not_believed() {
    // As it is after a flipped bit has hidden it: the length is 8 less.
    let unsealed = |mut answer: Vec<u8>| {
        answer.truncate(answer.len() - 8);
        answer[3] -= 8;
        answer
    };
    let mut node = probed(2, |question| unsealed(told(question, 9, 0)), |n| n == 0);
    assert_eq!(ended(&mut node, |_| panic!("a question")), (vec![], 2_012 * MS));
    let run = run(node);
    assert_eq!(
        (split(&run, StreamKind::Ping), run.loss_report.map(|asked| asked.response_received)),
        (None, Some(true))
    );
}

#[test]
fn counts_that_cannot_be_are_cut_to_what_was_lost() {
    for (after, expected) in
        [(4, (0, 2)), (1_000_000, (0, 2)), (2, (2, 0)), (0, (2, 0)), (u32::MAX, (2, 0)), (3, (1, 1))]
    {
        let mut node = probed(4, |question| told(question, 9, 0), |n| n < 2);
        ended(&mut node, |question| Some(told(question, 9, after)));
        assert_eq!(split(&run(node), StreamKind::Ping), Some(expected), "{after}");
    }
}

#[test]
fn a_server_that_forgot_between_the_questions_tells_nothing() {
    let mut node = probed(4, |question| told(question, 9, 0), |n| n < 2);
    ended(&mut node, |question| Some(told(question, 10, 3)));
    assert_eq!(split(&run(node), StreamKind::Ping), None);
}

#[test]
fn an_interrupted_run_does_not_know() {
    let mut node = probed(4, |question| told(question, 9, 0), |n| n < 2);
    // The others left at 21 and 31 ms; of the first the deadline is over.
    let question = poll(&mut node, 1_500 * MS).remove(0);
    hear(&mut node, 1_501 * MS, peer(), &told(&question, 9, 3));
    let run = node.into_results("", Some(Time::from_nanos(2_025 * MS)), &mut ());
    let stream = run.stream(StreamKind::Ping).expect("pings");
    assert_eq!((stream.lost, stream.in_flight, split(&run, StreamKind::Ping)), (1, 1, None));
}

#[test]
fn only_our_own_transaction_from_the_target_is_an_answer_and_the_rest_is_what_it_was() {
    let stranger = "192.0.2.77:5000".parse().expect("an address");
    let mut node = asking(StreamKind::Audio, 2);
    let question = poll(&mut node, 0).remove(0);
    let right = response(&question[8..20], &heard(9, [0, 0, 0]));
    let changed = |byte: usize| {
        let mut bytes = right.clone();
        bytes[byte] ^= 1;
        bytes
    };
    // From elsewhere, another cookie, another transaction, a request, a length that is wrong.
    let lies = [changed(4), changed(19), changed(0), changed(3)];
    hear(&mut node, MS, stranger, &right);
    for lie in &lies {
        hear(&mut node, MS, peer(), lie);
    }
    assert_eq!(poll(&mut node, 2 * MS), Vec::<Vec<u8>>::new(), "it still waits");
    hear(&mut node, 3 * MS, peer(), &right);
    assert_eq!(poll(&mut node, 3 * MS).remove(0)[..2], [1, 1]);

    // Now AUDIO is expected: with the cookie, but of no transaction of ours, it is AUDIO.
    hear(&mut node, 4 * MS, stranger, &right);
    for lie in &lies[..2] {
        hear(&mut node, 4 * MS, peer(), lie);
    }
    // The second question was not asked yet, so nobody can answer it.
    let mut next = question[8..20].to_vec();
    next[11] ^= 1;
    hear(&mut node, 4 * MS, peer(), &response(&next, &heard(9, [77, 0, 0])));
    let run = node.into_results("", Some(Time::from_nanos(5 * MS)), &mut ());
    assert_eq!((run.stream(StreamKind::Audio).expect("audio").unmatched, run.stray), (3, 1));
}

#[test]
fn a_busy_system_does_not_cost_a_try() {
    let mut node = asking(StreamKind::Ping, 1);
    let mut tape = Tape::new();
    tape.plan.extend([SendStatus::WouldBlock, SendStatus::WouldBlock, SendStatus::Sent]);
    for at in 1..=3 {
        node.poll_transmit(Time::from_nanos(at), &mut tape);
    }
    assert_eq!(tape.take().len(), 1);
    assert_eq!(deadline(&node), Some(200 * MS + 1));
}
