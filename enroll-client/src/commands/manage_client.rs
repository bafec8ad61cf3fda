//! A person (or machine) at the manage face: one connection, and how its answers are printed. `--json` prints what the gateway said,
//! as it said it.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use wire::manage::SelfReply;

use crate::edge::keystore::Keystore;
use crate::edge::manage::{ManageFace, query};
use crate::edge::net::CallError;
use crate::edge::terminal::{self, Format};
use crate::flow::upkeep;
use crate::text;
use crate::text::report::{Complaint, Exit};
use crate::text::table::Table;

/// Most pages of a listing that are fetched: a million rows, more than anybody reads.
const PAGES_MOST: usize = 1_000;

/// A person (or machine) at the manage face.
pub struct ManageClient {
    pub(crate) face: ManageFace,
    pub(crate) format: Format,
    pub(crate) now: pki::UnixTime,
}

/// What the gateway said, with what was done in one word.
pub(crate) fn with_result(result: &str, mut value: Value) -> Value {
    if let Some(members) = value.as_object_mut() {
        members.insert("result".to_owned(), result.into());
    }
    value
}

/// What the gateway said, typed for laying out.
pub(crate) fn typed<T: DeserializeOwned>(value: &Value) -> Result<T, Complaint> {
    serde_json::from_value(value.clone()).map_err(|e| {
        Complaint::new(Exit::Failure, "bad-reply", format!("the gateway's reply makes no sense: {e}"))
            .hint("this program may be older than the gateway; --json shows the reply as it is")
    })
}

impl ManageClient {
    /// As the identity in the folder.
    ///
    /// # Errors
    /// When the folder holds no identity, its certificate has expired, or TLS cannot be set up with it.
    pub fn open(store: &Keystore, format: Format) -> Result<Self, Complaint> {
        let credential = upkeep::load_valid(store)?;
        let now = upkeep::gateway_time(store, &credential);
        Ok(Self { face: ManageFace::new(&credential).map_err(CallError::Net)?, format, now })
    }

    /// Prints a reply: as it is, or laid out.
    pub(crate) fn print<T: DeserializeOwned>(
        &self,
        value: &Value,
        lay_out: impl FnOnce(&T) -> String,
    ) -> Result<(), Complaint> {
        let text = match self.format {
            Format::Json => String::new(),
            Format::Text => lay_out(&typed(value)?),
        };
        terminal::result(self.format, value, &text);
        Ok(())
    }

    /// Prints that something was done.
    pub(crate) fn done(&self, value: &Value, text: &str) {
        terminal::result(self.format, value, &text::safe(text));
    }

    /// The same, of several lines.
    pub(crate) fn done_lines(&self, value: &Value, lines: &[String]) {
        let lines: Vec<String> = lines.iter().map(|line| text::safe(line)).collect();
        terminal::result(self.format, value, &lines.join("\n"));
    }

    /// All rows of a listing, or the first `limit`.
    pub(crate) async fn listing(
        &mut self,
        path: &str,
        parameters: &[(&str, Option<String>)],
        limit: usize,
    ) -> Result<Value, Complaint> {
        let mut items: Vec<Value> = Vec::new();
        let mut after: Option<String> = None;
        for _ in 0..PAGES_MOST {
            let mut parameters = parameters.to_vec();
            parameters.push(("limit", Some((limit - items.len()).min(wire::limits::PAGE_MAX).to_string())));
            parameters.push(("after", after.take()));
            let mut page: Value = self.face.get(&format!("{path}{}", query(&parameters))).await?;
            if let Some(Value::Array(rows)) = page.get_mut("items").map(Value::take) {
                items.extend(rows);
            }
            after = page.get("next").and_then(Value::as_str).map(str::to_owned);
            if after.is_none() || items.len() >= limit {
                break;
            }
        }
        items.truncate(limit);
        Ok(match after {
            Some(next) => json!({ "items": items, "next": next }),
            None => json!({ "items": items }),
        })
    }

    /// Prints a listing.
    pub(crate) fn print_rows<T: DeserializeOwned>(
        &self,
        listing: &Value,
        lay_out: impl FnOnce(&[T]) -> Table,
    ) -> Result<(), Complaint> {
        match self.format {
            Format::Json => terminal::result(self.format, listing, ""),
            Format::Text => {
                let rows = typed::<Vec<T>>(listing.get("items").unwrap_or(&Value::Null))?;
                terminal::list(&lay_out(&rows).render(terminal::width()));
            }
        }
        Ok(())
    }

    /// What the gateway wants this person to know, said before a listing. That it cannot be fetched is no reason to fail.
    pub(crate) async fn say_notices(&mut self) {
        if self.format == Format::Text
            && let Ok(seen) = self.face.get::<SelfReply>("/v1/self").await
        {
            for notice in seen.notices {
                terminal::say(&notice);
            }
        }
    }
}
