//! A token that is replaced while its request is under way is a secret still.

use std::fs;

use crate::support::{Gateway, Vendor, chat, wait_for};

#[test]
fn a_token_that_was_replaced_meanwhile_is_blanked_where_its_vendor_says_it_back() {
    let vendor = Vendor::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, "sk-the-old-one\n").unwrap();
    let gateway = Gateway::start(&format!(
        "pools: {{default: {{retry: {{attempts: 1}}, accounts: [{{id: a, upstream: \"http://{}\", \
         credential: {{api_key: {{file: {}}}}}}}]}}}}\n",
        vendor.address,
        path.display()
    ));
    std::thread::scope(|scope| {
        let client = scope.spawn(|| gateway.send(&chat(false)));
        let mut upstream = vendor.next();
        assert!(upstream.head.contains("sk-the-old-one"));
        fs::write(&path, "sk-the-new-one\n").unwrap();
        wait_for("the new one to be read", || {
            let other = scope.spawn(|| gateway.send(&chat(false)));
            let mut upstream = vendor.next();
            let is_new = upstream.head.contains("sk-the-new-one");
            upstream.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}");
            assert_eq!(other.join().unwrap().status, 200);
            is_new.then_some(())
        });
        let body = r#"{"error":{"message":"what is sk-the-old-one?"}}"#;
        let length = body.len();
        let head = format!("HTTP/1.1 400 Bad Request\r\ncontent-length: {length}\r\n\r\n");
        upstream.write(format!("{head}{body}").as_bytes());
        let answer = client.join().unwrap();
        assert_eq!(answer.status, 400);
        assert_eq!(
            answer.text(),
            body.replace("sk-the-old-one", "**************")
        );
    });
}
