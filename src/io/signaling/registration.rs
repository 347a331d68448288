//! The echo server's registration: a thread of its own that keeps the bot in its room, whatever becomes of the signaling server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{io, thread};

use rustls::ClientConfig;
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio::time::{interval, sleep, timeout};
use tracing::{debug, info, warn};

use super::connection::{ConnectError, Connection, Lost};
use super::pauses::Pauses;
use super::reach::Own;
use super::url::SignalingUrl;
use crate::io::stop::Stop;
use crate::rooms::client::bot::{Bot, Reach, Refused};
use crate::rooms::jamjam::messages::Asked;

/// How long the server may take to give the bot its room, and to take what it says.
const PATIENCE: Duration = Duration::from_secs(10);

/// A room that was there for so long: the next connection is tried soon. To have been connected is not enough, which one is to a
/// server that hangs.
const GOOD: Duration = Duration::from_secs(10);

/// How often a host name is asked what it means now.
const RESOLVE: Duration = Duration::from_secs(60);

/// What it takes to be registered.
pub struct Registration {
    /// Where the signaling server is now: one in this process moves with the machine.
    pub url: Box<dyn Fn() -> SignalingUrl + Send>,
    /// Whom to believe where TLS is spoken.
    pub tls: Arc<ClientConfig>,
    /// Who makes the room.
    pub bot: Bot,
    /// Where the echo server is.
    pub own: Own,
    /// What a STUN server sees, if one is asked.
    pub reflexive: Option<watch::Receiver<Option<SocketAddr>>>,
}

/// Why a registration has ended.
#[derive(Debug, Error)]
enum Ended {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Lost(#[from] Lost),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the server does not answer; is it a jamjam signaling server?")]
    Overdue,
}

impl Registration {
    /// Registers again and again on a thread of its own, until `stop` is requested. Nobody waits for it: a connection that is
    /// dropped says enough.
    pub fn spawn(self, stop: &Stop) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stopped = Arc::new(Notify::new());
        let wake = Arc::clone(&stopped);
        stop.on_request(move || wake.notify_one());
        thread::Builder::new().name("registration".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = stopped.notified() => {}
                    () = self.run() => {}
                }
            });
        })?;
        Ok(())
    }

    async fn run(mut self) {
        let mut pauses = Pauses::default();
        let mut complaint = String::new();
        loop {
            let url = (self.url)();
            let mut registered = None;
            let Err(ended) = self.attend(&url, &mut registered).await;
            if registered.is_some_and(|since: Instant| since.elapsed() >= GOOD) {
                pauses.reset();
                complaint.clear();
            }
            let pause = pauses.next();
            let said = ended.to_string();
            // What was said just now need not be said with every try.
            if said == complaint {
                debug!("Not registered with {url}: {said}");
            } else {
                warn!("Not registered with {url}: {said}; trying again");
                complaint = said;
            }
            sleep(pause).await;
        }
    }

    /// One connection to `url`, from its beginning to its end, and since when the room was there.
    async fn attend(
        &mut self,
        url: &SignalingUrl,
        registered: &mut Option<Instant>,
    ) -> Result<std::convert::Infallible, Ended> {
        let mut connection = Connection::open(url, &self.tls).await?;
        info!("Connected to the signaling server {url}");
        let reach = self.reach(&connection).await;
        self.bot.on_reach(reach);
        if reach == Reach::default() && self.reflexive.is_none() && self.own.public.is_none() {
            warn!(
                "Clients of {url} are not told where this server is: it listens on {}, which they cannot use; give \
                 --public-addr HOST:PORT, or --stun HOST:PORT",
                self.own.listening
            );
        }
        say(&mut connection, &self.bot.on_connected()).await?;
        let overdue = sleep(PATIENCE);
        tokio::pin!(overdue);
        let mut resolve = interval(RESOLVE);
        resolve.reset();
        loop {
            let asked = tokio::select! {
                told = connection.hear() => {
                    let asked = self.bot.on_told(told?, unix_millis())?;
                    if self.bot.is_in() {
                        registered.get_or_insert_with(Instant::now);
                    }
                    asked
                }
                () = &mut overdue, if !self.bot.is_in() => return Err(Ended::Overdue),
                () = changed(&mut self.reflexive) => self.tell_reach(&connection).await,
                _ = resolve.tick(), if self.own.may_change() => self.tell_reach(&connection).await,
            };
            if let Some(asked) = asked {
                say(&mut connection, &asked).await?;
            }
        }
    }

    async fn tell_reach(&mut self, connection: &Connection) -> Option<Asked> {
        let reach = self.reach(connection).await;
        self.bot.on_reach(reach)
    }

    async fn reach(&self, connection: &Connection) -> Reach {
        let reflexive = self.reflexive.as_ref().and_then(|seen| *seen.borrow());
        Reach { host: self.own.address(connection.local, connection.peer).await, reflexive }
    }
}

async fn say(connection: &mut Connection, asked: &Asked) -> Result<(), Ended> {
    timeout(PATIENCE, connection.say(asked)).await.map_err(|_| Lost::Silent)?.map_err(Ended::from)
}

/// Returns when a STUN server sees another address than before.
async fn changed(reflexive: &mut Option<watch::Receiver<Option<SocketAddr>>>) {
    let is_new = match reflexive {
        Some(seen) => seen.changed().await.is_ok(),
        None => false,
    };
    if !is_new {
        std::future::pending::<()>().await;
    }
}

fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::io::stop::Reason;
    use crate::io::tls::client::Trust;

    #[test]
    fn a_signaling_server_that_moves_is_followed() {
        let places = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let urls = places.each_ref().map(|place| {
            let address = place.local_addr().expect("an address");
            format!("ws://{address}").parse::<SignalingUrl>().expect("a URL")
        });
        let moved = AtomicBool::new(false);
        let url = move || urls[usize::from(moved.swap(true, Ordering::SeqCst))].clone();
        let own = Own { listening: SocketAddr::from(([127, 0, 0, 1], 5_000)), public: None };
        let bot = Bot::new("x", Duration::ZERO, Reach::default());
        let tls = Trust { anybody: true, ..Trust::default() }.config().expect("TLS");
        let stop = Stop::default();
        Registration { url: Box::new(url), tls, bot, own, reflexive: None }.spawn(&stop).expect("a thread");
        // The first is there, and goes; it is asked for at the second then.
        for place in places {
            drop(place.accept().expect("a connection"));
        }
        stop.request(Reason::Terminate);
    }
}
