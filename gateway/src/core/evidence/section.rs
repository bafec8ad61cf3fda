//! One attestor's section of the configuration, `[attest.<kind>]`, as its attestor reads it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

/// The sections of all attestors, by kind.
pub type Sections = BTreeMap<String, Section>;

/// One section.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// What it says.
    pub values: toml::Table,
    /// The folder of the configuration file, beside which relative paths lie.
    pub folder: PathBuf,
}

impl Eq for Section {}

impl Section {
    /// The section as its attestor's settings. They refuse unknown keys, and each key has a safe meaning when absent.
    ///
    /// # Errors
    /// [`BadSection`].
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, BadSection> {
        let values = toml::Value::Table(self.values.clone());
        values.try_into().map_err(|error: toml::de::Error| BadSection::new(error.message()))
    }

    /// A path in it.
    #[must_use]
    pub fn path(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }
}

/// A section that makes no attestor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct BadSection {
    /// What is wrong with it.
    pub what: String,
}

impl BadSection {
    /// With what is wrong.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }
}
