//! `--html`: the page of a run of `send` or `probe`.

#![cfg(unix)]

use std::fs;
use std::path::Path;
use test_support::client;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::packet::AUDIO;
use client::program::{self, ProgramOutput, run_args};
use client::server::{Server, ServerAction, closed_udp_port};
use client::wav::Wav;
use client::{at_once, fixture};
use tempfile::TempDir;

/// Runs `line`, split at spaces, with the file of the page as the last argument.
fn with_page(line: &str, page: &Path) -> ProgramOutput {
    run_args(line.split_whitespace().map(AsRef::as_ref).chain(["--html".as_ref(), page.as_os_str()]))
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Vec<&'a str> {
    text.split(start).skip(1).filter_map(|rest| rest.split_once(end)).map(|(between, _)| between).collect()
}

/// The gaps that the page lists: first packet and number of packets.
fn gaps(page: &str) -> Vec<(u64, u64)> {
    let rows = between(page, "<tr><td>", "</td></tr>").into_iter().filter(|row| row.contains(" s</td>"));
    let gap = rows.map(|row| {
        let cells: Vec<&str> = row.split("</td><td>").collect();
        let from: f64 = cells[0].strip_suffix(" s").unwrap().parse().unwrap();
        // Packets are 2.6667 ms long, and times have four decimals.
        ((from * 375.0).round() as u64, cells[2].parse().unwrap())
    });
    gap.collect()
}

/// The two embedded sounds of the page, as WAV files.
fn sounds(page: &str, folder: &TempDir) -> Vec<Vec<f32>> {
    let sounds = between(page, "src=\"data:audio/wav;base64,", "\"").into_iter();
    let read = sounds.map(|sound| {
        let file = folder.path().join("embedded.wav");
        fs::write(&file, STANDARD.decode(sound).unwrap()).unwrap();
        Wav::read(&file).samples()
    });
    read.collect()
}

#[test]
fn page_gaps_match_the_outcome_log_and_players_match_the_audio() {
    let paths = ["--loss 5% --seed 7", "--loss 2%,30% --jitter 30ms --reorder 5% --duplicate 5% --seed 3", "--loss 0%"];
    at_once(paths, |path| {
        let folder = TempDir::new().unwrap();
        let [page, outcomes] = ["page.html", "outcomes.csv"].map(|name| folder.path().join(name));
        let wav = fixture("speech-16bit-mono-48k.wav");
        let line = format!(
            "send --wav {} --embedded --delay 300 {path} --outcome-log {} --spin 0",
            wav.display(),
            outcomes.display()
        );
        let output = with_page(&line, &page);
        assert_eq!(output.code, 0, "{output:?}");
        let page = fs::read_to_string(&page).unwrap();
        let speech = Wav::read(&wav).samples();
        let (mut returned, mut expected) = (speech.clone(), Vec::<(u64, u64)>::new());
        let outcomes = fs::read_to_string(&outcomes).unwrap();
        let mut lost: Vec<u64> = outcomes
            .lines()
            .map(|row| row.split(',').collect::<Vec<_>>())
            .filter(|cells| cells[2] == "AUDIO" && ["lost", "burst"].contains(&cells[4]))
            .map(|cells| cells[3].parse::<u64>().unwrap() - 1)
            .collect();
        lost.sort_unstable();
        for index in lost {
            returned[index as usize * 128..].iter_mut().take(128).for_each(|sample| *sample = 0.0);
            match expected.last_mut() {
                Some((first, count)) if *first + *count == index => *count += 1,
                _ => expected.push((index, 1)),
            }
        }
        assert_eq!(gaps(&page), expected, "{path}");
        assert_eq!(expected.is_empty(), path == "--loss 0%");
        assert!(page.contains(if expected.is_empty() { "; no gaps</figcaption>" } else { " gaps, " }));
        assert!(sounds(&page, &folder) == [speech, returned], "{path}");
        assert!(page.contains("<strong>measured</strong>: replies received; no limits set."), "{path}");
    });
}

#[test]
fn late_packet_is_a_gap_and_unexpected_echo_is_not() {
    let folder = TempDir::new().unwrap();
    let page = folder.path().join("page.html");
    let server = Server::silent();
    let output = with_page(&format!("send --tone 440 --duration 20ms --no-echo --to {}", server.to()), &page);
    assert_eq!(output.code, 0, "{output:?}");
    let page = fs::read_to_string(&page).unwrap();
    assert!(page.contains("<strong>Returned</strong>: no replies were expected</figcaption>"));
    assert_eq!(gaps(&page), []);
    let received: Vec<f32> = server.received_of(AUDIO).iter().flat_map(client::packet::Packet::samples).collect();
    // The page contains 16-bit samples, which differ from the sent floats by the rounding.
    let [sent, returned] = &sounds(&page, &folder)[..] else { panic!("two sounds") };
    assert!(sent.len() == 960 && sent.iter().zip(&received).all(|(one, other)| (one - other).abs() <= 0.5 / 32_768.0));
    assert_eq!(returned, &vec![0.0; 960]);
}

