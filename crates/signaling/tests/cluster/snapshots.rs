//! Snapshots of rooms.

use jamjam_signaling::broadcast::BroadcastSettings;
use jamjam_signaling::cluster::{Entry, Replica};
use jamjam_signaling::token::Secret;
use jamjam_signaling::{Hub, SignalingLimits};
use serde_json::Value;
use test_support::transcript::run_transcript;
use test_support::transcript_files::transcripts;

use crate::client_queues::ClientQueues;
use crate::transcripts::{DIALECTS, ThreeProcesses};

/// A process with no members of the rooms.
fn observer() -> Hub {
    let broadcast = BroadcastSettings { secret: Some(Secret::new("test-secret")), ..BroadcastSettings::default() };
    let mut lobby = Hub::new(SignalingLimits { broadcast, ..SignalingLimits::default() }, [9; 4]);
    lobby.join_cluster(77);
    lobby
}

/// The state of a room after each entry of its log, as text for messages of failed tests.
fn text(snapshot: &[u8]) -> String {
    String::from_utf8_lossy(snapshot).into_owned()
}

#[test]
fn snapshot_at_any_cut_and_the_rest_equal_the_full_log() {
    let mut cuts = 0;
    for dialect in DIALECTS {
        for (name, transcript) in transcripts(dialect) {
            let mut run = ThreeProcesses::new(2);
            run_transcript(&transcript, &mut run).unwrap_or_else(|error| panic!("{dialect}/{name}: {error}"));
            for log in run.all.logs.values() {
                let parse = |entry: &String| serde_json::from_str(entry).expect("an entry");
                let entries: Vec<Entry> = log.entries.iter().map(parse).collect();
                let (mut lobby, mut queues) = (observer(), ClientQueues::default());
                let mut full = Replica::new(log.dialect, &mut lobby);
                let mut snapshots = Vec::new();
                for (entry, offset) in entries.iter().zip(1..) {
                    full.apply(&mut lobby, entry, &mut queues);
                    assert_eq!(log.hashes.get(&offset).unwrap_or(&full.hash(&lobby)), &full.hash(&lobby), "{name}");
                    snapshots.push(full.snapshot(&lobby));
                }
                let last = snapshots.last().expect("an entry");
                for (cut, snapshot) in snapshots.iter().enumerate() {
                    let mut lobby = observer();
                    let restored = Replica::follow(log.dialect, Some(snapshot), &[], &mut lobby).expect("a snapshot");
                    assert_eq!(text(&restored.snapshot(&lobby)), text(snapshot), "{dialect}/{name}, cut {cut}");
                    let mut lobby = observer();
                    let rest = &entries[cut + 1..];
                    let replayed = Replica::follow(log.dialect, Some(snapshot), rest, &mut lobby).expect("a snapshot");
                    assert_eq!(text(&replayed.snapshot(&lobby)), text(last), "{dialect}/{name}, cut {cut}");
                    cuts += 1;
                }
                // Nothing is sent to the members of other processes.
                assert!(queues.faults.is_empty() && queues.ended.is_empty(), "{:?}", queues.faults);
            }
        }
    }
    assert!(cuts > 700, "{cuts} cuts");
}

#[test]
fn snapshot_of_another_format_is_refused_and_unknown_members_are_ignored() {
    let mut run = ThreeProcesses::new(2);
    let (_, transcript) =
        transcripts("webrtc").into_iter().find(|(name, _)| name == "join-third.txt").expect("a transcript");
    run_transcript(&transcript, &mut run).expect("the transcript passes");
    let entries: Vec<Entry> =
        run.all.logs[&1].entries.iter().map(|entry| serde_json::from_str(entry).expect("an entry")).collect();
    let mut lobby = observer();
    let full = Replica::follow(run.all.logs[&1].dialect, None, &entries, &mut lobby).expect("a room");
    let snapshot = full.snapshot(&lobby);
    let with = |name: &str, value: Value| {
        let mut snapshot: Value = serde_json::from_slice(&snapshot).expect("JSON");
        snapshot[name] = value;
        snapshot.to_string().into_bytes()
    };
    let mut follow = |snapshot: &[u8]| {
        let restored = Replica::follow(full.dialect(), Some(snapshot), &[], &mut lobby);
        restored.map(|replica| replica.members()).map_err(|error| error.to_string())
    };
    assert_eq!(follow(&with("added_later", true.into())), Ok(full.members()));
    assert!(follow(b"{}").is_err() && follow(b"").is_err());
}
