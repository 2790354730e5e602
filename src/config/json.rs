//! JSON with comments -> JSON that a YAML reader takes: comments and tabs become spaces, so that
//! every other character stays on its line and in its column.

/// Blanks `//` and `/* */` comments outside strings, and tabs outside strings.
pub(super) fn blank_comments(text: &str) -> String {
    #[derive(Clone, Copy, PartialEq)]
    enum In {
        Json,
        Text,
        Line,
        Block,
    }
    let mut out = String::with_capacity(text.len());
    let mut state = In::Json;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let next = chars.peek().copied();
        match (state, c, next) {
            (In::Text, '\\', Some(escaped)) => {
                chars.next();
                out.extend([c, escaped]);
            }
            (In::Json, '"', _) | (In::Text, '"', _) => {
                state = if state == In::Json {
                    In::Text
                } else {
                    In::Json
                };
                out.push(c);
            }
            (In::Text, ..) => out.push(c),
            (In::Json, '/', Some(second @ ('/' | '*'))) => {
                chars.next();
                state = if second == '/' { In::Line } else { In::Block };
                out.push_str("  ");
            }
            (In::Block, '*', Some('/')) => {
                chars.next();
                state = In::Json;
                out.push_str("  ");
            }
            (_, '\n' | '\r', _) => {
                if state == In::Line {
                    state = In::Json;
                }
                out.push(c);
            }
            (In::Json, '\t', _) => out.push(' '),
            (In::Json, ..) => out.push(c),
            (In::Line | In::Block, ..) => out.push(' '),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::blank_comments;

    #[test]
    fn comments_go_and_everything_else_stays_in_its_place() {
        let text = "{\t// one\n \"a\": \"http://x/*y*/\\\"//\", /* two\n */ \"b\": 1}";
        let want = "{       \n \"a\": \"http://x/*y*/\\\"//\",       \n    \"b\": 1}";
        assert_eq!(blank_comments(text), want);
    }
}
