//! Output of `locks`, `tokens`, `audit` and `can-i`.

use pki::UnixTime;
use wire::admin::{AuditView, CanIReply, LockView, TokenView};

use super::cells::{from_now, joined, short, sorted, time};
use crate::text::table::{Table, detail, key, prose};
use crate::text::{fields, safe};

/// `locks list`, the oldest first.
#[must_use]
pub fn locks(rows: &[LockView]) -> Table {
    let columns = [key("KIND"), key("TARGET"), detail("BY"), key("SET"), prose("REASON")];
    Table::new("none", &columns, sorted(rows, |a, b| (a.at, &a.target).cmp(&(b.at, &b.target))), |row| {
        vec![row.kind.clone(), row.target.clone(), short(&row.by), time(Some(row.at)), row.reason.clone()]
    })
}

/// `tokens list`, sorted by expiry.
#[must_use]
pub fn tokens(rows: &[TokenView], now: UnixTime) -> Table {
    let columns =
        [key("TOKEN"), key("STATE"), detail("ROLE"), detail("USED"), prose("NAMES"), key("EXPIRES"), detail("BY")];
    Table::new("none", &columns, sorted(rows, |a, b| (a.expires, &a.id).cmp(&(b.expires, &b.id))), |row| {
        vec![
            row.id.clone(),
            row.state.clone(),
            row.role.clone(),
            format!("{}/{}", row.redeemed.len(), row.uses),
            if row.names.is_empty() { "any".to_owned() } else { row.names.join(" ") },
            from_now(row.expires, now),
            row.by.clone(),
        ]
    })
}

/// Number of digits of a digest or id in a shortened line.
const DIGITS: usize = 12;

/// A value shortened for a screen: the beginning of a digest, the distinguishing part of an identity.
fn brief(value: &str) -> String {
    if value.len() > 2 * DIGITS && value.bytes().all(|b| b.is_ascii_hexdigit()) {
        format!("{}…", value.get(..DIGITS).unwrap_or_default())
    } else if value.starts_with("spiffe://") {
        short(value)
    } else {
        value.to_owned()
    }
}

/// `audit`, newest last: complete, or shortened to the width of a terminal.
#[must_use]
pub fn audit(rows: &[AuditView], width: Option<usize>) -> String {
    let shown = |value: &str| if width.is_some() { brief(value) } else { value.to_owned() };
    let mut rows: Vec<&AuditView> = rows.iter().collect();
    rows.sort_by_key(|row| row.at_ms);
    let mut out = String::new();
    for row in rows {
        let mut line = format!(
            "{} {} by {}: {}",
            UnixTime::new(row.at_ms / 1000),
            safe(&row.event),
            safe(&shown(&row.actor)),
            safe(&shown(&row.subject))
        );
        if !row.detail.is_empty() {
            let detail = row.detail.iter().map(|(name, value)| (name.clone(), shown(value))).collect();
            line.push_str(&format!(" ({})", safe(&joined(&detail))));
        }
        if !row.rules.is_empty() {
            line.push_str(&format!(" [{}]", safe(&row.rules.join(" "))));
        }
        out.push_str(&line);
        out.push('\n');
    }
    out
}

/// The message about what a lock has ended.
#[must_use]
pub fn ended(view: &LockView) -> Option<String> {
    let ended = view.ended.as_ref()?;
    let sessions = match ended.sessions {
        0 => "no session was open".to_owned(),
        1 => format!("ended 1 session in {} ms", ended.millis),
        count => format!("ended {count} sessions in {} ms", ended.millis),
    };
    let left = match ended.left {
        0 => String::new(),
        left => format!(", except for {left} whose connections are cut all the same"),
    };
    Some(sessions + &left)
}

/// `can-i`.
#[must_use]
pub fn can_i(reply: &CanIReply) -> String {
    if reply.allowed { "yes\n".to_owned() } else { "no\n".to_owned() }
}

/// `can-i --explain`.
#[must_use]
pub fn can_i_explained(reply: &CanIReply) -> String {
    let rules = if reply.rules.is_empty() { "none".to_owned() } else { reply.rules.join(", ") };
    format!("{}{}", can_i(reply), fields("  ", &[("why", reply.explanation.clone()), ("rules", rules)]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn locks_are_listed_escaped() {
        let lock = LockView {
            kind: "machine".into(),
            target: "edge-07".into(),
            reason: "stolen\u{7}".into(),
            by: "gateway".into(),
            at: 60,
            ended: None,
            hits: vec![],
            suspended: None,
        };
        let want = "\
KIND     TARGET   BY       SET                   REASON
machine  edge-07  gateway  1970-01-01T00:01:00Z  stolen\\u{7}
";
        assert_eq!(locks(&[lock]).render(None), want);
    }

    #[test]
    fn what_a_lock_ended() {
        for (text, want) in [
            (r#"{"sessions":0,"millis":0}"#, "no session was open"),
            (r#"{"sessions":1,"millis":2,"left":0}"#, "ended 1 session in 2 ms"),
            (
                r#"{"sessions":3,"millis":5000,"left":2}"#,
                "ended 3 sessions in 5000 ms, except for 2 whose connections are cut all the same",
            ),
        ] {
            let view = LockView {
                kind: "machine".into(),
                target: "edge-07".into(),
                reason: String::new(),
                by: "gateway".into(),
                at: 60,
                // From an older gateway, without `left`.
                ended: Some(serde_json::from_str(text).unwrap()),
                hits: vec![],
                suspended: None,
            };
            assert_eq!(ended(&view).unwrap(), want);
        }
    }

    #[test]
    fn events_are_one_line_each_whatever_they_say() {
        let event = |at_ms, subject: &str| AuditView {
            id: "1".into(),
            at_ms,
            event: "lock.set".into(),
            actor: "gateway".into(),
            subject: subject.into(),
            rules: vec!["admins".into()],
            instance: String::new(),
            detail: BTreeMap::from([("why".into(), "a\nb".into())]),
        };
        let want = "\
1970-01-01T00:00:01Z lock.set by gateway: first (why=a\\u{a}b) [admins]
1970-01-01T00:00:02Z lock.set by gateway: se\\u{d}cond (why=a\\u{a}b) [admins]
";
        assert_eq!(audit(&[event(2_000, "se\rcond"), event(1_000, "first")], None), want);
        let long = AuditView { subject: "ab".repeat(32), actor: "spiffe://td/person/ann".into(), ..event(1_000, "") };
        let want = "1970-01-01T00:00:01Z lock.set by ann: abababababab… (why=a\\u{a}b) [admins]\n";
        assert_eq!(audit(&[long], Some(80)), want);
    }

    #[test]
    fn answers() {
        let reply = CanIReply { allowed: false, rules: vec![], explanation: "no rule allows it".into() };
        assert_eq!(can_i(&reply), "no\n");
        assert_eq!(can_i_explained(&reply), "no\n  why    no rule allows it\n  rules  none\n");
    }
}
