//! Connection of a command to the manage face, and the output of its replies. `--json` prints the gateway's reply unchanged.

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

/// Most pages of a listing that are fetched: a million rows.
const PAGES_MOST: usize = 1_000;

/// A connection to the manage face with an output format.
pub struct ManageClient {
    pub(crate) face: ManageFace,
    pub(crate) format: Format,
    pub(crate) now: pki::UnixTime,
}

/// Adds `result`, a word for what was done, to the gateway's reply.
pub(crate) fn with_result(result: &str, mut value: Value) -> Value {
    if let Some(members) = value.as_object_mut() {
        members.insert("result".to_owned(), result.into());
    }
    value
}

/// Decodes the gateway's reply for output as text.
pub(crate) fn typed<T: DeserializeOwned>(value: &Value) -> Result<T, Complaint> {
    serde_json::from_value(value.clone()).map_err(|e| {
        Complaint::new(Exit::Failure, "bad-reply", format!("the gateway's reply makes no sense: {e}"))
            .hint("this program may be older than the gateway; --json shows the reply as it is")
    })
}

impl ManageClient {
    /// With the identity in the folder.
    ///
    /// # Errors
    /// When the folder holds no identity, its certificate has expired, or TLS cannot be set up with it.
    pub fn open(store: &Keystore, format: Format) -> Result<Self, Complaint> {
        let credential = upkeep::load_valid(store)?;
        let now = upkeep::gateway_time(store, &credential);
        Ok(Self { face: ManageFace::new(&credential).map_err(CallError::Net)?, format, now })
    }

    /// Prints a reply as JSON or text.
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

    /// Prints the result of a change.
    pub(crate) fn done(&self, value: &Value, text: &str) {
        terminal::result(self.format, value, &text::safe(text));
    }

    /// As [`ManageClient::done`], with several lines.
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

    /// Prints the gateway's notices for this person before a listing. Errors are ignored.
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
