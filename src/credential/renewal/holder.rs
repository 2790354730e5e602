//! Who holds the lease of an account's renewal: a task of a process, told from every other one, and
//! from a later one with the same number.

use std::fs;

/// A name that nobody else has among those who share a folder: two tasks of this process have two, as
/// when a reload changes an account whose token is just being renewed.
pub(super) fn new_name() -> String {
    format!("{}/{:016x}", this_process(), fastrand::u64(..))
}

fn this_process() -> String {
    let id = std::process::id();
    let began = began(&id.to_string()).unwrap_or_default();
    format!("{}/{id}/{began}", space().unwrap_or_default())
}

/// Whether the process of this name has surely ended: it was one of this machine and of our own
/// numbering, and is gone. Of any other the lease must run out.
pub(super) fn is_gone(name: &str) -> bool {
    let mut parts = name.split('/');
    let (Some(of), Some(id), Some(then)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let is_ours = !of.is_empty() && space().is_some_and(|space| space == of);
    let is_number = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    is_ours && is_number && began(id).is_none_or(|began| began != then)
}

/// The machine since its start, and the numbering of processes that we see.
fn space() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let numbering = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{}.{}", boot.trim(), numbering.display()))
}

/// When the process began, in ticks since the machine did (proc(5), field 22 of `stat`).
fn began(id: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name in brackets may hold anything, spaces and brackets too.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let is_dead = matches!(fields.next(), Some("Z" | "X"));
    let began = fields.nth(18)?;
    (!is_dead).then(|| began.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_to_be_gone_only_if_it_is() {
        let own = new_name();
        assert!(!is_gone(&own) && own != new_name());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let other = own.replace(
            &format!("/{}/", std::process::id()),
            &format!("/{}/", child.id()),
        );
        child.wait().unwrap();
        assert!(is_gone(&other));
        let process = this_process();
        let (place, _) = process.rsplit_once('/').unwrap();
        assert!(is_gone(&format!("{place}/1")), "the number was given again");
        for elsewhere in ["", "a", "other-machine/4000000/5", "//"] {
            assert!(!is_gone(elsewhere), "{elsewhere}");
        }
    }
}
