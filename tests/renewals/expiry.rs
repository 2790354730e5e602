//! Tokens that end, replies that get lost, and logins that come back while the gateway runs.

use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{account, asked, in_front_of, token_in_use, vendor};
use crate::support::{Gateway, chat, count, many, wait_for};

/// When the token that is in use ends.
fn end(gateway: &Gateway) -> Option<SystemTime> {
    let view = gateway.account("a");
    let at: jiff::Timestamp = view["credential"]["expires_at"].as_str()?.parse().unwrap();
    Some(at.into())
}

#[test]
fn all_who_come_when_a_token_ends_while_it_is_renewed_wait_for_that_renewal() {
    let vendor = vendor(&json!({"lifetime": "3s"}));
    let gateway = in_front_of(&account("a", &vendor, ""));
    let end = wait_for("the token", || end(&gateway));
    // It is asked for in time, and comes when its predecessor has ended.
    vendor.set(&json!({"oauth": {"delay": "4s"}}));
    let before = asked(&vendor);
    wait_for("the vendor to be asked", || {
        (asked(&vendor) > before).then_some(())
    });
    let left = end.duration_since(SystemTime::now()).unwrap_or_default();
    // Until then nothing is to be seen that would tell of it.
    std::thread::sleep(left + Duration::from_millis(10));
    let all = count(100, 1000);
    let answers = many(gateway.address, &chat(false), all / 5, all);
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(asked(&vendor), before + 1);
}

#[test]
fn a_reply_that_is_lost_is_asked_for_again_and_a_token_that_was_spent_by_it_makes_no_loop() {
    for rotate in [false, true] {
        let vendor = vendor(&json!({"rotate": rotate}));
        let gateway = in_front_of(&account("a", &vendor, ""));
        let first = token_in_use(&gateway);
        vendor.set(&json!({"oauth": {"rotate": rotate, "lost": true}}));
        let refresh = crate::support::post("/api/v1/accounts/a/refresh", &Value::Null);
        assert_eq!(gateway.admin(refresh).status, 409);
        let spent = asked(&vendor);
        vendor.set(&json!({"oauth": {"rotate": rotate}}));
        if !rotate {
            wait_for("another token", || {
                (token_in_use(&gateway) != first).then_some(())
            });
            continue;
        }
        wait_for("the account to be out", || {
            (gateway.account("a")["status"] == "needs_login").then_some(())
        });
        // It may have been asked twice before the reply was no longer lost.
        assert!(asked(&vendor) <= spent + 2, "{}", gateway.log());
    }
}

#[test]
fn a_login_that_is_over_begins_again_with_each_of_its_files() {
    let vendor = vendor(&json!({"error": "invalid_grant"}));
    let url = vendor.url();
    let login = format!(
        "token_url: \"{url}/token\", client_id: me, client_secret: {{file: cs}}, refresh_token: {{file: rt}}"
    );
    let text = format!(
        "pools: {{default: {{accounts: [{{id: a, upstream: \"{url}\", dialects: [openai], \
         credential: {{oauth2: {{{login}}}}}}}]}}}}\n"
    );
    let gateway = Gateway::start_with(&text, &[("cs", "cs-0"), ("rt", "rt-0")], &[]);
    let (rt, cs) = (("rt", "invalid_grant"), ("cs", "invalid_client"));
    for (round, (file, error)) in [rt, cs, rt].into_iter().enumerate() {
        vendor.set(&json!({"oauth": {"error": error}}));
        if gateway.account("a")["status"] == "healthy" {
            let refresh = crate::support::post("/api/v1/accounts/a/refresh", &Value::Null);
            assert_eq!(gateway.admin(refresh).status, 409);
        }
        wait_for("the account to be out", || {
            (gateway.account("a")["status"] == "needs_login").then_some(())
        });
        vendor.set(&json!({"oauth": {}}));
        let before = asked(&vendor);
        let new = format!("{file}-{}", round + 1);
        fs::write(gateway.program.folder().join(file), new).unwrap();
        wait_for("the account to serve", || {
            (gateway.send(&chat(false)).status == 200).then_some(())
        });
        // Right behind the start a file may be taken for changed that was written just before it.
        let is_first = round == 0;
        let times = asked(&vendor) - before;
        assert!(times == 1 || (is_first && times == 0), "{times}");
    }
}

/// A file that is replaced by removing it first is seen without it.
#[test]
fn a_login_whose_file_is_gone_for_a_moment_goes_on_serving() {
    let vendor = vendor(&json!({}));
    let url = vendor.url();
    let text = format!(
        "pools: {{default: {{accounts: [{{id: a, upstream: \"{url}\", dialects: [openai], credential: {{oauth2: \
         {{token_url: \"{url}/token\", client_id: me, refresh_token: {{file: rt}}}}}}}}]}}}}\n"
    );
    let gateway = Gateway::start_with(&text, &[("rt", "rt-0")], &[]);
    gateway.wait_until_ready();
    let first = token_in_use(&gateway);
    let path = gateway.program.folder().join("rt");
    fs::remove_file(&path).unwrap();
    wait_for("it to be missed", || {
        gateway.log().contains("was not renewed").then_some(())
    });
    assert_eq!(token_in_use(&gateway), first);
    assert_eq!(gateway.account("a")["status"], "healthy");
    fs::write(&path, "rt-1").unwrap();
    wait_for("the new login", || {
        (token_in_use(&gateway) != first).then_some(())
    });
}
