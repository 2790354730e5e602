//! What opens no WebSocket, what goes upstream of a handshake, and that nothing is smuggled by one.

use crate::support::{
    Connection, Gateway, Mock, Request, SWITCH, Vendor, Wire, chat, get, handshake, pool, pool_of,
    post,
};

use super::{ABLE, in_front_of, one};

const KEY: &str = "clients: {keys: [{name: a, key: sk-client-key}]}\n";

#[test]
fn the_clients_key_comes_off_the_accounts_goes_on_and_the_rest_of_the_handshake_passes() {
    let vendor = Vendor::start();
    let gateway = in_front_of(&vendor, KEY);
    let request = handshake("/v1/responses?key=sk-client-key&a=b")
        .bearer("sk-client-key")
        .header("cookie", "session=sk-client-key")
        .header(
            "sec-websocket-protocol",
            "realtime, openai-insecure-api-key.sk-client-key, openai-organization.org-1",
        )
        .header("sec-websocket-protocol", "openai-beta.realtime-v1")
        .header("sec-websocket-extensions", "permessage-deflate");
    let mut client = Wire::open(gateway.address, &request.bytes(gateway.address));
    let mut upstream = vendor.next();
    assert!(upstream.head.starts_with("get /v1/responses?a=b http/1.1"));
    assert!(!upstream.head.contains("client-key"), "{}", upstream.head);
    assert!(!upstream.head.contains("org-1"), "{}", upstream.head);
    for (name, value) in [
        ("authorization", "bearer key-0"),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dghlihnhbxbszsbub25jzq=="),
        ("sec-websocket-extensions", "permessage-deflate"),
        (
            "sec-websocket-protocol",
            "realtime, openai-beta.realtime-v1",
        ),
    ] {
        assert_eq!(upstream.header(name), Some(value), "{name}");
    }
    let more = "Sec-WebSocket-Protocol: realtime\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\
                X-Own: kept\r\nSet-Cookie: account=1\r\nOpenAI-Organization: org-2\r\n\
                Content-Length: 5\r\n\r\n";
    upstream.write(format!("{SWITCH}{more}").as_bytes());
    client.read_head().unwrap();
    for (name, value) in [
        ("sec-websocket-accept", "s3pplmbitxaq9kygzzhzrbk+xoo="),
        ("sec-websocket-protocol", "realtime"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("x-own", "kept"),
    ] {
        assert_eq!(client.header(name), Some(value), "{name}");
    }
    for name in ["set-cookie", "openai-organization", "content-length"] {
        assert_eq!(client.header(name), None, "{name}");
    }
    assert!(client.header("x-request-id").is_some());
}

#[test]
fn a_browsers_key_among_the_subprotocols_is_a_key() {
    let vendors = Mock::several(1, &[]);
    let able = pool_of(&vendors, "", |_| ABLE.to_owned());
    let gateway = Gateway::start(&format!("{KEY}{able}"));
    let protocols = |key: &str| format!("realtime, openai-insecure-api-key.{key}");
    gateway.socket(&[("sec-websocket-protocol", &protocols("sk-client-key"))]);
    let wrong = gateway.try_socket(&[("sec-websocket-protocol", &protocols("sk-other"))]);
    assert_eq!(wrong.unwrap_err().status(), 401);
}

#[test]
fn half_a_handshake_opens_nothing() {
    let (vendor, gateway) = one(&[], "");
    let without = |name: &str| {
        let whole = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let kept = whole.iter().filter(|header| header.0 != name);
        kept.fold(get("/v1/responses"), |request, (name, value)| {
            request.header(name, value)
        })
    };
    let key = |key: &str| without("sec-websocket-key").header("sec-websocket-key", key);
    let with_body = |mut request: crate::support::Request| {
        request.body = b"{}".to_vec();
        request
    };
    let websocket = |request: crate::support::Request| {
        request
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
    };
    for (what, request, status) in [
        ("no connection", without("connection"), 400),
        ("no nonce", without("sec-websocket-key"), 400),
        ("a short nonce", key("abcd"), 400),
        (
            "two nonces",
            without("").header("sec-websocket-key", "x"),
            400,
        ),
        ("no version", without("sec-websocket-version"), 426),
        ("no upgrade", without("upgrade"), 404),
        ("a body", with_body(without("")), 400),
        ("a chunked body", with_body(without("")).chunked(), 400),
        ("a POST", websocket(chat(false)), 400),
        (
            "a POST without a body",
            websocket(post("/v1/responses", &"".into())),
            400,
        ),
        (
            "HEAD",
            websocket(crate::support::Request::new("HEAD", "/v1/models")),
            400,
        ),
    ] {
        let mut connection = Connection::open(gateway.address).unwrap();
        let answer = connection.send(&request).unwrap();
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        if status != 404 {
            assert_eq!(answer.header("connection"), Some("close"), "{what}");
        }
    }
    let old = without("sec-websocket-version").header("sec-websocket-version", 8);
    let answer = gateway.send(&old);
    assert_eq!(answer.status, 426);
    assert_eq!(answer.header("sec-websocket-version"), Some("13"));
    assert_eq!(vendor.count("requests"), 0);
}

#[test]
fn other_protocols_are_not_asked_for_and_a_handshakes_headers_go_with_no_other_request() {
    let vendor = Vendor::start();
    let gateway = in_front_of(&vendor, "");
    let request = chat(false)
        .header("connection", "Upgrade, HTTP2-Settings")
        .header("upgrade", "h2c")
        .header("http2-settings", "AAMAAABkAAQAAP__")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", "realtime");
    let mut client = Wire::open(gateway.address, &request.bytes(gateway.address));
    let mut upstream = vendor.next();
    for name in [
        "upgrade",
        "http2-settings",
        "sec-websocket-key",
        "sec-websocket-protocol",
    ] {
        assert_eq!(upstream.header(name), None, "{name}");
    }
    assert_ne!(upstream.header("connection"), Some("upgrade"));
    upstream.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    assert!(client.read_head().unwrap().starts_with("http/1.1 200"));
    assert_eq!(client.read(2), b"{}");
}

#[test]
fn a_101_that_was_not_asked_for_is_a_bad_answer() {
    let h2c = chat(false)
        .header("connection", "Upgrade, close")
        .header("upgrade", "h2c");
    let plain = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
    let other = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n";
    let old = SWITCH.replace("HTTP/1.1", "HTTP/1.0") + "\r\n";
    let good = format!("{SWITCH}\r\n");
    // So that everything which comes can be read.
    let last = |request: Request| request.header("connection", "close");
    for (request, answer) in [
        (last(chat(false)), &*good),
        (last(chat(true)), plain),
        (h2c, &good),
        (handshake("/v1/responses"), plain),
        (handshake("/v1/responses"), other),
        (handshake("/v1/responses"), &old),
    ] {
        let vendor = Vendor::start();
        let gateway = in_front_of(&vendor, "");
        let mut client = Wire::open(gateway.address, &request.bytes(gateway.address));
        let mut upstream = vendor.next();
        upstream.write(answer.as_bytes());
        upstream.write(b"smuggled");
        let head = client.read_head().unwrap().to_owned();
        assert!(head.starts_with("http/1.1 502"), "{answer}: {head}");
        let rest = client.read_to_end();
        assert!(!rest.windows(8).any(|part| part == b"smuggled"), "{answer}");
    }
}

#[test]
fn behind_a_refused_handshake_no_second_request_is_read() {
    let second = get("/v1/models").header("x-second", "1");
    let able = Mock::start(&[]);
    let unable = Mock::start(&[]);
    for (vendor, more, refusal) in [
        (&able, ABLE, "404"),
        (&able, ABLE, "200"),
        (&unable, "", "426"),
    ] {
        let before = vendor.count("requests");
        let vendors = std::slice::from_ref(vendor);
        let gateway = Gateway::start(&pool_of(vendors, "", |_| more.to_owned()));
        let mut first = handshake("/v1/responses").header("x-mock-body", "model_not_found");
        if refusal == "200" {
            // An upstream that does not know of upgrades at all.
            first = handshake("/v1/models");
        }
        let to = gateway.address;
        let bytes = [first.bytes(to), second.bytes(to)].concat();
        let mut client = Wire::open(to, &bytes);
        let head = client.read_head().unwrap();
        assert!(head.starts_with(&format!("http/1.1 {refusal}")), "{head}");
        client.write(&second.bytes(to));
        let rest = String::from_utf8(client.read_to_end()).unwrap();
        assert!(!rest.contains("HTTP/1.1"), "{refusal}: {rest}");
        let asked = u64::from(refusal != "426");
        assert_eq!(vendor.count("requests"), before + asked, "{refusal}");
    }
}

#[test]
fn other_paths_may_be_sockets_where_every_path_is_proxied() {
    let vendor = Vendor::start();
    let gateway = in_front_of(&vendor, "clients: {paths: any}\n");
    for path in [
        "/v1/realtime?model=gpt-realtime",
        "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
    ] {
        let request = handshake(path).bytes(gateway.address);
        let mut client = Wire::open(gateway.address, &request);
        let mut upstream = vendor.next();
        assert!(
            upstream
                .head
                .starts_with(&format!("get {} ", path.to_lowercase()))
        );
        upstream.write(format!("{SWITCH}\r\n").as_bytes());
        assert!(client.read_head().unwrap().starts_with("http/1.1 101"));
        client.write(b"ping");
        assert_eq!(upstream.read(4), b"ping");
    }
    assert!(vendor.is_idle());
    let (_vendor, gateway) = one(&[], "");
    assert_eq!(gateway.send(&handshake("/v1/realtime")).status, 404);
}

#[test]
fn a_socket_over_http_2_is_refused_without_asking_anybody() {
    let vendors = Mock::several(1, &[]);
    let able = pool(&vendors, "").replace("id: a0", "id: a0, websocket: true");
    let gateway = Gateway::start(&able);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    // HEADERS of stream 1, ended head only: `:method CONNECT`, `:protocol websocket`,
    // `:scheme http`, `:path /v1/responses`, `:authority x` (RFC 8441 §5), none of it indexed.
    let mut block = vec![];
    for (name, value) in [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/v1/responses"),
        (":authority", "localhost"),
    ] {
        block.extend([0, name.len() as u8]);
        block.extend(name.as_bytes());
        block.push(value.len() as u8);
        block.extend(value.as_bytes());
    }
    let head = [0, 0, block.len() as u8, 1, 4, 0, 0, 0, 1];
    let bytes = [&preface[..], &head, &block].concat();
    let mut client = Wire::open(gateway.address, &bytes);
    // The settings that the gateway sends first do not offer it; the stream is reset.
    let reset = loop {
        let head = client.read(9);
        let payload = client.read(usize::from(head[1]) << 8 | usize::from(head[2]));
        let settings = payload.chunks_exact(6);
        match head[3] {
            4 => assert!(settings.into_iter().all(|one| one[..2] != [0, 8])),
            3 => break payload,
            kind => assert_ne!(kind, 1, "an answer"),
        }
    };
    assert_eq!(reset, [0, 0, 0, 1], "PROTOCOL_ERROR");
    assert_eq!(vendors[0].count("requests"), 0);
}
