//! `-h` and `--help`: commands in groups, options, exit codes and examples.

use clap::{Arg, Command};

/// The commands by what they are for.
const GROUPS: [(&str, &[&str]); 3] = [
    ("Servers", &["echo-server", "signaling-server", "relay"]),
    ("Measurements", &["send", "probe", "compare", "load-echo", "load-rooms", "musicians", "publish", "replay"]),
    ("Tools", &["rooms", "devices", "doctor", "token", "generate"]),
];

/// Exit codes and their meaning.
pub(crate) const EXIT_CODES: [(&str, &str); 6] = [
    ("0", "All limits were met or, without limits, replies were received. Servers: stopped by a signal."),
    ("1", "A limit was exceeded, a check failed, data came back damaged, or nothing came back."),
    ("2", "Usage error."),
    ("3", "A file, device, host name or socket cannot be used, or the connection failed at once."),
    ("4", "Not measured: a limit could not be judged, this host was too busy, or a check saw no client."),
    ("129, 130, 143", "Interrupted by SIGHUP, SIGINT or SIGTERM. Servers: only at startup or at a second signal."),
];

pub(crate) const EXAMPLES: [&str; 20] = [
    "jamjam-dev echo-server --delay 1000",
    "jamjam-dev echo-server --loss 1% --jitter 5",
    "jamjam-dev signaling-server --host 127.0.0.1",
    "jamjam-dev signaling-server --cert chain.pem --key key.pem",
    "jamjam-dev relay 4000 192.0.2.7:5000 --network wifi-bad",
    "jamjam-dev send --tone 440 --duration 2 --embedded",
    "jamjam-dev send take.wav --to echo.example.org --record returned.wav",
    "jamjam-dev probe --embedded",
    "jamjam-dev probe echo.example.org --max-loss 0 --max-p99 5",
    "jamjam-dev compare one.example.org two.example.org",
    "jamjam-dev load-echo echo.example.org --tone 440 --clients 200 --ramp --profile internet-music",
    "jamjam-dev load-rooms ws://localhost:8080 --clients 100 --room-count 10 --rate 10",
    "jamjam-dev musicians --tone 220 --clients 3 --room jam --signaling-url ws://localhost:8080",
    "jamjam-dev publish moqt://localhost/echo --text hello",
    "jamjam-dev replay run.jsonl --html report.html",
    "jamjam-dev rooms ws://localhost:8080",
    "jamjam-dev token client-001:radio --hmac-secret @secret",
    "jamjam-dev doctor --json",
    "jamjam-dev devices --json",
    "jamjam-dev generate man > /usr/local/share/man/man1/jamjam-dev.1",
];

/// The program with the help of `--help`, which shows all options in one paragraph each, or with that of `-h`, which shows what most users
/// need in one line each.
pub(crate) fn of_program(program: Command, is_complete: bool) -> Command {
    let command_line = |name: &&str| {
        let about = program.find_subcommand(name).and_then(Command::get_about).map(ToString::to_string);
        format!("  {name:<18}{}\n", about.unwrap_or_default())
    };
    let group = |(heading, names): (&str, &[&str])| {
        format!("{heading}:\n{}\n", names.iter().map(command_line).collect::<String>())
    };
    let template = format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n\n{}Options:\n{{options}}{{after-help}}",
        GROUPS.map(group).concat()
    );
    let shown = move |argument: Arg| if is_complete { argument.hide_short_help(false) } else { in_one_line(argument) };
    let program = program.help_template(template).mut_args(shown);
    program.mut_subcommands(|command| with_examples(command.mut_args(shown), is_complete))
}

/// Hides environment variables, possible values, and optional parts of values.
fn in_one_line(argument: Arg) -> Arg {
    let argument = argument.hide_env(true);
    if !argument.get_action().takes_values() || argument.is_positional() {
        return argument;
    }
    // `PERCENT[,DURATION]` becomes PERCENT.
    let name = argument.get_value_names().and_then(|names| names.first()?.split(['[', '|']).next().map(str::to_owned));
    let argument = argument.hide_possible_values(true);
    name.filter(|name| !name.is_empty()).map_or(argument.clone(), |name| argument.value_name(name))
}

/// Adds examples to the help of a command, after the exit codes if the help `is_complete`.
fn with_examples(command: Command, is_complete: bool) -> Command {
    let start = format!("jamjam-dev {} ", command.get_name());
    let lines = EXAMPLES.into_iter().filter(|line| line.starts_with(&start));
    let examples = format!("Examples: {}", lines.collect::<Vec<_>>().join("\n          "));
    let codes = EXIT_CODES.map(|(code, meaning)| format!("  {code}: {meaning}\n")).concat();
    command.after_help(if is_complete {
        format!("Exit codes:\n{codes}\n{examples}")
    } else {
        format!("{examples}\nAll options: {start}--help")
    })
}
