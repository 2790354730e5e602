//! What Linux says of this process, under the names that Prometheus client libraries agree on.

use std::fs;
use std::time::SystemTime;

use prometheus::proto::{Counter, Metric, MetricFamily, MetricType};

use super::families::{Family, gauge};
use crate::clock;

/// The `process_*` metrics; one that the system does not tell is left out.
pub(super) fn collect(started: SystemTime) -> Vec<MetricFamily> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let open = fs::read_dir("/proc/self/fd")
        .ok()
        .map(|entries| entries.count() as f64);
    let gauges = [
        (
            "process_resident_memory_bytes",
            "Memory in use.",
            kilobytes(&status, "VmRSS:"),
        ),
        (
            "process_virtual_memory_bytes",
            "Address space in use.",
            kilobytes(&status, "VmSize:"),
        ),
        ("process_threads", "Threads.", number(&status, "Threads:")),
        ("process_open_fds", "Open files and sockets.", open),
        (
            "process_max_fds",
            "Files and sockets that may be open.",
            number(&limits, "Max open files"),
        ),
        (
            "process_start_time_seconds",
            "Start, in Unix seconds.",
            Some(clock::unix_seconds(started)),
        ),
    ];
    let mut families: Vec<MetricFamily> = gauges
        .into_iter()
        .filter_map(|(name, help, value)| {
            gauge(
                &Family {
                    name,
                    help,
                    labels: &[],
                },
                value.map(|v| ([], v)),
            )
        })
        .collect();
    families.extend(cpu_seconds().map(cpu));
    families
}

fn cpu(seconds: f64) -> MetricFamily {
    let mut counter = Counter::default();
    counter.set_value(seconds);
    let mut metric = Metric::default();
    metric.set_counter(counter);
    let mut family = MetricFamily::default();
    family.set_name("process_cpu_seconds_total".to_owned());
    family.set_help("Processor time used.".to_owned());
    family.set_field_type(MetricType::COUNTER);
    family.set_metric(vec![metric]);
    family
}

/// User and system time: fields 14 and 15 of `/proc/self/stat` (proc(5)), in hundredths of a second
/// on every Linux. Counted from the `)` that ends the name, which may itself hold spaces.
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / 100.0)
}

fn kilobytes(text: &str, name: &str) -> Option<f64> {
    number(text, name).map(|n| n * 1024.0)
}

/// The first number on the line that begins with `name`.
fn number(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::SystemTime;

    #[test]
    fn the_process_knows_its_memory_files_and_processor_time() {
        let names: Vec<String> = super::collect(SystemTime::UNIX_EPOCH)
            .iter()
            .map(|f| f.name().to_owned())
            .collect();
        for name in [
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_max_fds",
            "process_cpu_seconds_total",
        ] {
            assert!(
                names.iter().any(|n| n == name),
                "{name} is missing from {names:?}"
            );
        }
    }
}
