//! Streams that fail after they began: in every shape a client gets whole events, then one error event
//! of its dialect, then a proper end; the account gets the outcome; nobody else is asked.

mod bytes;

use serde_json::{Value, json};

use crate::support::{Gateway, Mock, Request, chat, post, ranked};

/// Names and values of what a vendor does wrong.
type Faults<'f> = &'f [(&'f str, &'f str)];

/// A way of streaming.
struct Shape {
    name: &'static str,
    request: fn() -> Request,
    /// What its error events are called.
    event: &'static str,
    /// Where in an error event's data the error is.
    error: &'static str,
    /// What `server_error` or the like of our own is called there.
    code: (&'static str, fn() -> Value),
}

/// Every shape in which an error can be said.
const SHAPES: [Shape; 4] = [
    Shape {
        name: "chat",
        request: || chat(true),
        event: "",
        error: "/error",
        code: ("/error/code", || json!("upstream_unreachable")),
    },
    Shape {
        name: "responses",
        request: || {
            post(
                "/v1/responses",
                &json!({"model": "gpt-5", "stream": true, "input": "Hello"}),
            )
        },
        event: "response.failed",
        error: "/response/error",
        code: ("/response/error/code", || json!("upstream_unreachable")),
    },
    Shape {
        name: "messages",
        request: || {
            let messages = [json!({"role": "user", "content": "Hello"})];
            let body = json!({"model": "c", "max_tokens": 9, "stream": true, "messages": messages});
            post("/v1/messages", &body).header("anthropic-version", "2023-06-01")
        },
        event: "error",
        error: "/error",
        code: ("/error/type", || json!("api_error")),
    },
    Shape {
        name: "generate",
        request: || generate("?alt=sse"),
        event: "",
        error: "/error",
        code: ("/error/code", || json!(502)),
    },
];

fn generate(query: &str) -> Request {
    post(
        &format!("/v1beta/models/g:streamGenerateContent{query}"),
        &json!({"contents": [{"parts": [{"text": "Hello"}]}]}),
    )
}

/// Three accounts asked in the order a0, a1, a2, whose breakers keep out of this.
struct House {
    vendors: Vec<Mock>,
    gateway: Gateway,
}

fn house(keys: &str) -> House {
    let (vendors, pool) = ranked(&format!("    breaker: {{enabled: false}}\n{keys}"));
    let gateway = Gateway::start(&pool);
    House { vendors, gateway }
}

impl House {
    /// A request with these faults at a0.
    fn with(&self, request: Request, id: &str, faults: &[(&str, &str)]) -> Request {
        let request = request
            .header("x-request-id", id)
            .header("x-mock-only", "a0");
        faults.iter().fold(request, |request, (name, value)| {
            request.header(&format!("x-mock-{name}"), value)
        })
    }

    /// What the client sees of a stream that fails in this way: names and data of its events.
    /// That they come to a proper end is asserted.
    #[track_caller]
    fn seen(&self, shape: &Shape, id: &str, faults: &[(&str, &str)]) -> Vec<(String, Value)> {
        let request = self.with((shape.request)(), id, faults);
        let mut reply = request.open(self.gateway.address).unwrap();
        assert_eq!(reply.head.status, 200, "{id}");
        let events = reply.events().unwrap_or_else(|e| panic!("{id}: {e}"));
        let read = |data: &str| match data {
            "[DONE]" => Value::Null,
            data => serde_json::from_str(data).unwrap_or_else(|e| panic!("{id}: {e}: {data}")),
        };
        let events = events.into_iter();
        events
            .map(|event| (event.name, read(&event.data)))
            .collect()
    }

    /// Nobody but a0 was asked.
    fn assert_only_a0(&self) {
        let asked = |vendor: &Mock| vendor.count("requests");
        assert_eq!(self.vendors[1..].iter().map(asked).sum::<u64>(), 0);
    }
}

impl Shape {
    fn error_in<'e>(&self, (name, data): &'e (String, Value)) -> Option<&'e Value> {
        let error = data.pointer(self.error).filter(|error| !error.is_null())?;
        assert_eq!(name, self.event, "{}", self.name);
        Some(error)
    }

    /// So many events, and then the one error.
    #[track_caller]
    fn assert_fails_after(&self, count: usize, id: &str, events: &[(String, Value)]) {
        let errors = events.iter().filter_map(|event| self.error_in(event));
        assert_eq!(errors.count(), 1, "{id}: {events:#?}");
        let last = self.error_in(events.last().unwrap());
        assert!(last.is_some(), "{id}: {events:#?}");
        assert_eq!(events.len(), count + 1, "{id}: {events:#?}");
    }
}

