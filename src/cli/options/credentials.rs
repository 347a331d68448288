//! Secrets, logins and certificates as options. A secret comes from a file, the environment or the command line.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, anyhow};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tracing::info;

use crate::cli::file_arguments::InputFile;
use crate::cli::output::Failure;
use crate::io::http::login::{DEFAULT_USER_NAME, Login};
use crate::io::tls::Fingerprint;
use crate::io::tls::client::TrustPolicy;
use crate::io::tls::identity::ServerIdentity;
use crate::io::{files, os};
use crate::signaling::token::Secret;

const HEADING_TOKENS: &str = "Tokens";

#[derive(clap::Args)]
pub(crate) struct HmacSecretArgs {
    /// Secret that signs and verifies tokens [default: random]
    ///
    /// With @FILE, the secret is the content of a file. Other users of this machine can see the command line: prefer @FILE or the
    /// environment. AUTH_SECRET is used if HMAC_SECRET is not set.
    #[arg(long, hide_short_help = true, env = "HMAC_SECRET", value_name = "SECRET|@FILE", hide_env_values = true, help_heading = HEADING_TOKENS)]
    hmac_secret: Option<SecretArg>,
}

impl HmacSecretArgs {
    /// The secret that signs tokens, if given.
    pub(crate) fn read(&self) -> Result<Option<Secret>, Failure> {
        read_hmac_secret(self.hmac_secret.as_ref())
    }
}

#[derive(clap::Args)]
pub(crate) struct SecretArgs {
    #[command(flatten)]
    pub hmac: HmacSecretArgs,

    /// Key that POST /auth/token requires
    ///
    /// Without a key, everyone can get tokens for broadcast rooms, and no client for WebRTC rooms. With
    /// @FILE, the key is the content of a file.
    #[arg(long, hide_short_help = true, env = "TOKEN_ISSUER_KEY", value_name = "KEY|@FILE", hide_env_values = true, help_heading = HEADING_TOKENS)]
    token_issuer_key: Option<SecretArg>,
}

impl SecretArgs {
    /// The key that token requests require, if given.
    pub(crate) fn token_issuer_key(&self) -> Result<Option<Secret>, Failure> {
        let key = self.token_issuer_key.as_ref();
        key.map(|key| Ok(Secret::new(&key.read("--token-issuer-key")?))).transpose()
    }
}

/// A secret as the value of an option: the text itself, or `@` and the name of a file that contains it. It cannot be printed.
#[derive(Clone)]
pub(crate) struct SecretArg(String);

impl From<String> for SecretArg {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl SecretArg {
    /// The file that contains the secret, if there is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.0.strip_prefix('@').map(Path::new)
    }

    /// The secret that `option` gives.
    fn read(&self, option: &str) -> Result<String, Failure> {
        let Some(file) = self.file() else { return Ok(self.0.clone()) };
        // Without such a file, the text may be a secret that begins with `@`.
        let name = if file.exists() { &file.to_string_lossy() } else { "the file after @" };
        let text = files::read_text(file).with_context(|| format!("{option}: cannot read {name}"))?;
        if text.is_empty() {
            return Err(anyhow!("{option}: {name} is empty; give a file that is not empty").into());
        }
        Ok(text)
    }
}

pub(crate) fn read_hmac_secret(given: Option<&SecretArg>) -> Result<Option<Secret>, Failure> {
    given.map(|secret| Ok(Secret::new(&secret.read("--hmac-secret")?))).transpose()
}

const HEADING_LOGIN: &str = "Login";

/// Length of a random password, which cannot be guessed and is still short enough to type.
const RANDOM_PASSWORD_BYTES: usize = 16;

/// Login to /docs, /console and /admin.
#[derive(clap::Args)]
pub(crate) struct LoginArgs {
    /// User name for pages such as /console
    #[arg(long, hide_short_help = true, env = "DOCS_USERNAME", value_name = "NAME", value_parser = parse_username, default_value = DEFAULT_USER_NAME, help_heading = HEADING_LOGIN)]
    docs_username: String,

    /// Password for pages such as /console
    ///
    /// Without a password, a server on a terminal prints a random one. Without a terminal, every login is rejected. With @FILE, the password
    /// is the content of a file. Other users of this machine can see the command line: prefer @FILE or the environment.
    #[arg(long, env = "DOCS_PASSWORD", value_name = "PASSWORD|@FILE", hide_env_values = true, help_heading = HEADING_LOGIN)]
    docs_password: Option<SecretArg>,
}

impl LoginArgs {
    pub(crate) fn read(&self) -> Result<Operator, Failure> {
        let password = self.docs_password.as_ref().map(|password| password.read("--docs-password")).transpose()?;
        Ok(Operator { name: self.docs_username.clone(), password })
    }
}

