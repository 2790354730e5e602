//! What holds for every command.

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use super::man;

#[test]
fn the_definitions_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn each_help_says_what_the_command_does_and_has_an_example() {
    let root = Cli::command();
    for command in root.get_subcommands() {
        let name = command.get_name();
        let help = command.clone().render_long_help().to_string();
        assert!(command.get_about().is_some(), "{name} says nothing");
        assert!(help.contains("Example"), "{name} has no example");
        assert!(
            help.contains(&format!("poolgate {name}")) || name == "healthcheck",
            "{name}"
        );
    }
}

#[test]
fn completions_know_every_command() {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "poolgate", &mut text);
        let text = String::from_utf8(text).unwrap();
        for command in Cli::command().get_subcommands() {
            assert!(text.contains(command.get_name()), "{shell}");
        }
    }
}

#[test]
fn there_is_a_manual_page_for_poolgate_and_for_each_command() {
    let page = man::page(Cli::command(), None).unwrap();
    assert!(page.contains("healthcheck"), "{page}");
    for command in Cli::command().get_subcommands() {
        let page = man::page(Cli::command(), Some(command.get_name())).unwrap();
        assert!(page.contains("SYNOPSIS"), "{page}");
    }
    assert!(man::page(Cli::command(), Some("nothing")).is_err());
}
