//! Runs the transcripts in `fixtures/signaling` on three servers behind `HAProxy`, which gives each client to the next server.

use test_support::sockets::Sockets;
use test_support::transcript::{Progress, run_transcript};
use test_support::transcript_files::transcripts;

use super::{HaProxy, Servers};

/// The options that create the control surface rooms of a transcript.
///
/// | transcripts that cannot run so | why |
/// | --- | --- |
/// | control surface rooms that expire | only a program that embeds the server sets the lifetime of one room |
/// | scheduled-values.txt | its times count from a clock that starts at 0 |
/// | several rooms, of which one has a limit | `--bbx-max-clients` applies to all rooms |
fn room_options(transcript: &str) -> Option<Vec<String>> {
    let created: Vec<&str> = transcript.lines().filter_map(|line| line.strip_prefix("program creates room ")).collect();
    let mut options = Vec::new();
    for room in &created {
        let (code, members) = room.split_once(" for ").unwrap_or((room, "100"));
        if options.iter().any(|option| option == &format!("--bbx-room={code}")) {
            continue;
        }
        options.push(format!("--bbx-room={code}"));
        if members != "100" {
            (created.len() == 1 && !members.contains("expiring")).then_some(())?;
            options.push(format!("--bbx-max-clients={members}"));
        }
    }
    Some(options)
}

/// Runs each transcript of a dialect on its own cluster, up to the first line that advances the clock. Also ends before requests of a
/// program that embeds the server. At least `complete` must run to their last line.
fn run_all(dialect: &str, complete: usize) {
    let (mut failures, mut completed) = (Vec::new(), 0);
    for (name, transcript) in transcripts(dialect) {
        let Some(rooms) = room_options(&transcript).filter(|_| name != "scheduled-values.txt") else { continue };
        let options: Vec<&str> = ["--trust-proxy"].into_iter().chain(rooms.iter().map(String::as_str)).collect();
        let Some(mut servers) = Servers::start(3, &options) else { return };
        let Some(proxy) = HaProxy::start(&servers.all) else { return };
        // An id to be spelled in another case may have no letter. Then the transcript runs again with another id.
        let outcome = (0..20).find_map(|_| {
            let mut sockets = Sockets::new(proxy.address, None);
            sockets.servers = servers.all.iter().map(|server| server.address).collect();
            match run_transcript(&transcript, &mut sockets).and_then(|progress| sockets.finish().map(|()| progress)) {
                Ok(Progress::UntilLine(_)) => None,
                other => Some(other),
            }
        });
        match outcome.unwrap_or_else(|| Err("no id has a letter".to_owned())) {
            Ok(progress) => completed += usize::from(progress == Progress::Complete),
            Err(error) => {
                let logs: Vec<_> = servers.all.drain(..).flat_map(|server| server.stop("TERM").lines).collect();
                failures.push(format!("{dialect}/{name}: {error}\n{}", logs.join("\n")));
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    assert!(completed >= complete, "{completed} transcripts are complete");
}

#[test]
fn jamjam_transcripts_pass_on_three_servers_behind_haproxy() {
    run_all("jamjam", 50);
}

#[test]
fn webrtc_transcripts_pass_on_three_servers_behind_haproxy() {
    run_all("webrtc", 33);
}

#[test]
fn broadcast_transcripts_pass_on_three_servers_behind_haproxy() {
    run_all("broadcast", 17);
}

#[test]
fn surface_transcripts_pass_on_three_servers_behind_haproxy() {
    run_all("control_surface", 20);
}
