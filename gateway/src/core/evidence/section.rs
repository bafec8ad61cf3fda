//! The section of an attestor in the configuration, `[attest.<kind>]`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

/// All sections, by kind of evidence.
pub type Sections = BTreeMap<String, Section>;

/// The section of one attestor.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// Its keys, which only the attestor interprets.
    pub values: toml::Table,
    /// The folder of the configuration file; relative paths start there.
    pub folder: PathBuf,
}

impl Eq for Section {}

impl Section {
    /// Deserializes the attestor's settings. `T` must refuse unknown keys and have a safe default for each key.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, BadSection> {
        let values = toml::Value::Table(self.values.clone());
        values.try_into().map_err(|error: toml::de::Error| BadSection::new(error.message()))
    }

    /// Resolves a path of the section.
    #[must_use]
    pub fn path(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }
}

/// An invalid section.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct BadSection {
    /// What is wrong with it.
    pub what: String,
}

impl BadSection {
    /// `what` is shown to the operator after the section's name.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }
}
