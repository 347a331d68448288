//! Secrets as options: from the environment, from a file, or on the command line, where other users of the machine can see them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Failure;
use crate::rooms::broadcast::token::Secret;

const HEADING: &str = "Broadcast rooms";

/// What tokens are signed with, and who is given them.
#[derive(clap::Args)]
pub struct Secrets {
    /// Secret that tokens are signed with; without one a random one is made. Other users of this machine see the command line: better a
    /// file, or the variable. AUTH_SECRET counts where HMAC_SECRET is not set
    #[arg(long, env = "HMAC_SECRET", value_name = "SECRET", hide_env_values = true, help_heading = HEADING)]
    hmac_secret: Option<String>,

    /// File with that secret, in place of it; a line break at its end does not count
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    hmac_secret_file: Option<PathBuf>,

    /// Key that POST /auth/token asks for; without one everybody is given a token
    #[arg(long, env = "TOKEN_ISSUER_KEY", value_name = "KEY", hide_env_values = true, help_heading = HEADING)]
    token_issuer_key: Option<String>,

    /// File with that key, in place of it
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    token_issuer_key_file: Option<PathBuf>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

impl Secrets {
    /// What tokens are signed with, if it is given.
    pub fn hmac(&self) -> Result<Option<Secret>, Failure> {
        secret("--hmac-secret", self.hmac_secret.as_deref(), self.hmac_secret_file.as_deref())
    }

    /// What whoever wants a token has to show, if anything.
    pub fn issuer_key(&self) -> Result<Option<Secret>, Failure> {
        secret("--token-issuer-key", self.token_issuer_key.as_deref(), self.token_issuer_key_file.as_deref())
    }
}

fn secret(option: &str, given: Option<&str>, file: Option<&Path>) -> Result<Option<Secret>, Failure> {
    Ok(text(option, given, file)?.as_deref().map(Secret::new))
}

/// What `option` or its file has. The file wins: it is given on the command line, where the other may come from the environment.
pub(super) fn text(option: &str, given: Option<&str>, file: Option<&Path>) -> Result<Option<String>, Failure> {
    if let Some(file) = file {
        let text = fs::read_to_string(file)
            .with_context(|| format!("cannot read the secret of {option}-file from {}", file.display()))
            .map_err(Failure::unusable)?;
        let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
        if text.is_empty() {
            let why = anyhow::anyhow!("{} is empty, and an empty secret is none: write one into it", file.display());
            return Err(Failure::unusable(why));
        }
        return Ok(Some(text.to_owned()));
    }
    match given {
        Some("") => {
            Err(Failure::usage(format!("{option} is empty, and an empty secret is none: leave it out or give one")))
        }
        given => Ok(given.map(str::to_owned)),
    }
}
