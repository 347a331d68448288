//! `--generate`: the man page and the completions are checked with the real tools (groff and shells). If a tool is not installed, the
//! checks that need this tool are skipped.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use clap::CommandFactory;
use jamjam_dev::cli::Cli;

fn program(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_jamjam-dev")).args(args).stdin(Stdio::null()).output().unwrap()
}

fn generated(what: &str) -> String {
    let output = program(&["--generate", what]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `command` with `input`, or returns `None` if it is not installed. Returns standard output followed by standard error.
fn output_of(command: &mut Command, input: &str) -> Option<String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("{command:?} is not on this machine");
            return None;
        }
        Err(error) => panic!("{command:?}: {error}"),
    };
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    Some(String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// Every subcommand with its visible long options.
fn options() -> Vec<(String, Vec<String>)> {
    let mut cli = Cli::command();
    cli.build();
    let subcommands = cli.get_subcommands().filter(|subcommand| subcommand.get_name() != "help");
    let options: Vec<(String, Vec<String>)> = subcommands
        .map(|subcommand| {
            let shown = subcommand.get_arguments().filter(|arg| !arg.is_hide_set());
            let longs = shown.filter_map(|arg| arg.get_long()).map(|long| format!("--{long}")).collect();
            (subcommand.get_name().to_owned(), longs)
        })
        .collect();
    assert!(options.len() >= 3 && options.iter().all(|(_, longs)| longs.len() > 8), "{options:?}");
    options
}

/// Options that every subcommand has; the man page lists them once.
const EVERYWHERE: [&str; 2] = ["--help", "--color"];

#[test]
fn man_page_lists_every_option_in_its_subcommand_section() {
    let page = generated("man").replace("\\-", "-");
    for (subcommand, longs) in options() {
        let title = format!(".SH \"JAMJAM-DEV {}\"\n", subcommand.to_uppercase());
        let (_, section) = page.split_once(&title).unwrap_or_else(|| panic!("no {title}"));
        let section = section.split("\n.SH ").next().unwrap();
        for long in longs {
            let is_documented = section.contains(&format!("\\fB{long}\\fR"));
            assert_eq!(is_documented, !EVERYWHERE.contains(&long.as_str()), "{subcommand} {long}");
        }
        assert!(!section.contains("--driver"), "hidden options are not listed");
    }
    for long in EVERYWHERE.into_iter().chain(["--generate", "--version"]) {
        assert!(page.split("\n.SH ").any(|part| part.starts_with("OPTIONS") && part.contains(long)), "{long}");
    }
}

#[test]
fn man_page_has_the_conventional_sections() {
    let page = generated("man");
    let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
    let expected = [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "OPTIONS",
        "\"JAMJAM-DEV ECHO-SERVER\"",
        "\"JAMJAM-DEV SEND\"",
        "\"JAMJAM-DEV PROBE\"",
        "\"JAMJAM-DEV SIGNALING-SERVER\"",
        "\"EXIT STATUS\"",
        "ENVIRONMENT",
        "EXAMPLES",
    ];
    assert_eq!(headings, expected);
    for name in ["ECHO_DELAY_MS", "NO_COLOR", "RUST_LOG"] {
        assert!(page.contains(&format!("\n.TP\n\\fB{name}\\fR\n")), "{name}");
    }
    for code in ["0", "1", "2", "3", "129, 130, 143"] {
        assert!(page.contains(&format!("\n.TP\n\\fB{code}\\fR\n")), "{code}");
    }
    assert!(
        page.contains(".SS \"Limits (exit code 1 if one is exceeded)\"\n"),
        "the headings are the same as in --help"
    );
}

#[test]
fn groff_renders_the_man_page_without_warnings() {
    let mut groff = Command::new("groff");
    let Some(shown) = output_of(groff.args(["-man", "-Tascii", "-P-cbou", "-ww", "-rLL=100n"]), &generated("man"))
    else {
        return;
    };
    let lines: Vec<&str> = shown.lines().collect();
    // A warning would be in the last lines, after the footer of the page.
    assert!(lines.iter().rfind(|line| !line.is_empty()).unwrap().starts_with("jamjam-dev 0."), "{shown}");
    assert!(lines[0].contains("User Commands"), "{}", lines[0]);
    let tag = lines.iter().position(|line| line.trim() == "--max-loss <PERCENT>").expect("the option");
    assert_eq!(lines[tag + 1].trim(), "Maximum packet loss, such as 0.5%");
}

#[test]
fn every_completion_lists_every_option_of_every_subcommand() {
    for (shell, dashes) in [("bash", "--"), ("zsh", "--"), ("fish", "-l ")] {
        let text = generated(&format!("complete-{shell}"));
        for (subcommand, longs) in options() {
            assert!(text.contains(&subcommand), "{shell} {subcommand}");
            for long in longs {
                assert!(text.contains(&long.replace("--", dashes)), "{shell} {subcommand} {long}");
            }
        }
    }
}

/// The completions that bash offers for the last of `words`.
fn bash_offers(words: &[&str]) -> Option<Vec<String>> {
    let script = generated("complete-bash")
        + r#"
        COMP_WORDS=("$@")
        COMP_CWORD=$(($# - 1))
        function=$(complete -p jamjam-dev | sed 's/.* -F \([^ ]*\) .*/\1/')
        "$function" jamjam-dev "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
        "#;
    let offered = output_of(Command::new("bash").args(["--norc", "-s", "--"]).args(words), &script)?;
    Some(offered.lines().map(str::to_owned).collect())
}

#[test]
fn bash_completes_subcommands_options_and_values() {
    for (words, expected) in [
        (&["jamjam-dev", "pr"][..], &["probe"][..]),
        (&["jamjam-dev", "--gen"], &["--generate"]),
        (&["jamjam-dev", "--generate", "complete-"], &["complete-bash", "complete-zsh", "complete-fish"]),
        (&["jamjam-dev", "probe", "--max-p"], &["--max-p50", "--max-p99"]),
        (&["jamjam-dev", "echo-server", "--max-buffer"], &["--max-buffer"]),
        (&["jamjam-dev", "send", "--resample", ""], &["48k", "native"]),
    ] {
        let Some(offered) = bash_offers(words) else { return };
        assert_eq!(offered, expected, "{words:?}");
    }
}

#[test]
fn zsh_and_fish_load_their_completions() {
    output_of(Command::new("zsh").args(["-f", "-n", "/dev/stdin"]), &generated("complete-zsh"));
    let script = generated("complete-fish") + "complete -C 'jamjam-dev probe --max-p'\n";
    let Some(offered) = output_of(Command::new("fish").arg("--no-config"), &script) else { return };
    let offered: Vec<&str> = offered.lines().filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(offered, ["--max-p50", "--max-p99"]);
}

#[test]
fn generate_excludes_subcommands_and_one_of_them_is_required() {
    for args in [&["--generate", "man", "probe"][..], &["--generate", "troff"], &["--color", "never"], &[]] {
        let output = program(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}: {output:?}");
    }
}