/// The name and the password of the operator, if one is given.
pub(crate) struct Operator {
    name: String,
    password: Option<String>,
}

impl Operator {
    /// For a server without [`LoginArgs`], from their variables.
    pub(crate) fn from_environment() -> Result<Self, Failure> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let name = variable("DOCS_USERNAME").unwrap_or_else(|| DEFAULT_USER_NAME.to_owned());
        let name = parse_username(&name).map_err(|error| Failure::usage(format!("DOCS_USERNAME: {error}")))?;
        let password = variable("DOCS_PASSWORD").map(|password| SecretArg(password).read("DOCS_PASSWORD"));
        Ok(Self { name, password: password.transpose()? })
    }

    /// The login of the server whose page is at the URL `page`. Without a password, it is a random one that the terminal shows, or there is
    /// none.
    pub(crate) fn login(&self, page: &str) -> Login {
        let Self { name, password } = self;
        if let Some(password) = password {
            return Login::new(name, password);
        }
        let password = URL_SAFE_NO_PAD.encode(&os::random_secret()[..RANDOM_PASSWORD_BYTES]);
        // Not logged: a log may be stored or forwarded. Not part of the URL: from such a page, scripts cannot request relative URLs.
        if io::stderr().is_terminal()
            && writeln!(io::stderr(), "Login at {page}: user name {name}, password {password}").is_ok()
        {
            return Login::new(name, &password);
        }
        info!(target: "http", %page, "no password is set, so pages that need a login reject every request; set DOCS_PASSWORD");
        Login::default()
    }
}

/// Parses a user name for HTTP Basic authentication (RFC 7617, section 2).
fn parse_username(text: &str) -> Result<String, &'static str> {
    let is_valid = !text.is_empty() && !text.contains(|letter: char| letter == ':' || letter.is_control());
    is_valid.then(|| text.to_owned()).ok_or("give a name without colons or control characters")
}

pub(crate) const HEADING_TLS: &str = "TLS";

/// Certificate and key of a server. Both must be given, or neither.
#[derive(clap::Args)]
pub(crate) struct ServerTlsArgs {
    /// PEM certificate chain; enables wss:// and https://
    #[arg(long, env = "TLS_CERT", value_name = "FILE", help_heading = HEADING_TLS)]
    cert: Option<InputFile>,

    /// PEM file with the certificate's unencrypted private key
    #[arg(long, env = "TLS_KEY", value_name = "FILE", help_heading = HEADING_TLS)]
    key: Option<InputFile>,
}

impl ServerTlsArgs {
    pub(crate) fn identity(&self) -> Result<Option<Arc<ServerIdentity>>, Failure> {
        match (self.cert.as_deref(), self.key.as_deref()) {
            (None, None) => Ok(None),
            (Some(cert), Some(key)) => Ok(Some(ServerIdentity::from_pem_files(cert, key, SystemTime::now())?)),
            (Some(_), None) => Err(Failure::usage("--cert (TLS_CERT) needs the private key; add --key FILE (TLS_KEY)")),
            (None, Some(_)) => Err(Failure::usage("--key (TLS_KEY) needs the certificate; add --cert FILE (TLS_CERT)")),
        }
    }
}

/// How a TLS client verifies the certificate of the server.
#[derive(Clone, clap::Args)]
pub(crate) struct TrustArgs {
    /// PEM file with additional trusted CA certificates
    ///
    /// The system's CA certificates remain trusted.
    #[arg(long, hide_short_help = true, value_name = "FILE", help_heading = HEADING_TLS)]
    ca: Option<InputFile>,

    /// Accept only the certificate with this SHA-256 fingerprint
    ///
    /// Give 64 hexadecimal digits. The issuer is not checked.
    #[arg(long, hide_short_help = true, value_name = "HASH", conflicts_with = "ca", help_heading = HEADING_TLS)]
    cert_sha256: Option<Fingerprint>,

    /// Accept any certificate (testing only: connections can be intercepted)
    #[arg(long, hide_short_help = true, conflicts_with_all = ["ca", "cert_sha256"], help_heading = HEADING_TLS)]
    pub insecure: bool,
}

impl TrustArgs {
    pub(crate) fn is_given(&self) -> bool {
        self.ca.is_some() || self.cert_sha256.is_some() || self.insecure
    }

    pub(crate) fn trust_policy(&self) -> TrustPolicy {
        TrustPolicy {
            ca_file: self.ca.as_deref().map(Path::to_owned),
            pinned: self.cert_sha256,
            accept_any: self.insecure,
        }
    }
}