#[test]
fn interrupted_run_writes_its_page_without_gaps_for_packets_in_flight() {
    let folder = TempDir::new().unwrap();
    let page = folder.path().join("page.html");
    // The third packet never returns, and its deadline passes after 1 s. The last hundred packets are in flight.
    let server = Server::with_audio(|sequence| match sequence {
        3 => ServerAction::Silence,
        1..700 => ServerAction::Reply,
        _ => ServerAction::Silence,
    });
    let line = format!("send --tone 440 --delay 0 --timeout 1s --to {} --html", server.to());
    let program = program::start(program::command(line.split_whitespace()).arg(&page));
    server.wait_for(800);
    program.signal("INT");
    let output = program.end();
    assert_eq!(output.code, 130, "{output:?}");
    let page = fs::read_to_string(&page).unwrap();
    assert!(page.contains("<title>INTERRUPTED: send to "), "{page}");
    assert!(page.contains("<strong>INTERRUPTED</strong>: received SIGINT; results so far: "));
    let [first, rest @ ..] = &gaps(&page)[..] else { panic!("gaps") };
    assert_eq!(*first, (2, 1));
    let lost: u64 = rest.iter().map(|(_, packets)| packets).sum();
    let row = output.stdout.lines().find(|line| line.starts_with("lost ")).unwrap();
    assert_eq!(row.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap(), 1 + lost);
    let in_flight = output.stdout.lines().find(|line| line.starts_with("in flight "));
    assert!(in_flight.is_some(), "{}", output.stdout);
}

#[test]
fn unwritable_page_fails_before_sending() {
    let folder = TempDir::new().unwrap();
    for file in [folder.path(), &folder.path().join("no/where")] {
        let server = Server::correct();
        let output = with_page(&format!("send --tone 440 --duration 20ms --to {}", server.to()), file);
        assert_eq!((output.code, output.stdout.as_str()), (3, ""), "{output:?}");
        assert!(output.stderr.contains(&format!("--html: cannot write {}: ", file.display())), "{output:?}");
        assert!(server.received().is_empty());
    }
    // If a run fails, the page that an earlier run wrote to the same file is replaced.
    let page = folder.path().join("page.html");
    fs::write(&page, "of yesterday").unwrap();
    assert_eq!(with_page("send --tone 440 --to host.invalid", &page).code, 3);
    assert!(fs::read_to_string(&page).unwrap().contains("<strong>ABORTED</strong>: cannot find an address for host"));
}

#[test]
fn page_overwrites_no_other_file() {
    let folder = TempDir::new().unwrap();
    let take = folder.path().join("take.wav");
    client::wav::write(&take, 48_000, 1, &[0; 128]);
    let name = take.display();
    for (line, options) in [
        (format!("send --wav {name} --embedded"), "--wav and --html"),
        (format!("send --tone 440 --embedded --record {name}"), "--record and --html"),
        (format!("send --tone 440 --embedded --record-both {name}"), "--record-both and --html"),
        (format!("send --tone 440 --embedded --junit {name}"), "--html and --junit"),
        (format!("send --tone 440 --embedded --outcome-log {name}"), "--outcome-log and --html"),
    ] {
        let output = with_page(&line, &take);
        let (one, other) = options.split_once(" and ").unwrap();
        let message = format!("jamjam-dev: {one} {name} and {other} {name} are the same file; give different files\n");
        assert_eq!((output.code, output.stderr.as_str()), (2, message.as_str()));
    }
    assert!(!folder.path().join("page.html").exists() && fs::read(&take).unwrap().len() == 44 + 256);
}

