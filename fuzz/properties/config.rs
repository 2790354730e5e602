//! The configuration file: any text is a configuration or a list of problems, each at a place that is
//! there; what is read is read again from how it is printed.

use std::path::Path;

use poolgate::config;

pub(crate) fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    // Variables are set to something, and not to anything on this machine.
    let variables = |name: &str| (name.len() > 2).then(|| format!("value of {name}"));
    match config::parse(text, Path::new("poolgate.yaml"), &variables) {
        Ok(loaded) => {
            let printed = config::print(&loaded.config);
            if let Err(problems) = config::parse(&printed, Path::new("poolgate.yaml"), &|_| None) {
                panic!("{problems}\n{printed}");
            }
            places(text, &loaded.remarks);
        }
        Err(problems) => {
            assert!(!problems.0.is_empty());
            places(text, &problems.0);
        }
    }
}

fn places(text: &str, problems: &[config::Problem]) {
    let lines = text.split(['\n', '\r']).count();
    for problem in problems {
        assert!(
            problem.line <= lines,
            "line {} of {lines}: {problem}",
            problem.line
        );
        assert!(!problem.message.is_empty(), "{problem}");
        if let Some(snippet) = &problem.snippet {
            let length = snippet.text.chars().count();
            assert!(snippet.start <= length && snippet.width >= 1, "{problem}");
        }
    }
}
