//! What a user can rely on when writing a configuration file.
use super::*;
use std::path::Path;

fn env(name: &str) -> Option<String> {
    match name {
        "CI_KEY" | "HOOK_SECRET" | "OPENAI_KEY_A" | "OPENAI_KEY_B" => Some("sk-short".into()),
        _ => None,
    }
}

#[test]
fn scratch() {
    for file in ["conf/poolgate.yaml", "conf/minimal.yaml"] {
        match load(Path::new(file), &env) {
            Ok(loaded) => {
                for r in &loaded.remarks {
                    println!("{r}");
                }
                println!("{}", print(&loaded.config));
            }
            Err(problems) => println!("{problems}"),
        }
    }
    println!("{}", known_keys().join("\n"));
    println!("{}", parse("pools: {default: {acounts: [{id: x}], accounts: [{id: a b, wieght: 5, upstream: opnai, credential: {api_kye: sk-123456}}]}}\nfoo: [", Path::new("x.yaml"), &env).err().unwrap());
    println!("{}", parse("pools: {default: {acounts: [{id: x}], accounts: [{id: a b, wieght: 5, upstream: opnai, credential: {api_kye: sk-123456}}]}}\nlog: {level: infos}\nlog: 3", Path::new("x.yaml"), &env).err().unwrap());
}
