//! `--html`: the page of a run of `send` or `probe`.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;
use test_support::client::{Server, ServerAction, Wav, closed_udp_port, document, program, run, together};

use crate::clients::report;

fn between<'a>(text: &'a str, start: &str, end: &str) -> Vec<&'a str> {
    text.split(start).skip(1).filter_map(|rest| rest.split_once(end)).map(|(between, _)| between).collect()
}

/// The samples of the previews of the page.
pub(super) fn sounds(page: &str) -> Vec<Vec<f32>> {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("embedded.wav");
    let sounds = between(page, "src=\"data:audio/wav;base64,", "\"").into_iter();
    let read = sounds.map(|sound| {
        fs::write(&file, STANDARD.decode(sound).unwrap()).unwrap();
        Wav::read(&file).samples()
    });
    read.collect()
}

#[test]
fn run_without_expected_echo_has_a_page_without_gaps() {
    let folder = TempDir::new().unwrap();
    let (server, page) = (Server::silent(), folder.path().join("page.html"));
    let line = format!("send --tone 440 --duration 20ms --no-echo --to {} --html {}", server.to(), page.display());
    let report = report(0, &line);
    assert_eq!((&report["replies_expected"], &report["verdict"]["passed"]), (&false.into(), &true.into()));
    let page = fs::read_to_string(&page).unwrap();
    assert!(page.contains(" sent, no replies expected") && !page.contains("<strong>Returned, "), "{page}");
    // Only the sent audio has a preview: 20 ms at 12 kHz.
    assert_eq!((server.samples().len(), sounds(&page).iter().map(Vec::len).collect()), (960, vec![240]));
}

#[test]
fn interrupted_run_writes_its_page_without_gaps_for_packets_in_flight() {
    let folder = TempDir::new().unwrap();
    let page = folder.path().join("page.html");
    // Two packets never return, and their deadlines pass after half a second. A pause of this host excludes one of them at most. The last
    // hundred packets are in flight.
    let server = Server::with_audio(|sequence| match sequence {
        3 | 400 | 700.. => ServerAction::Silence,
        _ => ServerAction::Reply,
    });
    let line =
        format!("send --tone 440 --delay 0 --timeout 500ms --to {} --json --html {}", server.to(), page.display());
    let program = program::start_line(&line);
    server.wait_for(800);
    program.signal("INT");
    let output = program.end();
    assert_eq!(output.code, 130, "{output:?}");
    let (report, page) = (document::report(&output), fs::read_to_string(&page).unwrap());
    assert!(page.contains("<title>INTERRUPTED: send to "), "{page}");
    assert!(page.contains("<p class=\"headline\">Result: received SIGINT; results so far: "), "{page}");
    let [lost, excluded, in_flight] = document::counts(&report, "audio", ["lost", "excluded", "in_flight"]);
    let gaps = report["audio_quality"]["gap_list"].as_array().unwrap();
    let (packets, silent): (Vec<u64>, Vec<u64>) =
        gaps.iter().map(|gap| (gap["packets"].as_u64().unwrap(), gap["first_packet"].as_u64().unwrap())).unzip();
    assert!(packets.iter().sum::<u64>() == lost && in_flight > 10, "{report:#}");
    let silent = [2, 399].iter().filter(|packet| silent.contains(packet)).count();
    assert!(silent == 2 || silent == 1 && excluded > 0, "{report:#}");
    assert!(page.contains(&format!(">gaps</th><td>{}</td>", gaps.len())), "{page}");
}

#[test]
fn every_kind_of_run_writes_a_page_with_its_command_and_no_folder() {
    let (correct, silent) = (Server::correct(), Server::silent());
    let cases = [
        (format!("probe --count 20 --interval 1ms --to {}", correct.to()), 0, "measured"),
        (format!("probe --count 20 --interval 50ms --timeout 50ms --to {}", silent.to()), 1, "FAILED"),
        ("send --tone 440 --duration 20ms --embedded --delay 0".to_owned(), 0, "measured"),
        ("probe --embedded --moqt --count 5 --interval 1ms".to_owned(), 0, "measured"),
        ("publish --embedded --text hello".to_owned(), 0, "measured"),
        ("probe --to moqt://127.0.0.1:1/echo --timeout 1s".to_owned(), 3, "FAILED"),
        ("probe --to ws://127.0.0.1:1 --timeout 1s".to_owned(), 3, "FAILED"),
        ("send --tone 440 --to host.invalid".to_owned(), 3, "ABORTED"),
    ];
    together(cases, |(line, code, status)| {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("page.html");
        fs::write(&file, "of yesterday").unwrap();
        let output = run(&format!("{line} --html {}", file.display()));
        assert_eq!(output.code, code, "{output:?}");
        let page = fs::read_to_string(&file).unwrap();
        assert!(page.contains(&format!("<title>{status}: ")), "{line}: {page}");
        assert!(page.contains(&format!("<code>jamjam-dev {line} --html page.html</code>")), "{line}: {page}");
        assert!(!page.contains(&folder.path().display().to_string()), "{line}");
    });
}

#[test]
fn no_output_contains_the_query_of_a_target() {
    let (_socket, address) = closed_udp_port();
    let cases = [
        ("probe", format!("moqt://{address}/echo"), "?jwt=s3cret"),
        ("probe --json", format!("https://{address}/echo"), "?jwt=s3cret"),
        ("publish --text x", format!("moqt://{address}/echo"), "?jwt=s3cret"),
        ("probe --json-lines", format!("ws://{address}/r"), "?token=s3cret"),
    ];
    together(cases, |(command, shown, query)| {
        let folder = TempDir::new().unwrap();
        let line = format!("{command} {shown}{query} --timeout 1s --html h --junit j --markdown m --record-run r");
        let mut command = program::command(line.split(' '));
        let output = command.current_dir(folder.path()).env("RUST_LOG", "trace").output().unwrap();
        let mut texts = vec![output.stdout, output.stderr];
        texts.extend(fs::read_dir(folder.path()).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap()));
        let texts: Vec<_> = texts.into_iter().map(|text| String::from_utf8(text).unwrap()).collect();
        assert!(texts.len() >= 5 && texts.iter().all(|text| !text.contains("s3cret")), "{line}: {texts:?}");
        assert!(texts.iter().filter(|text| text.contains(&shown)).count() >= 4, "{line}: {texts:?}");
    });
}