#[test]
fn file_name_is_escaped_in_the_page() {
    let folder = TempDir::new().unwrap();
    let take = folder.path().join("<img src=x onerror=alert(1)> \" {style} \u{202e}.wav");
    client::wav::write(&take, 48_000, 1, &[1_000; 256]);
    let page = folder.path().join("page.html");
    let output = run_args([
        "send".as_ref(),
        "--wav".as_ref(),
        take.as_os_str(),
        "--embedded".as_ref(),
        "--delay".as_ref(),
        "0".as_ref(),
        "--html".as_ref(),
        page.as_os_str(),
    ]);
    assert_eq!(output.code, 0, "{output:?}");
    let page = fs::read_to_string(&page).unwrap();
    let name = "<bdi>&lt;img src=x onerror=alert(1)&gt; &quot; {style} \u{fffd}.wav</bdi>";
    assert!(page.contains(name) && !page.contains("<img"), "{name}");
    let directory = folder.path().display().to_string();
    assert!(!page.contains(&directory), "the page contains {directory}");
}

#[test]
fn every_kind_of_run_writes_a_page_with_its_command_and_no_folder() {
    let (correct, silent) = (Server::correct(), Server::silent());
    let cases = [
        (format!("probe --count 20 --interval 1ms --to {}", correct.to()), 0, "measured"),
        (format!("probe --count 3 --interval 1ms --timeout 50ms --to {}", silent.to()), 1, "FAILED"),
        (format!("send --tone 440 --duration 20ms --no-echo --to {}", silent.to()), 0, "measured"),
        ("probe --embedded --moqt --count 5 --interval 1ms".to_owned(), 0, "measured"),
        ("send --embedded --moqt --text hello".to_owned(), 0, "measured"),
        ("probe --to moqt://127.0.0.1:1/echo --timeout 1s".to_owned(), 1, "FAILED"),
        ("probe --to ws://127.0.0.1:1 --timeout 1s".to_owned(), 1, "FAILED"),
    ];
    at_once(cases, |(line, code, status)| {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("page.html");
        let output = with_page(&line, &file);
        assert_eq!(output.code, code, "{output:?}");
        let page = fs::read_to_string(&file).unwrap();
        assert!(page.contains(&format!("<title>{status}: ")), "{line}: {page}");
        assert!(page.contains(&format!("<code>jamjam-dev {line} --html page.html</code>")), "{line}: {page}");
        assert!(!page.contains(&folder.path().display().to_string()), "{line}");
    });
}

#[test]
fn report_and_record_contain_the_command_without_secrets() {
    let server = Server::correct();
    let folder = TempDir::new().unwrap();
    let [page, record] = ["page.html", "run.jsonl"].map(|name| folder.path().join(name));
    let line = format!(
        "probe --count 3 --interval 1ms --json --to {} --junit {} --record-run={} --html",
        server.to(),
        folder.path().join("junit.xml").display(),
        record.display()
    );
    let output = run_args(line.split(' ').map(AsRef::as_ref).chain([page.as_os_str()]));
    let report: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    let expected = format!(
        "jamjam-dev probe --count 3 --interval 1ms --json --to {} --junit junit.xml --record-run=run.jsonl --html page.html",
        server.to()
    );
    assert_eq!(report["command_line"], expected, "{output:?}");
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(report["host_name"], host.trim());
}

#[test]
fn no_output_contains_the_query_of_a_target() {
    let (_socket, address) = closed_udp_port();
    let port = address.port();
    at_once(
        [
            (format!("probe --to moqt://127.0.0.1:{port}/echo?jwt=s3cret"), "moqt://127.0.0.1:PORT/echo"),
            (format!("probe --json --to https://127.0.0.1:{port}/echo?jwt=s3cret"), "https://127.0.0.1:PORT/echo"),
            (format!("send --text x --to moqt://127.0.0.1:{port}/echo?jwt=s3cret"), "moqt://127.0.0.1:PORT/echo"),
            (format!("probe --json-lines --to ws://127.0.0.1:{port}/r?token=s3cret"), "ws://127.0.0.1:PORT/r"),
        ],
        |(line, shown)| {
            let folder = TempDir::new().unwrap();
            let mut command = program::command(line.split(' '));
            command.current_dir(folder.path()).env("RUST_LOG", "trace");
            command.args(["--timeout", "1s", "--html", "h", "--junit", "j", "--markdown", "m", "--record-run", "r"]);
            let output = command.output().unwrap();
            let mut texts = vec![output.stdout, output.stderr];
            texts.extend(fs::read_dir(folder.path()).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap()));
            let texts: Vec<_> = texts.into_iter().map(|text| String::from_utf8(text).unwrap()).collect();
            assert!(texts.len() >= 5, "{line}: {texts:?}");
            assert!(texts.iter().all(|text| !text.contains("s3cret")), "{line}: {texts:?}");
            let shown = shown.replace("PORT", &port.to_string());
            assert!(texts.iter().filter(|text| text.contains(&shown)).count() >= 4, "{line}: {texts:?}");
        },
    );
}
