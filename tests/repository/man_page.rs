//! The man page, rendered with groff, which `generate` prints.

use std::process::Command;

use clap::CommandFactory;
use jamjam_dev::cli::Cli;

use test_support::repository_files::{assert_success, run_tool};

fn generated() -> String {
    assert_success(&Command::new(env!("CARGO_BIN_EXE_jamjam-dev")).args(["generate", "man"]).output().unwrap())
}

#[test]
fn groff_renders_the_man_page_with_every_option_in_its_section() {
    let text = generated();
    let page = text.replace("\\-", "-");
    let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
    assert_eq!(headings[..3], ["NAME", "SYNOPSIS", "OPTIONS"]);
    assert_eq!(headings[headings.len() - 2..], ["\"EXIT STATUS\"", "EXAMPLES"]);
    for term in ["0", "3", "129, 130, 143"] {
        assert!(page.contains(&format!("\n.TP\n.B {term}\n")), "{term}");
    }
    assert!(page.contains("\\fBECHO_DELAY_MS\\fR") && page.contains("RUST_LOG"), "options name their variables");
    let section = |title: &str| {
        let (_, section) = page.split_once(&format!(".SH {title}\n")).unwrap_or_else(|| panic!("{title}"));
        section.split("\n.SH ").next().unwrap()
    };
    // Options that every subcommand has are listed once.
    let everywhere = ["--help", "--color"];
    for option in everywhere.iter().chain(&["--version"]) {
        assert!(section("OPTIONS").contains(option), "{option}");
    }
    let mut cli = Cli::command();
    cli.build();
    for subcommand in cli.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        let section = section(&format!("\"JAMJAM-DEV {}\"", subcommand.get_name().to_uppercase()));
        for arg in subcommand.get_arguments().filter(|arg| arg.get_long().is_some()) {
            let long = format!("--{}", arg.get_long().unwrap());
            let is_listed = section.contains(&format!("\\fB{long}\\fR"));
            let is_expected = !arg.is_hide_set() && !everywhere.contains(&long.as_str());
            assert_eq!(is_listed, is_expected, "{} {long}", subcommand.get_name());
        }
    }

    let mut groff = Command::new("groff");
    groff.args(["-man", "-Tascii", "-P-cbou", "-ww", "-rLL=100n"]);
    let Some(output) = run_tool(&mut groff, &text) else { return };
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let shown = assert_success(&output);
    let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains(" User Commands ") && words.contains(" --max-loss <PERCENT> Maximum packet loss,"),
        "{shown}"
    );
}
