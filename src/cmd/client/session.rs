//! A run over MOQT: calls, sends groups and hears them, and leaves the same result as one over UDP.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;

use super::super::Failure;
use super::super::distinct::refuse_one_file_twice;
use super::super::lines;
use super::super::target::MoqtTarget;
use super::embedded_moqt::Embedded;
use super::watch::{Seen, Watch, signal};
use super::{ClientArgs, Ended};
use crate::flow::moqt::{Frames, Lost, MoqtRun, Terms};
use crate::flow::run::Command;
use crate::io::moqt::client::{Dial, DialError};
use crate::io::moqt::{Call, Called, Target};
use crate::io::stop::{Reason, Stop};
use crate::io::tls::disbelief;
use crate::io::tls::witness::Witness;
use crate::io::udp::{DEFAULT_BUFFER, DEFAULT_SPIN};
use crate::moqt::client::{Config, Fact};
use crate::moqt::{DEFAULT_PORT, Flavour};
use crate::report::text;
use crate::stats::Machine;

/// Texts that wait to be echoes.
const TEXTS: usize = 1_024;

/// What to run, and with whom.
pub struct Session<'a> {
    /// Which subcommand.
    pub command: Command,
    /// The server; none if it is embedded.
    pub to: Option<&'a MoqtTarget>,
    /// The embedded server.
    pub embedded: Option<Embedded>,
    /// What is offered, the preferred one first.
    pub offers: Vec<Flavour>,
    /// What is sent.
    pub config: Config,
    /// Is given what comes back, as it comes, on this thread.
    pub print: Option<&'a mut dyn FnMut(&Bytes)>,
}

impl ClientArgs {
    /// Refuses options that mean nothing over MOQT.
    pub fn refuse_over_moqt(&self) -> Result<(), Failure> {
        let given = [
            ("--ask-server", self.ask.is_asked()),
            ("--hold", self.hold.is_some()),
            ("--socket-buffer", self.socket_buffer.0 != DEFAULT_BUFFER as u64),
            ("--spin", self.spin != DEFAULT_SPIN),
            ("--room", self.room.is_wanted()),
        ];
        let given = given.into_iter().find_map(|(option, given)| given.then_some(option));
        match given.or_else(|| self.impairment.given()).or_else(|| self.room.is_about_udp()) {
            Some(option) => Err(over_udp_only(option)),
            None => Ok(()),
        }
    }

    /// Runs a session to its end, or until `stop` is requested.
    pub fn hold_session(&self, session: Session<'_>, stop: &Stop) -> Result<Ended, Failure> {
        refuse_one_file_twice(self.written())?;
        let Session { command, to, embedded, offers, config, print } = session;
        let (target, name, trust) = match (&embedded, to) {
            (Some(server), _) => (server.target.clone(), server.name.clone(), server.trust.clone()),
            (None, Some(to)) => (to.target.clone(), to.target.to_string(), self.room.trust()),
            (None, None) => return Err(Failure::usage("nobody to talk to: give --to URL, or --embedded --moqt")),
        };
        let witness = Arc::new(Witness::new(trust.verifier().context("--ca").map_err(Failure::unusable)?));
        self.files.prepare()?;

        let (queue, mut printer) = self.json_lines.then(lines::channel).unzip();
        let terms = Terms {
            command,
            target: name,
            timeout: self.timeout.0,
            late_after: self.late_after.map(|late| late.0),
            head_track: config.head_broadcast.with(&config.head_track).to_string(),
        };
        let per_group = config.frames_per_group as u64;
        let connection = MoqtRun::new(target.transport, config.track.to_string(), per_group);
        let total = config.count.map(|count| count.saturating_mul(per_group));
        let frames = Frames::new(terms, connection, Box::new(queue));
        let live = frames.live();
        let mut watch = Watch::start(&live, total, printer.as_mut());
        let dial = Dial { trust, offers, ..Dial::new(target.clone(), Arc::<Witness>::clone(&witness)) };
        let wait_for = self.wait_for.map(|wait| wait.0);
        let patience = wait_for.unwrap_or(dial.limits.setup);

        let (said, echoes) = mpsc::sync_channel(TEXTS);
        let heard = move |fact: &Fact| {
            if let Fact::Came { payload, .. } | Fact::Unmatched { payload, .. } = fact {
                // Whoever prints nothing has closed the channel; whoever does is waited for, so that no line is missing.
                let _ = said.send(payload.clone());
            }
        };
        let config = Config { timeout: self.timeout.0, ..config };
        let call = Call::begin(dial, config, frames, wait_for, heard, stop.clone());
        let mut call = call.context("cannot start a thread").map_err(Failure::unusable)?;
        if let Some(print) = print {
            watch = watch.without_bar();
            watch.until(stop, |patience| {
                let heard = echoes.recv_timeout(patience);
                if let Ok(text) = &heard {
                    print(text);
                }
                heard == Err(RecvTimeoutError::Disconnected) || call.is_given_up()
            });
        } else {
            drop(echoes);
            watch.until(stop, |patience| call.is_over_within(patience));
        }
        let Called { mut frames, error, wait } = call.end();
        if let Some(server) = embedded {
            server.end();
        }
        if let Some(error) = error {
            let lost = lost(error, to, patience);
            frames.lost(lost.map_err(|error| unusable(error, &target, &witness, stop))?);
        }
        let interrupted = stop.requested().filter(|_| frames.is_cut_short()).map(signal);
        let Seen { clock, unix_ns, mut lines } = watch.finish();
        let mut run = frames.into_run(interrupted, &mut lines);
        run.wait = wait;
        run.machine = Some(Machine { clock, ..Machine::default() });
        run.started_unix_ms = unix_ns.saturating_sub(run.duration_ns) / 1_000_000;
        Ok(Ended { run, broken: None, page: None })
    }
}

