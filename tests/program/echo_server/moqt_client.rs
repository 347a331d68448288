//! The log of a MOQT echo server, and a client: this project's own `send`.

use test_support::client::{ProgramOutput, run_args};
use test_support::server::Server;

/// The lines that the server logs before it serves MOQT.
#[derive(Debug)]
pub(crate) struct MoqtLog {
    pub(crate) listening: String,
    pub(crate) webtransport: String,
    pub(crate) quic: String,
    pub(crate) sha256: String,
}

impl MoqtLog {
    /// Parses the log lines that describe the MOQT server.
    pub(crate) fn of(server: &mut Server) -> Self {
        let rest = |message: &str, before: &str, after: &str| {
            let rest = message.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            rest.unwrap_or_else(|| panic!("no {before}…{after} in {message:?}")).to_owned()
        };
        let listening = server.line_starting_with("moqt: listening addresses=").message;
        let [webtransport, quic, certificate] = [(); 3].map(|()| server.line().message);
        let (_, sha256) = certificate.split_once(" sha256=").expect("the certificate in use");
        Self {
            listening: rest(&listening, "moqt: listening addresses=", "").replace('"', ""),
            webtransport: rest(&webtransport, "moqt: serving url=", " transport=WebTransport"),
            quic: rest(&quic, "moqt: serving url=", " transport=QUIC"),
            sha256: sha256.to_owned(),
        }
    }

    pub(crate) fn port(&self) -> &str {
        self.listening.rsplit_once(':').unwrap().1
    }

    /// These options, and the one that makes the client trust the server's certificate.
    pub(crate) fn trusted(&self, options: &str) -> String {
        format!("--cert-sha256 {} {options}", self.sha256)
    }

    /// Both URLs.
    pub(crate) fn urls(&self) -> [&str; 2] {
        [&self.webtransport, &self.quic]
    }
}

/// Checks that three texts return. Unlike packets, no text is skipped while this machine is busy.
pub(crate) fn assert_echoes(url: &str, trust: &[&str]) {
    let output = send_texts(url, trust);
    assert_eq!((output.code, &*output.stdout), (0, "one\ntwo\nthree\n"), "{url}: {output:?}");
}

pub(crate) fn send_texts(url: &str, options: &[&str]) -> ProgramOutput {
    let fixed = ["send", "--to", url, "--text", "one", "--text", "two", "--text", "three"];
    run_args(fixed.iter().chain(options))
}
