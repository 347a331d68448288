//! Options of `signaling-server` about its login: who may read its description, see its console and change what it does.

use std::fmt;
use std::io::{IsTerminal, Write, stderr, stdout};
use std::net::SocketAddr;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tracing::info;

use super::Failure;
use super::args::OrOff;
use super::broadcast_rooms::{PerTime, rate};
use super::secrets;
use crate::io::entropy;
use crate::io::http::login::{Credentials, Login};

const HEADING: &str = "Login";

/// Who is let in.
#[derive(clap::Args)]
pub struct DocsLogin {
    /// Name for /docs, /console and /admin
    #[arg(long, env = "DOCS_USERNAME", value_name = "NAME", value_parser = name, default_value = "admin", help_heading = HEADING)]
    docs_username: String,

    /// Password for them. Without one nobody is let in; but where the server listens on this machine alone, and is started at a
    /// terminal, one is made and shown there. Other users of this machine see the command line: better a file, or the variable
    #[arg(long, env = "DOCS_PASSWORD", value_name = "PASSWORD", hide_env_values = true, help_heading = HEADING)]
    docs_password: Option<String>,

    /// File with that password, in place of it; a line break at its end does not count
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    docs_password_file: Option<PathBuf>,

    /// Most failed logins of one address, as N/TIME (20/15m, 5/s), or off; then it has to wait, even with the right password
    #[arg(long, env = "RATE_LIMIT_LOGIN", value_name = "RATE", value_parser = rate, default_value = "20/15m", help_heading = HEADING)]
    rate_limit_login: OrOff<PerTime>,
}

impl fmt::Debug for DocsLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DocsLogin").finish_non_exhaustive()
    }
}

impl DocsLogin {
    /// The password that is given, if one is.
    pub fn password(&self) -> Result<Option<String>, Failure> {
        secrets::text("--docs-password", self.docs_password.as_deref(), self.docs_password_file.as_deref())
    }

    /// The login of a server at `address`.
    pub fn at(&self, address: SocketAddr, password: Option<String>) -> Login {
        let password = password.or_else(|| self.made(address));
        if password.is_none() {
            info!(
                "No DOCS_PASSWORD is given: /docs, /console and /admin let nobody in; give --docs-password-file FILE or the variable"
            );
        }
        let expected = password.map(|password| Credentials::new(&self.docs_username, &password));
        Login::new(expected, self.rate_limit_login.0.map(PerTime::rate))
    }

    /// A password for whoever sits at this machine's terminal, who is told. Into a pipe or a file it does not go.
    fn made(&self, address: SocketAddr) -> Option<String> {
        if !address.ip().to_canonical().is_loopback() {
            return None;
        }
        let password = URL_SAFE_NO_PAD.encode(entropy::words::<2>().map(u64::to_be_bytes).concat());
        let told = format!("docs login, until the server ends: {} {password}", self.docs_username);
        let written = if stderr().is_terminal() {
            writeln!(stderr(), "{told}")
        } else if stdout().is_terminal() {
            writeln!(stdout(), "{told}")
        } else {
            return None;
        };
        written.ok().map(|()| password)
    }
}

/// A name that HTTP Basic can tell (RFC 7617, section 2).
fn name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(|letter: char| letter == ':' || letter.is_control()) {
        Err("give a name without a colon".to_owned())
    } else {
        Ok(text.to_owned())
    }
}
