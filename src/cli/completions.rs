//! Shell completions. `clap_complete` generates the scripts from the options; this module adds completion of sound devices.
//!
//! The scripts get the devices from `jamjam-dev --generate input-devices` or `output-devices`. These hidden kinds print one device per
//! line: its id, a tab, and its name.

use anyhow::Context;
use clap::builder::PossibleValuesParser;
use clap::{Arg, Command, ValueHint};
use clap_complete::Shell;

use crate::io::sound::{self, DeviceDirection};
use crate::sanitize::sanitize;

/// The options whose values are sound devices, and the placeholder for these values in a generated script.
const DEVICE_OPTIONS: [(&str, &str); 2] = [("mic_device", "@input-devices@"), ("play_device", "@output-devices@")];

/// Before this line of the zsh script, functions can be defined.
const ZSH_END: &str = "if [ \"$funcstack[1]\" = \"_jamjam-dev\" ]; then\n";

/// Completes sound devices. `$2` is only a part of the typed word if the word contains a colon or an equals sign.
const BASH_DEVICES: &str = r#"
_jamjam__dev__devices() {
    local line="${COMP_LINE:0:COMP_POINT}" kind typed id name
    local option='[[:space:]]--(mic|play)-device([[:space:]]+|=)([^[:space:]]*)$'
    if ! [[ "$line" =~ $option ]]; then
        _jamjam__dev "$@"
        return
    fi
    case "${BASH_REMATCH[1]}" in
        mic) kind=input-devices ;;
        play) kind=output-devices ;;
    esac
    typed="${BASH_REMATCH[3]}"
    COMPREPLY=()
    while IFS=$'\t' read -r id name; do
        id=${id:+$(printf '%q' "$id")}
        if [[ -n "$id" && "$id" == "$typed"* ]]; then
            COMPREPLY+=("${id#"${typed%"$2"}"}")
        fi
    done < <("${1/#\~/$HOME}" --generate "$kind" 2>/dev/null)
}
"#;

const ZSH_DEVICES: &str = r#"_jamjam-dev_devices() {
    local -a devices; local line
    for line in ${(f)"$(jamjam-dev --generate $1 2>/dev/null)"}; do
        devices+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done
    _describe -t devices device devices
}

"#;

/// The completion script of `shell`.
pub fn script(shell: Shell, cli: Command) -> anyhow::Result<String> {
    let mut cli = with_value_hints(cli);
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut cli, "jamjam-dev", &mut text);
    let text = String::from_utf8(text)?;
    Ok(match shell {
        Shell::Bash => bash(&text),
        Shell::Zsh => zsh(&text, &cli),
        _ => fish(&text),
    })
}

/// Adds to every option what its value is: a file, a directory, a host, a URL, a sound device, or anything else. By default, shells offer
/// files for all of them.
fn with_value_hints(command: Command) -> Command {
    command.mut_args(with_value_hint).mut_subcommands(with_value_hints)
}

fn with_value_hint(arg: Arg) -> Arg {
    if !arg.get_action().takes_values() || !arg.get_possible_values().is_empty() {
        return arg;
    }
    if let Some((_, placeholder)) = DEVICE_OPTIONS.iter().find(|(id, _)| arg.get_id() == *id) {
        return arg.value_parser(PossibleValuesParser::new([*placeholder]));
    }
    let name = arg.get_value_names().unwrap_or_default().join(" ");
    let hint = match name.as_str() {
        "DIR" => ValueHint::DirPath,
        name if name.contains("FILE") || arg.get_value_hint() == ValueHint::AnyPath => ValueHint::FilePath,
        name if name.contains("HOST") => ValueHint::Hostname,
        _ => ValueHint::Other,
    };
    arg.value_hint(hint)
}

fn bash(script: &str) -> String {
    // In the bash script, clap_complete 4.6 replaces the hyphen of `jamjam-dev` with `__` or with `__subcmd__`. bash
    // completion recognizes the subcommands only if the script uses the same replacement everywhere.
    let mut text = script.replace("jamjam__subcmd__dev", "jamjam__dev");
    for (_, placeholder) in DEVICE_OPTIONS {
        text = text.replace(placeholder, "");
    }
    // The script has no action for host names: it offers files instead. If files are wanted, `IFS` is set between these two lines.
    let label = ")\n                    COMPREPLY=(";
    text = text.replace(
        &format!("{label}$(compgen -f \"${{cur}}\"))\n"),
        &format!("{label}$(compgen -A hostname -- \"${{cur}}\"))\n"),
    );
    let functions = text.find("\nif [[ \"${BASH_VERSINFO[0]}\" -eq 4 ").unwrap_or(text.len());
    text.insert_str(functions, BASH_DEVICES);
    text.replace("complete -F _jamjam__dev ", "complete -F _jamjam__dev__devices ")
}

fn zsh(script: &str, cli: &Command) -> String {
    let mut text = script.replace(ZSH_END, &format!("{ZSH_DEVICES}{ZSH_END}"));
    // An unescaped colon in the name of a value would end the name.
    for arg in cli.get_subcommands().flat_map(Command::get_arguments) {
        for name in arg.get_value_names().unwrap_or_default().iter().filter(|name| name.contains(':')) {
            text = text.replace(&format!(":{name}:"), &format!(":{}:", name.replace(':', "\\:")));
        }
    }
    for (_, placeholder) in DEVICE_OPTIONS {
        // The space before the function keeps `_arguments` from inserting options before the argument.
        let action = format!(" _jamjam-dev_devices {}", placeholder.trim_matches('@'));
        text = text.replace(&format!("({placeholder})"), &action);
    }
    text
}

fn fish(script: &str) -> String {
    let mut text = script.to_owned();
    for (_, placeholder) in DEVICE_OPTIONS {
        let command = format!("(jamjam-dev --generate {} 2>/dev/null)", placeholder.trim_matches('@'));
        text = text.replace(&format!("{placeholder}\\t''"), &command).replace(placeholder, &command);
    }
    text
}

/// The sound devices for the scripts, one per line.
pub fn device_lines(direction: DeviceDirection) -> anyhow::Result<String> {
    let devices = sound::list_devices().context("cannot list devices")?;
    let devices = if direction == DeviceDirection::Input { devices.inputs } else { devices.outputs };
    let lines = devices.iter().map(|device| format!("{}\t{}\n", sanitize(&device.id), sanitize(&device.name)));
    Ok(lines.collect())
}
