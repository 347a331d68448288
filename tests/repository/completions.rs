//! The generated completions, tested by typing into real shells. The shells run in a terminal that `script` (util-linux) emulates.

use std::fs;
use std::process::Command;

use test_support::repository_files::run_tool;

/// Completions and the command that the tab key makes of a beginning of it. After a directory, there is no space.
const COMPLETED: [(&str, &str); 8] = [
    ("jamjam-dev ech", "jamjam-dev echo-server "),
    ("jamjam-dev probe --embed", "jamjam-dev probe --embedded "),
    ("jamjam-dev probe --dialect broa", "jamjam-dev probe --dialect broadcast "),
    ("jamjam-dev send --resample nat", "jamjam-dev send --resample native "),
    ("jamjam-dev send --wav ta", "jamjam-dev send --wav take\\ one.wav "),
    ("jamjam-dev signaling-server --rooms cert", "jamjam-dev signaling-server --rooms certificates/"),
    ("jamjam-dev probe --to rehears", "jamjam-dev probe --to rehearsal-room "),
    // A number is not completed to a file.
    ("jamjam-dev probe --count ta", "jamjam-dev probe --count ta"),
];

/// Types `keys` into an interactive shell in a folder with files, after it has read `settings`. Returns the text of the file `completed`,
/// or `None` without the shell.
fn typed(shell: &str, arguments: &str, settings: &str, keys: &str) -> Option<String> {
    run_tool(Command::new(shell).arg("--version"), "")?;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for name in ["certificates", "bin"] {
        fs::create_dir(folder.join(name)).unwrap();
    }
    let hosts = "192.0.2.1 rehearsal-room take-five\n";
    for (name, text) in [("take one.wav", ""), ("certificate.pem", ""), ("hosts", hosts), (".zshrc", settings)] {
        fs::write(folder.join(name), text).unwrap();
    }
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_jamjam-dev"), folder.join("bin/jamjam-dev")).unwrap();
    let path = format!("{}:{}", folder.join("bin").display(), std::env::var("PATH").unwrap());
    let mut script = Command::new("script");
    script.args(["-qec", &format!("{shell} {arguments}"), "/dev/null"]).current_dir(folder);
    script.env("PATH", path).env("HOME", folder).env("ZDOTDIR", folder).env("TERM", "dumb");
    script.env("HOSTFILE", folder.join("hosts")).env("LC_ALL", "C.UTF-8");
    let terminal = run_tool(&mut script, keys)?;
    Some(fs::read_to_string(folder.join("completed")).unwrap_or_else(|_| panic!("{terminal:?}")))
}

/// Types the beginning of each command, the tab key, and Ctrl+T, which `settings` bind to a function that moves the line to `completed`.
#[track_caller]
fn assert_completes(shell: &str, arguments: &str, settings: &str) {
    let keys = COMPLETED.map(|(begin, _)| format!("{begin}\t\x14")).concat();
    let Some(completed) = typed(shell, arguments, settings, &(keys + "exit\r")) else { return };
    let expected: Vec<&str> = COMPLETED.iter().map(|(_, command)| command.trim_end()).collect();
    assert_eq!(completed.lines().map(str::trim_end).collect::<Vec<_>>(), expected);
}

#[test]
fn bash_completes_options_values_files_and_hosts() {
    let settings = r#"
        source <(jamjam-dev generate complete-bash)
        record() { printf '%s\n' "$READLINE_LINE" >>completed; READLINE_LINE= READLINE_POINT=0; }
        bind -x '"\C-t": record'
    "#;
    assert_completes("bash", "--noprofile --rcfile .zshrc -i", settings);
}

#[test]
fn zsh_completes_options_values_files_and_hosts() {
    let settings = r#"
        autoload -Uz compinit && compinit -u -D
        source <(jamjam-dev generate complete-zsh)
        zstyle ':completion:*:hosts' hosts rehearsal-room
        record() { print -r -- "$BUFFER" >>completed; BUFFER= }
        zle -N record && bindkey -e && bindkey '^T' record
    "#;
    assert_completes("zsh", "-d -i", settings);
}

#[test]
fn fish_completes_options_values_and_files() {
    let lines = ["probe --dialect broa", "send --wav ta", "signaling-server --rooms cert", "probe --count ta", "ech"];
    let offers = lines.map(|line| format!("complete -C 'jamjam-dev {line}' >>completed\n")).concat();
    let settings = "jamjam-dev generate complete-fish | source\n".to_owned() + &offers;
    let Some(offered) = typed("fish", "--no-config .zshrc", &settings, "") else { return };
    let expected = "broadcast\tBroadcast rooms, with tokens\ntake one.wav\ncertificates/\tDirectory\n";
    assert!(offered.starts_with(expected) && offered.contains("echo-server\t"), "{offered}");
}
