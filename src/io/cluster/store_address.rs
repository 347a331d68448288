//! The URL of a store, and which server it means now.

use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, RedisError,
};

/// A Sentinel that does not answer must not take the time in which another could.
const SENTINEL_TIMEOUT: Duration = Duration::from_millis(500);
const SENTINEL_PORT: u16 = 26_379;

/// What to check if a server is silent or resets the connection.
pub(super) const CHECK_TLS: &str = " (rediss:// is for a port with TLS, redis:// for one without)";

/// What to check after an error, if its text does not say so.
pub(super) fn remedy(error: &RedisError) -> &'static str {
    let is_reset = error.is_connection_dropped() && !error.is_connection_refusal();
    match error.code() {
        Some("NOAUTH") => "; give its password in the URL",
        _ if is_reset || error.is_timeout() => CHECK_TLS,
        _ => "",
    }
}

/// Where the server is.
pub(super) enum StoreAddress {
    /// Always there.
    Server(ConnectionInfo),
    /// Where the first of these Sentinels that answers says.
    Sentinels {
        sentinels: Vec<ConnectionAddr>,
        /// The name under which they monitor the server.
        name: String,
        /// User, password and database of the server.
        settings: RedisConnectionInfo,
    },
}

impl StoreAddress {
    /// Parses a URL. Errors do not contain it, because it may have a password.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err("a URL such as redis://HOST:PORT is expected".to_owned());
        };
        let parse = |url: &str| {
            let hint = "write / # ? @ and % in a password as %2F %23 %3F %40 and %25";
            url.into_connection_info().map_err(|error| format!("{error} ({hint})"))
        };
        let server_scheme = match scheme {
            "redis" | "rediss" => return Ok(Self::Server(with_settings(parse(url)?))),
            "redis+sentinel" => "redis",
            "rediss+sentinel" => "rediss",
            _ => return Err(format!("{scheme}:// is not one of redis, rediss, redis+sentinel, rediss+sentinel")),
        };
        let (user, hosts) = rest.rsplit_once('@').map_or(("", rest), |(user, hosts)| (user, hosts));
        let (hosts, path) = hosts.split_once('/').unwrap_or((hosts, ""));
        let (name, database) = path.split_once('/').unwrap_or((path, ""));
        if name.is_empty() {
            return Err("the name of the Redis server is missing: redis+sentinel://HOST,HOST/NAME".to_owned());
        }
        let separator = if user.is_empty() { "" } else { "@" };
        let mut settings = None;
        let mut sentinels = Vec::new();
        for host in hosts.split(',') {
            // Without a port, `redis` would take that of a Redis server.
            let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
            let port = if has_port { String::new() } else { format!(":{SENTINEL_PORT}") };
            let sentinel = parse(&format!("{server_scheme}://{user}{separator}{host}{port}/{database}"))?;
            settings = Some(sentinel.redis_settings().clone());
            sentinels.push(sentinel.addr().clone());
        }
        let settings = settings.expect("splitting yields at least one host");
        Ok(Self::Sentinels { sentinels, name: name.to_owned(), settings })
    }

    /// The server to connect to now.
    pub(super) async fn resolve(&self) -> Result<ConnectionInfo, String> {
        let (sentinels, name, settings) = match self {
            Self::Server(server) => return Ok(server.clone()),
            Self::Sentinels { sentinels, name, settings } => (sentinels, name, settings),
        };
        let mut reason = String::new();
        for sentinel in sentinels {
            match ask(sentinel, name, settings.password()).await {
                Ok(Some((host, port))) => {
                    let address = match sentinel.clone() {
                        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                            ConnectionAddr::TcpTls { host, port, insecure, tls_params }
                        }
                        _ => ConnectionAddr::Tcp(host, port),
                    };
                    return Ok(with_settings(info(address).set_redis_settings(settings.clone())));
                }
                Ok(None) => reason = format!("Sentinel {sentinel} does not know {name}"),
                Err(error) => reason = format!("Sentinel {sentinel}: {error}{}", remedy(&error)),
            }
        }
        Err(reason)
    }
}

/// Asks a Sentinel for the address of the server `name`. If it needs a password, it must have that of the server.
async fn ask(
    sentinel: &ConnectionAddr,
    name: &str,
    password: Option<&str>,
) -> redis::RedisResult<Option<(String, u16)>> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(SENTINEL_TIMEOUT))
        .set_response_timeout(Some(SENTINEL_TIMEOUT));
    let client = Client::open(info(sentinel.clone()))?;
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    let mut question = redis::cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    match (question.query_async(&mut connection).await, password) {
        (Err(error), Some(password)) if error.code() == Some("NOAUTH") => {
            redis::cmd("AUTH").arg(password).exec_async(&mut connection).await?;
            question.query_async(&mut connection).await
        }
        (answer, _) => answer,
    }
}

fn info(address: ConnectionAddr) -> ConnectionInfo {
    address.into_connection_info().expect("an address needs no parsing")
}

/// Small commands are sent at once, and the server is not asked to remember the name of the library, which old versions reject.
fn with_settings(server: ConnectionInfo) -> ConnectionInfo {
    let settings = server.redis_settings().clone().set_skip_set_lib_name();
    server.set_tcp_settings(TcpSettings::default().set_nodelay(true)).set_redis_settings(settings)
}
