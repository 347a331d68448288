//! The completions of dialects, files and hosts, tested by typing into real shells. The shells run in a terminal that
//! `script` (util-linux) emulates. Tests of shells that are not installed are skipped.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// A folder with two files, two folders, and a link to the program.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in
        [("take one.wav", ""), ("certificate.pem", ""), ("hosts", "192.0.2.1 rehearsal-room take-five\n")]
    {
        fs::write(folder.path().join(name), text).unwrap();
    }
    fs::create_dir(folder.path().join("certificates")).unwrap();
    fs::create_dir(folder.path().join("bin")).unwrap();
    let link = folder.path().join("bin/jamjam-dev");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_jamjam-dev"), link).unwrap();
    folder
}

/// `command` in the folder, with an environment that does not depend on the user.
fn in_folder<'a>(folder: &Path, command: &'a mut Command) -> &'a mut Command {
    let path = format!("{}:{}", folder.join("bin").display(), std::env::var("PATH").unwrap());
    command.current_dir(folder).env("PATH", path).env("HOME", folder).env("ZDOTDIR", folder).env("TERM", "dumb");
    command.env("HOSTFILE", folder.join("hosts")).env("LC_ALL", "C.UTF-8");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped())
}

/// Runs `command` with `input`. Returns standard output, or `None` if it is not installed.
fn output_of(command: &mut Command, input: &str) -> Option<String> {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // Writing to `stderr()` bypasses the test runner's capture, which hides the output of passing tests.
            let _ = writeln!(io::stderr(), "SKIPPED: {} is not installed", command.get_program().display());
            return None;
        }
        Err(error) => panic!("{command:?}: {error}"),
    };
    // The input is short enough for the pipe's buffer, so writing does not wait for the program.
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Types each line and the tab key into the shell. Returns the completed lines.
///
/// `settings` loads the completions. It binds Ctrl+T to a function that appends the current line to the file `completed` and clears it.
fn typed(shell: &str, arguments: &str, settings: &str, lines: &[&str]) -> Option<Vec<String>> {
    output_of(Command::new(shell).arg("--version").stdin(Stdio::piped()).stdout(Stdio::piped()), "")?;
    let folder = folder();
    fs::write(folder.path().join(".zshrc"), settings).unwrap();
    let keys = lines.join("\t\x14") + "\t\x14";
    let mut script = Command::new("script");
    script.args(["-qec", &format!("{shell} {arguments}"), "/dev/null"]);
    let terminal = output_of(in_folder(folder.path(), &mut script), &(keys + "exit\r"))?;
    let completed = fs::read_to_string(folder.path().join("completed")).unwrap_or_else(|_| panic!("{terminal}"));
    Some(completed.lines().map(str::to_owned).collect())
}

/// Lines, and what the tab key makes of them. The completions of both shells end with a space, except after directories.
const CASES: [(&str, &str); 7] = [
    ("jamjam-dev probe --dialect broa", "jamjam-dev probe --dialect broadcast "),
    ("jamjam-dev signaling-server --dialect web", "jamjam-dev signaling-server --dialect webrtc "),
    ("jamjam-dev send --wav ta", "jamjam-dev send --wav take\\ one.wav "),
    ("jamjam-dev signaling-server --rooms cert", "jamjam-dev signaling-server --rooms certificates/"),
    ("jamjam-dev probe --to rehears", "jamjam-dev probe --to rehearsal-room "),
    ("jamjam-dev probe --embed", "jamjam-dev probe --embedded "),
    ("jamjam-dev ech", "jamjam-dev echo-server "),
];

fn assert_completed(completed: &[String]) {
    let expected: Vec<&str> = CASES.iter().map(|(_, completed)| completed.trim_end()).collect();
    let completed: Vec<&str> = completed.iter().map(|line| line.trim_end()).collect();
    assert_eq!(completed, expected);
}

#[test]
fn bash_completes_dialects_files_and_hosts() {
    let settings = r#"
        source <(jamjam-dev --generate complete-bash)
        record() { printf '%s\n' "$READLINE_LINE" >>completed; READLINE_LINE= READLINE_POINT=0; }
        bind -x '"\C-t": record'
    "#;
    let lines = CASES.map(|(line, _)| line);
    let Some(completed) = typed("bash", "--noprofile --rcfile .zshrc -i", settings, &lines) else { return };
    assert_completed(&completed);
}

#[test]
fn zsh_completes_dialects_files_and_hosts() {
    let settings = r#"
        autoload -Uz compinit && compinit -u -D
        source <(jamjam-dev --generate complete-zsh)
        zstyle ':completion:*:hosts' hosts rehearsal-room
        record() { print -r -- "$BUFFER" >>completed; BUFFER= }
        zle -N record && bindkey -e && bindkey '^T' record
    "#;
    let lines = CASES.map(|(line, _)| line);
    let Some(completed) = typed("zsh", "-d -i", settings, &lines) else { return };
    assert_completed(&completed);
}

#[test]
fn fish_completes_dialects_and_files() {
    let folder = folder();
    let offered = |line: &str| {
        let script = format!("jamjam-dev --generate complete-fish | source\ncomplete -C '{line}'\n");
        let offered = output_of(in_folder(folder.path(), Command::new("fish").arg("--no-config")), &script)?;
        Some(offered.lines().map(str::to_owned).collect::<Vec<_>>())
    };
    for (line, expected) in [
        ("jamjam-dev probe --dialect broa", &["broadcast\tBroadcast rooms, with tokens"][..]),
        ("jamjam-dev signaling-server --dialect web", &["webrtc\tWebRTC signaling"]),
        ("jamjam-dev send --wav ta", &["take one.wav"]),
        ("jamjam-dev signaling-server --rooms certificates", &["certificates/\tDirectory"]),
        ("jamjam-dev probe --count ta", &[]),
    ] {
        let Some(offered) = offered(line) else { return };
        assert_eq!(offered, expected, "{line}");
    }
}

#[test]
fn values_that_are_not_files_do_not_complete_to_files() {
    let lines = ["jamjam-dev probe --count ta", "jamjam-dev send --tone take"];
    let bash = r#"
        source <(jamjam-dev --generate complete-bash)
        record() { printf '%s\n' "$READLINE_LINE" >>completed; READLINE_LINE= READLINE_POINT=0; }
        bind -x '"\C-t": record'
    "#;
    let Some(completed) = typed("bash", "--noprofile --rcfile .zshrc -i", bash, &lines) else { return };
    assert_eq!(completed, lines);
}
