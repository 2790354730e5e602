//! What gateways tell one another at once: a stream that each of them reads, over a connection of its
//! own as it waits there. The stream is short, and what is read late says how old it is.

use std::time::Duration;

use redis::AsyncCommands;
use redis::streams::{StreamReadOptions, StreamReadReply};
use tokio::time::{sleep, timeout};

use super::{Away, Shared};
use crate::clock;
use crate::store::millis;

/// So many are kept, about.
const KEPT: usize = 5_000;
/// One read waits so long for news.
const WAIT: Duration = Duration::from_secs(2);
/// A read that takes longer than this has lost its connection.
const LOST: Duration = Duration::from_secs(8);
const AGAIN: Duration = Duration::from_millis(250);

/// Something that a gateway told.
pub struct News<'a> {
    pub text: &'a str,
    pub ago: Duration,
    /// It was told before this gateway began to listen.
    pub is_old: bool,
}

impl Shared {
    /// Tells all other gateways.
    ///
    /// # Errors
    /// Redis is away, and nobody hears it.
    pub async fn tell(&self, text: &str) -> Result<(), Away> {
        let mut tell = redis::cmd("XADD");
        tell.arg(self.key("news", ""))
            .arg("MAXLEN")
            .arg("~")
            .arg(KEPT)
            .arg("*");
        tell.arg("from").arg(&self.me).arg("text").arg(text);
        self.ask_one::<String>("news", &tell).await.map(drop)
    }

    /// Hears what others tell, for ever, beginning with what they told before. `begins` is called
    /// whenever something may have been missed.
    pub async fn listen(&self, begins: impl Fn(), hears: impl Fn(News<'_>)) {
        let mut last = "0".to_owned();
        let mut begun = None;
        loop {
            if let Ok(mut connection) = self.link.apart().await {
                begins();
                let now = millis(clock::wall()) + self.ahead();
                let begun = *begun.get_or_insert(now);
                let options = StreamReadOptions::default().block(WAIT.as_millis() as usize);
                let options = options.count(500);
                let stream = self.key("news", "");
                loop {
                    let (names, after) = ([&stream], [&last]);
                    let read = connection.xread_options(&names, &after, &options);
                    let read: StreamReadReply = match timeout(LOST, read).await {
                        Ok(Ok(read)) => read,
                        _ => break,
                    };
                    let entries = read.keys.into_iter().flat_map(|stream| stream.ids);
                    for entry in entries {
                        let from: Option<String> = entry.get("from");
                        let text: Option<String> = entry.get("text");
                        if let (Some(from), Some(text)) = (from, text)
                            && from != self.me
                        {
                            let made = made(&entry.id);
                            hears(News {
                                text: &text,
                                ago: self.since(made),
                                is_old: made < begun,
                            });
                        }
                        last = entry.id;
                    }
                }
            }
            sleep(AGAIN).await;
        }
    }

    fn since(&self, made: i64) -> Duration {
        let now = millis(clock::wall()) + self.ahead();
        Duration::from_millis(u64::try_from(now.saturating_sub(made)).unwrap_or_default())
    }
}

/// When an entry of a stream was made, by the server's clock: its id begins with that.
fn made(id: &str) -> i64 {
    let made = id.split('-').next().and_then(|ms| ms.parse().ok());
    made.unwrap_or_default()
}
