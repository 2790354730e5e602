//! Metrics, the log and the access log.
