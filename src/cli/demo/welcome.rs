//! What the demo says once its gateway serves: where everything is, and what to try.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::super::client::{Server, base, request};
use super::super::out::{self, Screen};
use super::super::table::Paint;
use super::Stage;
use super::accounts::ACCOUNTS;
use crate::config::{SecretSource, read_secret};
use crate::secret::Secret;

/// Between two looks whether the gateway serves.
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until both addresses answer.
pub(super) async fn served(stage: &Stage) {
    for address in [stage.gateway, stage.admin] {
        while !answers(address).await {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Says what is where.
pub(super) fn say(stage: &Stage) {
    let token = read_secret(&SecretSource::File(stage.folder.join("admin.token")));
    let program = std::env::current_exe().unwrap_or_else(|_| "poolgate".into());
    let text = text(stage, token.ok().as_ref(), &program, Screen::now().color);
    // A demo nobody watches goes on all the same.
    let _ = out::print(&text);
}

async fn answers(address: SocketAddr) -> bool {
    let server = Server::plain(address);
    match request("GET", &format!("{}/livez", server.url), None, None) {
        Ok(ask) => server.exchange(ask).await.is_ok(),
        Err(_) => false,
    }
}

fn text(stage: &Stage, token: Option<&Secret>, program: &Path, color: bool) -> String {
    let (gateway, admin) = (base(stage.gateway, false), base(stage.admin, false));
    let token = token.map_or("TOKEN", Secret::expose);
    let strong = |text: &str| Paint::Good.on(text, color);
    let mut out = format!(
        "\n{}\n\n  gateway     {gateway}     no key is asked on this machine\n  \
         page, API   {admin}     token {token}\n\n",
        strong("poolgate demo: six simulated accounts behind one address")
    );
    for (id, character, _) in ACCOUNTS {
        let _ = writeln!(out, "  {id:<10}  {character}");
    }
    let chat = |more: &str| {
        format!(
            "-H 'Content-Type: application/json' -d '{{\"model\": \"gpt-5\",{more} \"messages\": \
             [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'"
        )
    };
    let commands = [
        format!("curl {gateway}/v1/chat/completions {}", chat("")),
        format!(
            "curl -N {gateway}/v1/chat/completions {}",
            chat(" \"stream\": true,")
        ),
        format!("curl -H 'Authorization: Bearer {token}' {admin}/api/v1/accounts"),
    ];
    let _ = writeln!(out, "\n{}\n", strong("Try these in another terminal:"));
    for command in commands {
        let _ = writeln!(out, "{command}\n");
    }
    let _ = writeln!(
        out,
        "{}\n\n{} status --watch -c {}\n\nCtrl-C ends it and leaves nothing behind.",
        strong("And watch the accounts:"),
        quoted(program),
        quoted(&stage.folder.join("poolgate.yaml"))
    );
    out
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::{Stage, quoted, text};
    use crate::secret::Secret;
    use std::path::Path;

    #[test]
    fn three_commands_can_be_pasted_line_by_line() {
        let stage = Stage {
            gateway: ([127, 0, 0, 1], 8080).into(),
            admin: ([127, 0, 0, 1], 8081).into(),
            folder: "/tmp/poolgate-demo-x".into(),
        };
        let token = Secret::new("the-token");
        let said = text(&stage, Some(&token), Path::new("/opt/poolgate"), false);
        let commands: Vec<&str> = said.lines().filter(|l| l.starts_with("curl ")).collect();
        assert_eq!(commands.len(), 3);
        for command in &commands[..2] {
            let body = command.split("-d '").nth(1).unwrap().trim_end_matches('\'');
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["model"], "gpt-5");
        }
        assert!(commands[2].contains("Bearer the-token' http://127.0.0.1:8081/"));
        assert!(
            said.contains("/opt/poolgate status --watch -c /tmp/poolgate-demo-x/poolgate.yaml")
        );
    }

    #[test]
    fn a_path_with_spaces_is_quoted() {
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