/// Says that an option belongs to UDP.
pub(in super::super) fn over_udp_only(option: &str) -> Failure {
    Failure::usage(format!(
        "{option}: it means nothing over MOQT; leave it out, or give a UDP target as HOST[:PORT] in place of a URL"
    ))
}

/// What a call that came to nothing says in the report, unless it is no news of the server.
fn lost(error: DialError, to: Option<&MoqtTarget>, waited: Duration) -> Result<Lost, DialError> {
    match error {
        DialError::Silent { target, .. } => {
            let waited = text::duration(waited);
            let port = match to {
                Some(to) if !to.has_port && to.target.port != DEFAULT_PORT => format!(
                    " (the URL names no port, so {} was asked; MOQT echo servers listen on {DEFAULT_PORT})",
                    to.target.port
                ),
                _ => String::new(),
            };
            Ok(Lost::Unreachable(format!("{target} does not answer within {waited}{port}")))
        }
        DialError::Protocol { .. } | DialError::Failed { .. } | DialError::Status { .. } => {
            Ok(Lost::Refused(error.to_string()))
        }
        DialError::Name(_)
        | DialError::Afar(_)
        | DialError::Socket(_)
        | DialError::Certificate { .. }
        | DialError::Interrupted => Err(error),
    }
}

/// What nothing can be reported of.
fn unusable(error: DialError, target: &Target, witness: &Witness, stop: &Stop) -> Failure {
    let cannot = |error: anyhow::Error| Failure::unusable(error.context(format!("cannot use {target}")));
    match error {
        DialError::Interrupted => {
            let code = stop.requested().unwrap_or(Reason::Interrupt).exit_code();
            Failure { code, error: anyhow!("interrupted while connecting to {target}; nothing was sent") }
        }
        DialError::Afar(error) => Failure::usage(error),
        DialError::Certificate { reason, .. } => cannot(disbelieved(witness, &reason)),
        error => cannot(error.into()),
    }
}

/// What is wrong with the server's certificate, which one it is, and the way out.
fn disbelieved(witness: &Witness, reason: &str) -> anyhow::Error {
    let Some((shown, why)) = witness.disbelieved() else {
        return anyhow!("its certificate is not believed: {reason}");
    };
    let advice = disbelief::advice(&why);
    if advice.contains(&shown.to_string()) {
        return anyhow!("{advice}");
    }
    anyhow!(
        "{advice}. The SHA-256 of the certificate that it shows is {shown}: if its owner, or the server itself, says the same, give \
         --cert-sha256 {shown}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_nobody_named_is_named_where_nobody_answers() {
        for (url, hint) in [
            ("https://h/echo", " (the URL names no port, so 443 was asked; MOQT echo servers listen on 4443)"),
            ("https://h:443/echo", ""),
            ("moqt://h/echo", ""),
        ] {
            let Ok(to) = url.parse::<MoqtTarget>() else { panic!("{url}") };
            let silent = DialError::Silent { target: to.target.clone(), waited: Duration::ZERO };
            let expected = format!("{} does not answer within 250.000 ms{hint}", to.target);
            let lost = lost(silent, Some(&to), Duration::from_millis(250));
            assert!(matches!(lost, Ok(Lost::Unreachable(told)) if told == expected), "{url}");
        }
    }
}
