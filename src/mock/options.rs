//! `poolgate mock`: vendors on the command line.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::behaviour::Behaviour;
use super::settings::{AtCapacity, BadSettings, Fault, Settings, When};
use super::vendor::Vendor;
use crate::secret::Secret;

/// The most vendors of one process.
const MAX_VENDORS: usize = 1000;
/// Answers under way may finish for so long after Ctrl-C.
const PATIENCE: Duration = Duration::from_secs(2);

/// A simulated vendor (OpenAI, Anthropic and Gemini dialects). Each fault can also be asked for by
/// one request, with a header: x-mock-status, x-mock-delay, x-mock-gap, x-mock-cut …
#[derive(Args, Clone)]
pub struct Options {
    /// Ports to listen on, one vendor each: 9101, 9101,9105 or 9101-9103.
    #[arg(long = "port", default_value = "9101", value_delimiter = ',', value_parser = ports)]
    pub ports: Vec<Ports>,
    #[arg(long, default_value = "127.0.0.1")]
    pub address: IpAddr,
    /// Said in every reply; several vendors are NAME-1, NAME-2 … Without: mock-a, mock-b …
    #[arg(long)]
    pub name: Option<String>,
    /// Answer with this status.
    #[arg(long)]
    pub status: Option<String>,
    /// Wait before the answer begins, like 200ms.
    #[arg(long)]
    pub delay: Option<String>,
    /// Wait between events, like 50ms.
    #[arg(long)]
    pub gap: Option<String>,
    /// How many events of a stream carry text.
    #[arg(long)]
    pub events: Option<String>,
    /// Drop the connection after so many events.
    #[arg(long)]
    pub cut: Option<String>,
    /// Fall silent: `head`, or after so many events.
    #[arg(long)]
    pub hang: Option<String>,
    /// Seconds, like 30, or 1500ms.
    #[arg(long)]
    pub retry_after: Option<String>,
    /// Accept this token only; can be given several times.
    #[arg(long = "token")]
    pub tokens: Vec<String>,
    /// Tokens to state: IN,OUT or none.
    #[arg(long)]
    pub usage: Option<String>,
    /// The name of an error body, like insufficient_quota.
    #[arg(long)]
    pub body: Option<String>,
    /// Only this share of requests meets the faults, like 20%; 500 if no status is given.
    #[arg(long, value_parser = share)]
    pub error_rate: Option<f64>,
    /// Refuse calls beyond so many at once, with 429.
    #[arg(long)]
    pub max_concurrent: Option<u32>,
}

/// Ports as one word of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    first: u16,
    last: u16,
}

fn ports(text: &str) -> Result<Ports, String> {
    let number = |text: &str| text.trim().parse::<u16>();
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (number(first), number(last)) {
        (Ok(first), Ok(last)) if first <= last => Ok(Ports { first, last }),
        _ => Err("a port or a range of ports, like 9101-9103".to_owned()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    let number = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|n| n / 100.0),
        None => text.parse::<f64>(),
    };
    number
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "a share, like 20% or 0.2".to_owned())
}

impl Options {
    /// The settings of the vendor that is the n-th (from 0) of `all`.
    ///
    /// # Errors
    /// A value that no vendor has.
    pub fn settings(&self, n: usize, all: usize) -> Result<Settings, BadSettings> {
        let mut asked = Behaviour::default();
        let values = [
            ("status", &self.status),
            ("delay", &self.delay),
            ("gap", &self.gap),
            ("events", &self.events),
            ("cut", &self.cut),
            ("hang", &self.hang),
            ("retry-after", &self.retry_after),
            ("usage", &self.usage),
            ("body", &self.body),
        ];
        for (name, value) in values {
            if let Some(value) = value {
                asked.set(name, value)?;
            }
        }
        let mut settings = Settings {
            name: self.name_of(n, all),
            tokens: self.tokens.iter().map(Secret::new).collect(),
            max_concurrent: self.max_concurrent,
            at_capacity: AtCapacity::RateLimited,
            ..Settings::default()
        };
        match self.error_rate {
            Some(rate) => {
                let says_nothing = asked == Behaviour::default();
                if says_nothing {
                    asked.set("status", "500")?;
                }
                settings.faults.push(Fault {
                    when: When::Chance(rate),
                    what: asked,
                });
            }
            None => settings.behaviour = asked,
        }
        settings.check()?;
        Ok(settings)
    }

    fn name_of(&self, n: usize, all: usize) -> String {
        match &self.name {
            Some(name) if all == 1 => name.clone(),
            Some(name) => format!("{name}-{}", n + 1),
            None => match u8::try_from(n).ok().filter(|n| *n < 26) {
                Some(n) => format!("mock-{}", char::from(b'a' + n)),
                None => format!("mock-{}", n + 1),
            },
        }
    }
}

/// Runs the vendors until Ctrl-C or SIGTERM; says on stderr where each of them is.
///
/// # Errors
/// An option that cannot be, or a port that cannot be had.
pub async fn run(options: Options) -> io::Result<()> {
    let ports: Vec<u16> = options
        .ports
        .iter()
        .flat_map(|p| p.first..=p.last)
        .collect();
    if ports.len() > MAX_VENDORS {
        return Err(io::Error::other(format!(
            "--port: at most {MAX_VENDORS} vendors"
        )));
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut vendors = Vec::new();
    for (n, port) in ports.iter().enumerate() {
        let settings = options.settings(n, ports.len()).map_err(io::Error::other)?;
        let name = settings.name.clone();
        let address = SocketAddr::new(options.address, *port);
        let vendor = Vendor::start(address, settings)
            .await
            .map_err(|e| io::Error::new(e.kind(), format!("{address}: {e}")))?;
        writeln!(io::stderr(), "{name} listens on {}", vendor.url())?;
        vendors.push(vendor);
    }
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed?,
        _ = terminate.recv() => {}
    }
    let stopping = vendors.into_iter().map(|vendor| vendor.stop(PATIENCE));
    futures::future::join_all(stopping).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Options;
    use crate::mock::settings::When;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(line: &str) -> Result<Options, clap::Error> {
        Line::try_parse_from(line.split(' ')).map(|line| line.options)
    }

    #[test]
    fn a_range_of_ports_is_as_many_vendors() {
        let options = parse("mock --port 9101-9103,9200").unwrap();
        let all: Vec<u16> = options
            .ports
            .iter()
            .flat_map(|p| p.first..=p.last)
            .collect();
        assert_eq!(all, [9101, 9102, 9103, 9200]);
        assert_eq!(options.settings(1, 4).unwrap().name, "mock-b");
        assert!(parse("mock --port 9103-9101").is_err());
    }

    #[test]
    fn an_error_rate_makes_faults_rare() {
        let settings = |line: &str| parse(line).unwrap().settings(0, 1).unwrap();
        let always = settings("mock --status 429 --retry-after 30");
        assert_eq!(always.behaviour.status.unwrap(), 429);
        let sometimes = settings("mock --error-rate 20%");
        assert_eq!(sometimes.faults[0].when, When::Chance(0.2));
        assert_eq!(sometimes.faults[0].what.status.unwrap(), 500);
        assert!(parse("mock --gap never").unwrap().settings(0, 1).is_err());
    }
}
