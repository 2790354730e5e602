//! What reading a stream along costs: the meter sees each byte of every answer.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};
use poolgate::dialect::{Dialect, Kind, Meter};

/// A chat of 500 pieces in OpenAI's dialect, with its usage at the end.
fn openai() -> Vec<Bytes> {
    let piece = |n: usize| {
        format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\
             \"model\":\"gpt-5\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" word{n}\"}},\
             \"finish_reason\":null}}]}}\n\n"
        )
    };
    let mut events: Vec<String> = (0..500).map(piece).collect();
    events.push(
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":500}}\n\n"
            .to_owned(),
    );
    events.push("data: [DONE]\n\n".to_owned());
    events.into_iter().map(Bytes::from).collect()
}

/// The same in Anthropic's dialect.
fn anthropic() -> Vec<Bytes> {
    let mut events = vec![
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":\
         {\"input_tokens\":9,\"output_tokens\":1}}}\n\n"
            .to_owned(),
    ];
    events.extend((0..500).map(|n| {
        format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\
             \"delta\":{{\"type\":\"text_delta\",\"text\":\" word{n}\"}}}}\n\n"
        )
    }));
    events.push(
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{},\"usage\":\
         {\"output_tokens\":500}}\n\n"
            .to_owned(),
    );
    events.push("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n".to_owned());
    events.into_iter().map(Bytes::from).collect()
}

fn meter(criterion: &mut Criterion) {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    let streams = [
        ("openai", Dialect::OpenAi, Kind::Chat, openai()),
        ("anthropic", Dialect::Anthropic, Kind::Messages, anthropic()),
    ];
    let mut group = criterion.benchmark_group("meter");
    for (name, dialect, kind, events) in streams {
        let bytes: usize = events.iter().map(Bytes::len).sum();
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut meter = Meter::new(dialect, kind, &headers);
                for event in &events {
                    let passed = meter.pass(event.clone());
                    assert_eq!(black_box(passed).len(), event.len());
                }
                let usage = meter.finish().usage.map(|usage| usage.output);
                assert_eq!(black_box(usage), Some(500));
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = meter
}
criterion_main!(benches);