#[test]
fn a_stream_that_breaks_off_ends_with_one_error_event_of_its_dialect() {
    let house = house("");
    let ways: [(&str, usize, Faults<'_>); 9] = [
        ("between-events", 3, &[("cut", "3")]),
        ("within-an-event", 3, &[("cut", "3"), ("torn", "1")]),
        ("reset", 3, &[("cut", "3"), ("reset", "1")]),
        (
            "reset-within",
            3,
            &[("cut", "3"), ("torn", "1"), ("reset", "1")],
        ),
        (
            "in-pieces",
            3,
            &[("cut", "3"), ("torn", "1"), ("split", "7")],
        ),
        ("before-the-first", 0, &[("cut", "0")]),
        ("within-the-first", 0, &[("cut", "0"), ("torn", "1")]),
        ("as-if-whole", 3, &[("end", "3")]),
        ("as-if-whole-and-empty", 0, &[("end", "0")]),
    ];
    for shape in SHAPES {
        for (way, count, faults) in ways {
            let id = format!("{}-{way}", shape.name);
            let events = house.seen(&shape, &id, faults);
            shape.assert_fails_after(count, &id, &events);
            let (place, code) = shape.code;
            let (_, last) = events.last().unwrap();
            assert_eq!(last.pointer(place), Some(&code()), "{id}");
            assert_eq!(house.gateway.tries(&id), "a0:broken_stream", "{id}");
        }
    }
    house.assert_only_a0();
}

#[test]
fn a_stream_that_falls_silent_ends_with_one_error_event_of_its_dialect() {
    let house = house("    timeouts: {read_stream: 1s}\n");
    std::thread::scope(|scope| {
        for shape in &SHAPES {
            scope.spawn(|| {
                let id = format!("{}-silent", shape.name);
                let events = house.seen(shape, &id, &[("hang", "3")]);
                shape.assert_fails_after(3, &id, &events);
                assert_eq!(house.gateway.tries(&id), "a0:broken_stream");
            });
        }
    });
    house.assert_only_a0();
}

#[test]
fn a_vendors_own_error_event_is_passed_on_alone_and_its_type_is_the_outcome() {
    let house = house("");
    for shape in SHAPES {
        for (body, outcome) in [
            ("overloaded", "overloaded"),
            ("server_error", "broken_stream"),
            ("insufficient_quota", "quota_dead"),
            ("rate_limit", "rate_limited"),
        ] {
            for (way, count, faults) in [
                ("first", 0, &[("error-event", "0")][..]),
                ("later", 2, &[("error-event", "2")]),
                ("cut", 2, &[("error-event", "2"), ("cut", "3")]),
                (
                    "reset",
                    2,
                    &[("error-event", "2"), ("cut", "3"), ("reset", "1")],
                ),
            ] {
                let id = format!("{}-{body}-{way}", shape.name);
                let faults = [faults, &[("body", body)]].concat();
                let events = house.seen(&shape, &id, &faults);
                shape.assert_fails_after(count, &id, &events);
                let said = shape.error_in(events.last().unwrap()).unwrap().to_string();
                assert!(!said.contains("broke off"), "{id}: {said}");
                assert_eq!(house.gateway.tries(&id), format!("a0:{outcome}"), "{id}");
                house.gateway.act("a0", "reset");
            }
        }
    }
    house.assert_only_a0();
}

#[test]
fn an_array_of_answers_that_breaks_off_is_cut_as_nothing_can_be_said_within_it() {
    let house = house("    timeouts: {read_stream: 1s}\n");
    for (way, faults) in [
        ("cut", &[("cut", "3")][..]),
        ("torn", &[("cut", "3"), ("torn", "1")]),
        ("silent", &[("hang", "3")]),
        ("as-if-whole", &[("end", "3"), ("gap", "10ms")]),
    ] {
        let id = format!("array-{way}");
        let request = house.with(generate(""), &id, faults);
        let mut reply = request.open(house.gateway.address).unwrap();
        let mut seen = vec![];
        let end = loop {
            match reply.piece() {
                Ok(Some(piece)) => seen.extend(piece),
                end => break end,
            }
        };
        assert!(end.is_err(), "{id}: it looks complete");
        let text = String::from_utf8(seen).unwrap();
        assert!(text.starts_with("[{") && !text.contains("error"), "{text}");
        assert_eq!(house.gateway.tries(&id), "a0:broken_stream", "{id}");
    }
    house.assert_only_a0();
}

#[test]
fn a_stream_that_was_whole_before_its_connection_broke_is_whole() {
    let house = house("");
    for shape in SHAPES {
        let whole = house
            .seen(&shape, &format!("{}-whole", shape.name), &[])
            .len();
        let count = whole.to_string();
        for (way, faults) in [
            ("fin", &[("cut", &*count)][..]),
            ("rst", &[("cut", &count), ("reset", "1")]),
        ] {
            let id = format!("{}-{way}", shape.name);
            let events = house.seen(&shape, &id, faults);
            assert_eq!(events.len(), whole, "{id}");
            assert_eq!(house.gateway.tries(&id), "a0:success", "{id}");
        }
    }
}

#[test]
fn no_answer_is_ever_put_together_from_two() {
    let house = house("    retry: {attempts: 3}\n");
    let faults: [Faults<'_>; 6] = [
        &[("reset", "1")],
        &[("status", "500"), ("size", "3000")],
        &[("status", "500"), ("size", "3000"), ("cut", "1")],
        &[("cut", "1")],
        &[("cut", "5"), ("torn", "1")],
        &[("end", "4")],
    ];
    for shape in SHAPES {
        for (n, faults) in faults.iter().enumerate() {
            let id = format!("{}-one-{n}", shape.name);
            let events = house.seen(&shape, &id, faults);
            let text = events
                .iter()
                .map(|(_, data)| data.to_string())
                .collect::<String>();
            let began = |vendor: &str| text.contains(&format!("Hello from {vendor}"));
            match house.gateway.tries(&id).as_str() {
                "a0:transient,a1:success" => assert!(began("a1") && !text.contains("a0"), "{text}"),
                "a0:broken_stream" => assert!(!text.contains("a1"), "{text}"),
                tries => panic!("{id}: {tries}"),
            }
        }
    }
}
