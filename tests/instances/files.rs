//! Accounts made from files.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::house::{House, QUICK, runs};
use crate::support::{Answer, Program, chat, free_address, get, wait_for};

/// A pool whose accounts are the files of `active`, each with a program.
fn discovering(more: &str) -> String {
    let port = free_address().port();
    format!(
        "{QUICK}  ports: {port}-{}\npools:\n  default:\n    strategy: least_used\n    discover:\n      dir: active\n{more}      \
         account: {{instance: {{command: [python3, child.py, --id, \"{{id}}\", --port, \"{{port}}\", --auth, \"{{auth_file}}\"]}}}}\n",
        port + 60
    )
}

#[track_caller]
fn start(more: &str, files: &[&str]) -> House {
    // The folder must be there before the gateway is, and its folder is made by its start: an
    // account of no other kind waits until then.
    let plain = "    accounts: [{id: x, upstream: \"http://127.0.0.1:9\", enabled: false}]\n";
    let house = House::start(&(discovering(more) + plain), &[]);
    fs::create_dir(house.file("next")).unwrap();
    for name in files {
        house.write(&format!("next/{name}"), "{}");
    }
    fs::rename(house.file("next"), house.file("active")).unwrap();
    house
}

/// Id, file name and state of each.
fn shown(house: &House) -> Vec<(String, String, String)> {
    let list = house.admin(get("/v1/instances")).json();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let instances = list["instances"].as_array().unwrap().iter();
    let fields = instances.map(|i| (text(&i["id"]), text(&i["auth_file"]), text(&i["status"])));
    fields.collect()
}

fn becomes(house: &House, expected: &[(&str, &str, &str)]) {
    let mut last = Vec::new();
    let expected: Vec<_> = expected
        .iter()
        .map(|(id, file, state)| ((*id).to_owned(), (*file).to_owned(), (*state).to_owned()))
        .collect();
    wait_for(&format!("{expected:?}"), || {
        last = shown(house);
        (last == expected).then_some(())
    });
}

#[test]
fn each_file_is_an_account_in_the_order_of_names_for_as_long_as_it_is_there() {
    let house = start("", &["b@gmail.com.json", "c.json", "notes.txt"]);
    let two = [
        ("instance_1", "b@gmail.com.json", "ready"),
        ("instance_2", "c.json", "ready"),
    ];
    becomes(&house, &two);
    let said = house.send(&chat(false)).json();
    assert_eq!(
        said["auth"],
        house.file("active/b@gmail.com.json").to_str().unwrap()
    );
    let pid = house.pid("instance_1");
    house.write("active/a.json", "{}");
    becomes(&house, &[("instance_3", "a.json", "ready"), two[0], two[1]]);
    let ports = ["instance_1", "instance_2", "instance_3"]
        .map(|id| house.instance(id).unwrap()["port"].as_u64());
    assert!(ports[0] < ports[1] && ports[1] < ports[2], "{ports:?}");
    // Its request is finished before it goes.
    house.write("instance_3.slow", "");
    let address = house.address;
    let slow = std::thread::spawn(move || {
        let is_its = |answer: &Answer| answer.text().contains("instance_3");
        let mut answers = std::iter::repeat_with(|| chat(false).send(address));
        answers.find(is_its).unwrap()
    });
    house.becomes("instance_3", "busy");
    let leaving = house.starts("instance_3")[0];
    house.remove("active/a.json");
    becomes(&house, &two);
    assert!(runs(leaving));
    house.remove("instance_3.slow");
    assert_eq!(slow.join().unwrap().status, 200);
    wait_for("the program of a.json to be gone", || {
        (!runs(leaving)).then_some(())
    });
    assert_eq!(house.pid("instance_1"), pid, "the others ran on");
    // One that comes back is who it was.
    house.write("active/a.json", "{}");
    becomes(&house, &[("instance_3", "a.json", "ready"), two[0], two[1]]);
}

#[test]
fn ids_stay_with_their_files_over_a_restart() {
    let mut house = start("", &["b.json"]);
    becomes(&house, &[("instance_1", "b.json", "ready")]);
    house.write("active/a.json", "{}");
    let both = [
        ("instance_2", "a.json", "ready"),
        ("instance_1", "b.json", "ready"),
    ];
    becomes(&house, &both);
    house.restart(Signal::SIGTERM);
    becomes(&house, &both);
}

#[test]
fn what_is_no_account_is_said_and_left_out() {
    let house = start(
        "      id: \"{stem}\"\n",
        &["good.json", "not good.json", "x.json"],
    );
    fs::create_dir(house.file("active/folder.json")).unwrap();
    becomes(&house, &[("good", "good.json", "ready")]);
    for said in [
        "not good.json: is no account: \"not good\" cannot be an id",
        "x.json: is no account: the id x is another account's",
        "folder.json: is no account: it is not a file",
    ] {
        wait_for(said, || house.log().contains(said).then_some(()));
        assert_eq!(house.log().matches(said).count(), 1, "once: {said}");
    }
}

#[test]
fn without_any_account_the_start_says_what_is_missing() {
    let text = format!("listen: [{{address: \"{}\"}}]\n", free_address()) + &discovering("");
    let mut program = Program::start(
        &["run", "-c", "poolgate.yaml"],
        &[("poolgate.yaml", &text)],
        &[],
    );
    assert_eq!(program.wait().code(), Some(1));
    let said = program.output();
    assert!(
        said.contains("there is no account: no file of") && said.contains("is like *.json"),
        "{said}"
    );
}

#[test]
fn a_pool_that_has_no_account_yet_says_that_none_is_available() {
    let house = House::start(
        "pools: {default: {discover: {dir: account, account: {upstream: openai}}}}\n",
        &[],
    );
    let refused = house.send(&chat(false));
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.json()["error"]["code"], "no_account_available");
    assert!(
        house.log().contains("accounts of pool default: "),
        "said at the start"
    );
    assert_eq!(house.get("/readyz").status, 503);
}

#[test]
fn tokens_of_files_are_accounts_too() {
    let vendor = crate::support::Mock::start(&["--token", "token-1", "--token", "token-2"]);
    let text = format!(
        "pools:\n  default:\n    strategy: round_robin\n    discover:\n      dir: account\n      id: \"{{stem}}\"\n      \
         account: {{upstream: \"{}\", credential: {{json_file: {{path: \"{{auth_file}}\", token: /access_token}}}}, \
         headers: {{x-account: \"{{id}}\"}}}}\n    accounts: [{{id: x, upstream: openai, enabled: false}}]\n",
        vendor.url()
    );
    let house = House::start(&text, &[]);
    fs::create_dir(house.file("account")).unwrap();
    for n in [1, 2] {
        let token = json!({"access_token": format!("token-{n}")});
        house.write(&format!("account/k{n}.json"), &token.to_string());
    }
    wait_for("both accounts", || {
        let list = house.admin(get("/api/v1/accounts")).json();
        (list["accounts"].as_array().unwrap().len() == 3).then_some(())
    });
    for _ in 0..4 {
        let answer = house.send(&chat(false));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(house.account("k1")["requests"], 2);
    assert_eq!(house.account("k2")["requests"], 2);
}
