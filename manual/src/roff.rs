//! Text as man(7) takes it.

/// Longest line of a page's source: longer ones are a style complaint.
const WIDTH: usize = 78;

/// A text without meaning for the formatter.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\*(Aq"),
            '`' => out.push_str("\\(ga"),
            '~' => out.push_str("\\(ti"),
            '^' => out.push_str("\\(ha"),
            c => out.push(c),
        }
    }
    out
}

/// Does not begin a line as a request to the formatter.
fn guarded(line: &str) -> String {
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() }
}

/// In bold.
pub fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", plain(text))
}

/// In italics: what is to be replaced.
pub fn italic(text: &str) -> String {
    format!("\\fI{}\\fR", plain(text))
}

/// A text in which what stands between backquotes is bold.
pub fn inline(text: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    if parts.len().is_multiple_of(2) {
        return plain(text);
    }
    let shown = parts.iter().enumerate().map(|(at, part)| if at % 2 == 1 { bold(part) } else { plain(part) });
    guarded(&shown.collect::<String>())
}

/// A paragraph, in lines that are not too long.
pub fn wrapped(text: &str) -> String {
    let (mut out, mut line) = (String::new(), String::new());
    for word in inline(text).split_whitespace() {
        if !line.is_empty() && line.len() + 1 + word.len() > WIDTH {
            out.push_str(&guarded(&line));
            out.push('\n');
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    out.push_str(&guarded(&line));
    out.push('\n');
    out
}

/// Lines as they are.
pub fn verbatim(text: &str) -> String {
    let mut out = String::from(".nf\n");
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        out.push_str(&guarded(&plain(line.trim_end())));
        out.push('\n');
    }
    out.push_str(".fi\n");
    out
}
