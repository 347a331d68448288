//! Options of `signaling-server` for several servers that share their rooms over Redis.

use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;

use crate::cli::output::{Failure, ensure_usage};
use crate::cli::values::{format_duration, parse_seconds};
use crate::io::cluster::store::CALL_TIMEOUT;
use crate::io::cluster::{ClusterConfig, DEFAULT_PREFIX, DEFAULT_WAIT};
use crate::signaling::token::Secret;

const HEADING: &str = "Cluster";

/// How the server takes part in a cluster.
#[derive(clap::Args)]
pub struct ClusterArgs {
    /// Share all rooms with other servers over this Redis [default: off]
    ///
    /// The URL is `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`, with `rediss` for TLS, or `redis+sentinel://HOST[:PORT],HOST[:PORT]/NAME` for
    /// the master NAME of these Sentinels. Special characters of the password are percent-encoded, such as %2F for a slash. Start any number of servers with the same URL and the same --hmac-secret behind a load balancer. Other users of this
    /// machine can see the command line: give a URL with a password in the environment.
    #[arg(long, env = "CLUSTER_URL", value_name = "URL", value_parser = NonEmptyStringValueParser::new(), hide_env_values = true, help_heading = HEADING)]
    cluster: Option<String>,

    /// Beginning of all keys in Redis
    #[arg(long, hide_short_help = true, env = "CLUSTER_PREFIX", value_name = "TEXT", default_value = DEFAULT_PREFIX, requires = "cluster", help_heading = HEADING)]
    cluster_prefix: String,

    /// How long messages and joins wait while Redis is away, in seconds or with a unit
    ///
    /// After this time, their connections are closed with code 1012, and HTTP requests get status 503.
    #[arg(long, hide_short_help = true, env = "CLUSTER_WAIT", value_name = "DURATION", value_parser = parse_seconds, default_value = format_duration(DEFAULT_WAIT), requires = "cluster", help_heading = HEADING)]
    cluster_wait: Duration,
}

impl ClusterArgs {
    /// The configuration, if there is a cluster. `settings` (option and value) must be equal in all servers; Redis has only hashes of them,
    /// which are keyed with `secret`.
    pub fn config(
        &self,
        secret: Option<&Secret>,
        settings: &[(&'static str, String)],
    ) -> Result<Option<ClusterConfig>, Failure> {
        let Some(url) = self.cluster.clone() else { return Ok(None) };
        ensure_usage!(
            secret.is_some(),
            "--cluster needs the same --hmac-secret on all servers; add --hmac-secret @FILE or set HMAC_SECRET"
        );
        ensure_usage!(
            self.cluster_wait >= CALL_TIMEOUT,
            "--cluster-wait is too short; give at least {}, in which Redis answers or is away",
            format_duration(CALL_TIMEOUT)
        );
        let settings = settings.iter().filter_map(|(name, value)| {
            // The name is part of the text, so that equal values of two options have different hashes.
            Some((*name, secret?.authentication_code(&format!("{name}={value}"))))
        });
        let (prefix, wait) = (self.cluster_prefix.clone(), self.cluster_wait);
        Ok(Some(ClusterConfig { url, prefix, wait, settings: settings.collect() }))
    }
}
