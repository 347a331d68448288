//! `--html`: the page of a run of `send` or `probe`.

use std::fs;

use tempfile::TempDir;
use test_support::client::{Server, closed_udp_port, program, run, together};

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
