//! Texts of strangers, as people may read them: the names in other people's certificates, and whatever else a peer wrote. This is the
//! one place that says which characters are not shown as they are.

/// Longest name that is shown, in characters: three attributes of 64, the longest that X.520 allows for most.
const SHOWN_MAX: usize = 200;

/// Whether a character is not shown as it is: control characters (C0, DEL, C1), line separators, bidirectional controls, invisible and
/// tag characters. With them one text can be made to look like another, or act on a terminal.
#[must_use]
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// A text of a stranger, as people read it: deceptive characters are written as `\u{202e}`, and it ends after 200 characters.
#[must_use]
pub fn shown(text: &str) -> String {
    shown_within(text, SHOWN_MAX)
}

/// As [`shown`], with another bound. What is written for one character is not cut in two.
pub(crate) fn shown_within(text: &str, most: usize) -> String {
    let mut out = String::new();
    let mut room = most;
    for c in text.chars() {
        let piece: String = if is_deceptive(c) { c.escape_unicode().collect() } else { c.to_string() };
        // An escape is of ASCII characters.
        let width = if is_deceptive(c) { piece.len() } else { 1 };
        if width > room {
            break;
        }
        room -= width;
        out.push_str(&piece);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_deceives_is_written_out() {
        for (text, says) in [
            ("CN=Infineon OPTIGA(TM) RSA Root CA 2", "CN=Infineon OPTIGA(TM) RSA Root CA 2"),
            ("Größe 尺寸", "Größe 尺寸"),
            ("", ""),
            ("a\nb\u{1b}[2J\0", "a\\u{a}b\\u{1b}[2J\\u{0}"),
            ("a\u{85}b\u{9b}", "a\\u{85}b\\u{9b}"),
            ("CN=\u{202e}AC tooR", "CN=\\u{202e}AC tooR"),
            ("\u{2066}a\u{2069}", "\\u{2066}a\\u{2069}"),
            ("S\u{200b}TM", "S\\u{200b}TM"),
            ("S\u{feff}TM\u{ad}", "S\\u{feff}TM\\u{ad}"),
            ("IFX\u{e0041}", "IFX\\u{e0041}"),
        ] {
            assert_eq!(shown(text), says, "{text:?}");
        }
        for c in ['\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}', '\u{2067}', '\u{2068}', '\u{200f}'] {
            assert!(is_deceptive(c) && !shown(&c.to_string()).contains(c), "{c:?}");
        }
    }

    #[test]
    fn it_has_a_length() {
        assert_eq!(shown(&"ä".repeat(500)), "ä".repeat(SHOWN_MAX));
        assert_eq!(shown_within("abc", 3), "abc");
        assert_eq!(shown_within("abcd", 3), "abc");
        // An escape that does not fit is left out, and so is what follows it.
        assert_eq!(shown_within("a\u{202e}b", 8), "a");
        assert_eq!(shown_within("a\u{202e}b", 9), "a\\u{202e}");
        assert_eq!(shown(&"\u{202e}".repeat(500)).len(), SHOWN_MAX);
    }
}
