//! What an operator can rely on in the log.

use super::events::{Lines, redact};
use super::init;
use super::sink::Sink;
use crate::config::{Level, Log, LogFormat, Rotate};
use parking_lot::Mutex;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;
use tracing_subscriber::layer::SubscriberExt;

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is logged while `speak` runs.
fn logged(format: LogFormat, level: Level, speak: impl FnOnce()) -> String {
    let memory = Memory::default();
    let sink = Sink::start(Box::new(memory.clone()), format).unwrap();
    let lines = Lines::new(sink.clone(), format, level);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), speak);
    sink.flush(Duration::from_secs(10));
    let written = memory.0.lock().clone();
    String::from_utf8(written).unwrap()
}

#[test]
fn a_text_line_is_time_level_message_and_fields() {
    let text = logged(LogFormat::Text, Level::Info, || {
        tracing::info!(account = "a b", tries = 2, "account disabled");
    });
    let (time, rest) = text.split_once(' ').unwrap();
    assert!(
        time.ends_with('Z') && time.len() == "2025-11-21T10:00:00.123Z".len(),
        "{time}"
    );
    assert_eq!(rest, "INFO account disabled account=\"a b\" tries=2\n");
}

#[test]
fn a_json_line_is_an_object_with_typed_fields() {
    let text = logged(LogFormat::Json, Level::Info, || {
        tracing::warn!(tries = 2, up = false, who = %"x", "said \"no\"");
    });
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["message"], "said \"no\"");
    assert_eq!(
        (&line["tries"], &line["up"], &line["who"]),
        (&2.into(), &false.into(), &"x".into())
    );
}

#[test]
fn lines_below_the_level_are_absent() {
    let speak = || {
        tracing::error!("e");
        tracing::warn!("w");
        tracing::info!("i");
        tracing::debug!("d");
        tracing::trace!("t");
    };
    assert_eq!(
        logged(LogFormat::Text, Level::Error, speak).lines().count(),
        1
    );
    assert_eq!(
        logged(LogFormat::Text, Level::Warn, speak).lines().count(),
        2
    );
    assert_eq!(
        logged(LogFormat::Text, Level::Info, speak).lines().count(),
        3
    );
    assert_eq!(
        logged(LogFormat::Text, Level::Debug, speak).lines().count(),
        4
    );
}

#[test]
fn nothing_in_a_value_can_start_a_new_line() {
    let evil = "x\n2025-11-21T10:00:00Z INFO forged\r\u{1b}[31m\0\u{2028}";
    for format in [LogFormat::Text, LogFormat::Json] {
        let text = logged(format, Level::Info, || {
            tracing::info!(model = evil, "asked for {evil}")
        });
        assert_eq!(
            text.matches(['\n', '\r', '\u{1b}', '\0', '\u{2028}'])
                .count(),
            1,
            "{text}"
        );
    }
}

#[test]
fn a_librarys_events_below_warn_never_pass_whatever_the_level() {
    let text = logged(LogFormat::Text, Level::Debug, || {
        tracing::debug!(target: "h2::codec::framed_read", "authorization: Bearer s3cret");
        tracing::info!(target: "pingora_proxy", "authorization: Bearer s3cret");
        tracing::info!(target: "poolgate_imitation", "authorization: Bearer s3cret");
        tracing::warn!(target: "pingora_core::listeners", "accept failed");
    });
    assert!(!text.contains("s3cret"), "{text}");
    assert!(
        text.ends_with("WARN pingora_core: accept failed\n"),
        "{text}"
    );
}

#[test]
fn what_pingora_quotes_of_a_request_is_left_out() {
    let mut message =
        "InvalidHTTPHeader context: buf: GET / HTTP/1.1\\r\\nAuthorization: Bearer s3cret"
            .to_owned();
    redact(&mut message);
    assert_eq!(message, "InvalidHTTPHeader context: (bytes left out)");
    let mut message =
        "GET /v1beta/models?key=s3cret&alt=sse, Host: a, access_token=s3cret".to_owned();
    redact(&mut message);
    assert_eq!(
        message,
        "GET /v1beta/models?key=****&alt=sse, Host: a, access_token=****"
    );
}

/// The only test that sets up the log of the whole process.
#[test]
fn the_log_of_the_process_takes_the_log_crates_warnings_and_flushes_at_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs/router.log");
    let config = Log {
        level: Level::Debug,
        format: LogFormat::Text,
        file: Some(path.clone()),
        rotate: Rotate {
            size: 1 << 20,
            keep: 1,
        },
        access: false,
    };
    let guard = init(&config).unwrap();
    assert!(!guard.access().is_on());
    assert!(init(&config).is_err(), "twice is an error, not a panic");
    ::log::debug!(target: "pingora_core::protocols", "Authorization: Bearer s3cret");
    ::log::warn!(target: "pingora_core::server", "bridged");
    // Even when somebody opens the gate of the `log` crate itself.
    ::log::set_max_level(::log::LevelFilter::Trace);
    ::log::debug!(target: "pingora_core::protocols", "Authorization: Bearer s3cret");
    ::log::info!(target: "pingora_core::protocols", "Authorization: Bearer s3cret");
    tracing::debug!("shown");
    guard.set_level(Level::Warn);
    tracing::info!("hidden");
    drop(guard);
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains("WARN pingora_core: bridged\n"), "{text}");
    assert!(
        text.contains("DEBUG shown\n") && !text.contains("hidden"),
        "{text}"
    );
    assert!(!text.contains("s3cret"), "{text}");
}
