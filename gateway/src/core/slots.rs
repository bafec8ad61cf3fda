//! The slots of the authority: its roots and issuing CAs, and the state of each from prepared to retired. This module has the allowed
//! transitions; keys, certificates and files are in `signer`.
//!
//! A root and the issuing CAs created with it are published and activated together, so that the active CAs always chain to the
//! active root. An issuing CA created below the active root takes its steps alone.

use std::fmt::Write as _;

use pki::{KeyDigest, Role};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::records::text::{digest, role};

/// State of a slot.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SlotState {
    /// Created and not given to any client.
    Prepared,
    /// In the bundle that clients fetch, but not signing: before it becomes active, or after.
    Published,
    /// Signing. Exactly one root, and one issuing CA of each role.
    Active,
    /// Not in the bundle any more. Certificates below it are accepted until they expire.
    Retired,
}

impl SlotState {
    /// As in `authority.toml`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Published => "published",
            Self::Active => "active",
            Self::Retired => "retired",
        }
    }
}

/// A root CA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootSlot {
    /// Unique among all slots; also the name of its files, without extension.
    pub name: String,
    /// Changed by [`Slots::step`] only.
    pub state: SlotState,
    /// SHA-256 of its public key, which is the pin.
    #[serde(with = "digest")]
    pub key: KeyDigest,
    /// The generation in which it was published. Clients that fetched the bundle at this generation or later have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<u64>,
}

/// An issuing CA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuingSlot {
    /// Unique among all slots; also the name of its files, without extension.
    pub name: String,
    /// Role of the leaves that it signs.
    #[serde(with = "role")]
    pub role: Role,
    /// Name of the root that signed it.
    pub root: String,
    /// Changed by [`Slots::step`] only.
    pub state: SlotState,
    /// SHA-256 of its public key.
    #[serde(with = "digest")]
    pub key: KeyDigest,
}

/// All slots. Every value of this type is consistent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    generation: u64,
    roots: Vec<RootSlot>,
    issuing: Vec<IssuingSlot>,
}

/// `authority.toml` before it is checked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    generation: u64,
    #[serde(rename = "root")]
    roots: Vec<RootSlot>,
    issuing: Vec<IssuingSlot>,
}

/// Longest name of a slot in bytes. The limit is ours; it keeps file names short.
const NAME_MAX: usize = 32;

/// Why `authority.toml` or a step is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SlotError {
    /// The file is not TOML of the expected structure.
    #[error("it is not a valid list of slots: {0}")]
    Syntax(String),
    /// The name cannot be that of a file.
    #[error("`{0}` is no name of a slot: letters, digits and hyphens, at most {NAME_MAX}")]
    Name(String),
    /// Names and keys must be unique.
    #[error("two slots have the name or the key of `{0}`")]
    Twice(String),
    /// An issuing CA names a root that does not exist.
    #[error("`{name}` is below the root `{root}`, which does not exist")]
    NoRoot {
        /// The issuing CA.
        name: String,
        /// The missing root.
        root: String,
    },
    /// `published` must be present exactly if the root is or was published.
    #[error("`{0}` does not say in which generation it was published, or says so although it never was")]
    Published(String),
    /// There must be one active root, and one active issuing CA of each role.
    #[error("{found} of `{what}` are active instead of one")]
    Active {
        /// `root` or a role.
        what: &'static str,
        /// Number of active ones.
        found: usize,
    },
    /// An active issuing CA must be below the active root.
    #[error("`{name}` is active, and its root `{root}` is not")]
    ActiveBelow {
        /// The issuing CA.
        name: String,
        /// The root that signed it.
        root: String,
    },
    /// No slot has the name.
    #[error("there is no slot `{0}`; `lychgate-gateway ca list` shows them")]
    Unknown(String),
    /// The step does not start from the slot's state.
    #[error("`{name}` is {}, and only what is {wanted} can be {}", state.as_str(), step.done())]
    NotNow {
        /// The slot.
        name: String,
        /// State of the slot.
        state: SlotState,
        /// The states from which the step is allowed.
        wanted: &'static str,
        /// The step.
        step: SlotStep,
    },
    /// The issuing CA takes this step together with its root.
    #[error("`{name}` is below `{root}`, and goes with it: {} that one", step.as_str())]
    WithItsRoot {
        /// The issuing CA.
        name: String,
        /// The root.
        root: String,
        /// The step.
        step: SlotStep,
    },
    /// The root has no published issuing CA to replace an active one.
    #[error("`{root}` has no published CA for {} certificates, so it cannot become active", role.as_str())]
    NoIssuing {
        /// The root.
        root: String,
        /// The role without a CA.
        role: Role,
    },
}

/// A step of a slot.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum SlotStep {
    /// Prepared to published.
    Publish,
    /// Published to active; the slot that was active becomes published.
    Activate,
    /// Prepared or published to retired.
    Retire,
}

impl SlotStep {
    /// The command's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Activate => "activate",
            Self::Retire => "retire",
        }
    }

    const fn done(self) -> &'static str {
        match self {
            Self::Publish => "published",
            Self::Activate => "activated",
            Self::Retire => "retired",
        }
    }

    fn check(self, name: &str, state: SlotState) -> Result<(), SlotError> {
        let (may, wanted) = match self {
            Self::Publish => (state == SlotState::Prepared, "prepared"),
            Self::Activate => (state == SlotState::Published, "published"),
            Self::Retire => (matches!(state, SlotState::Prepared | SlotState::Published), "prepared or published"),
        };
        if may { Ok(()) } else { Err(SlotError::NotNow { name: name.to_owned(), state, wanted, step: self }) }
    }
}

impl Slots {
    /// The slots of a new authority; all are active.
    #[must_use]
    pub fn first(root: KeyDigest, issuing: [(Role, KeyDigest); 3]) -> Self {
        let name = "root".to_owned();
        let below = |(role, key): (Role, KeyDigest)| IssuingSlot {
            name: role.to_string(),
            role,
            root: name.clone(),
            state: SlotState::Active,
            key,
        };
        let issuing = issuing.map(below).to_vec();
        let root = RootSlot { name, state: SlotState::Active, key: root, published: Some(1) };
        Self { generation: 1, roots: vec![root], issuing }
    }

    /// Reads `authority.toml`. Unknown keys and inconsistent slots are errors.
    pub fn parse(text: &str) -> Result<Self, SlotError> {
        let Raw { generation, roots, issuing } =
            toml::from_str(text).map_err(|error| SlotError::Syntax(error.message().to_owned()))?;
        Self { generation, roots, issuing }.checked()
    }

    /// The text that [`Slots::parse`] reads.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = "# The slots of the authority. `lychgate-gateway ca` writes this file; the certificates and keys of a slot\n\
                        # are the files of its name beside it.\n"
            .to_owned();
        let _ = writeln!(text, "generation = {}", self.generation);
        for RootSlot { name, state, key, published } in &self.roots {
            let _ = write!(
                text,
                "\n[[root]]\nname = \"{name}\"\nstate = \"{}\"\nkey = \"{}\"\n",
                state.as_str(),
                key.hex()
            );
            if let Some(published) = published {
                let _ = writeln!(text, "published = {published}");
            }
        }
        for IssuingSlot { name, role, root, state, key } in &self.issuing {
            let (state, key) = (state.as_str(), key.hex());
            let _ = write!(
                text,
                "\n[[issuing]]\nname = \"{name}\"\nrole = \"{role}\"\nroot = \"{root}\"\nstate = \"{state}\"\nkey = \"{key}\"\n"
            );
        }
        text
    }

    fn checked(self) -> Result<Self, SlotError> {
        let mut all: Vec<(&str, KeyDigest)> = self.roots.iter().map(|slot| (&*slot.name, slot.key)).collect();
        all.extend(self.issuing.iter().map(|slot| (&*slot.name, slot.key)));
        for (at, (name, key)) in all.iter().enumerate() {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(plain) {
                return Err(SlotError::Name((*name).to_owned()));
            }
            if all.iter().take(at).any(|(other, its)| other == name || its == key) {
                return Err(SlotError::Twice((*name).to_owned()));
            }
        }
        for slot in &self.roots {
            let was = slot.published.is_some_and(|at| at <= self.generation);
            let may = match slot.state {
                SlotState::Prepared => slot.published.is_none(),
                SlotState::Published | SlotState::Active => was,
                SlotState::Retired => was || slot.published.is_none(),
            };
            if !may {
                return Err(SlotError::Published(slot.name.clone()));
            }
        }
        one_active("root", self.roots.iter().map(|slot| slot.state))?;
        for role in Role::ALL {
            one_active(role.as_str(), self.of(role).map(|slot| slot.state))?;
        }
        for IssuingSlot { name, root, state, .. } in &self.issuing {
            let above = self.root(root).ok_or_else(|| SlotError::NoRoot { name: name.clone(), root: root.clone() })?;
            if *state == SlotState::Active && above.state != SlotState::Active {
                return Err(SlotError::ActiveBelow { name: name.clone(), root: root.clone() });
            }
        }
        Ok(self)
    }

    /// Incremented with every change.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The roots, oldest first.
    #[must_use]
    pub fn roots(&self) -> &[RootSlot] {
        &self.roots
    }

    /// The issuing CAs, oldest first.
    #[must_use]
    pub fn issuing(&self) -> &[IssuingSlot] {
        &self.issuing
    }

    /// A root by name.
    #[must_use]
    pub fn root(&self, name: &str) -> Option<&RootSlot> {
        self.roots.iter().find(|slot| slot.name == name)
    }

    /// The root that signs.
    #[must_use]
    pub fn active_root(&self) -> Option<&RootSlot> {
        self.roots.iter().find(|slot| slot.state == SlotState::Active)
    }

    fn of(&self, role: Role) -> impl Iterator<Item = &IssuingSlot> {
        self.issuing.iter().filter(move |slot| slot.role == role)
    }

    /// Whether a rotation is in progress: some slot is published and not active.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        let mut states = self.roots.iter().map(|slot| slot.state).chain(self.issuing.iter().map(|slot| slot.state));
        states.any(|state| state == SlotState::Published)
    }

    /// The first unused name of `stem`, `stem-2`, `stem-3` and so on.
    #[must_use]
    pub fn free_name(&self, stem: &str) -> String {
        let used = |name: &str| self.root(name).is_some() || self.issuing.iter().any(|slot| slot.name == *name);
        let numbered = (2..).map(|number: u32| format!("{stem}-{number}"));
        std::iter::once(stem.to_owned()).chain(numbered).find(|name| !used(name)).unwrap_or_default()
    }

    fn next(&self) -> Self {
        Self { generation: self.generation.saturating_add(1), ..self.clone() }
    }

    /// The same slots with the next generation, because a certificate or CRL file was replaced.
    #[must_use]
    pub fn touched(&self) -> Self {
        self.next()
    }

    /// Adds a prepared root and the prepared issuing CAs below it.
    pub fn with_root(
        &self,
        name: &str,
        key: KeyDigest,
        issuing: Vec<(String, Role, KeyDigest)>,
    ) -> Result<Self, SlotError> {
        let mut next = self.next();
        next.roots.push(RootSlot { name: name.to_owned(), state: SlotState::Prepared, key, published: None });
        let below =
            |(its, role, key)| IssuingSlot { name: its, role, root: name.to_owned(), state: SlotState::Prepared, key };
        next.issuing.extend(issuing.into_iter().map(below));
        next.checked()
    }

    /// Adds a prepared issuing CA below the active root.
    pub fn with_issuing(&self, name: String, role: Role, key: KeyDigest) -> Result<Self, SlotError> {
        let root = self.active_root().map(|slot| slot.name.clone()).unwrap_or_default();
        let mut next = self.next();
        next.issuing.push(IssuingSlot { name, role, root, state: SlotState::Prepared, key });
        next.checked()
    }

    /// Takes a step of the slot with that name.
    ///
    /// # Errors
    /// [`SlotError::NotNow`], [`SlotError::WithItsRoot`] or [`SlotError::NoIssuing`] if the step is not allowed now.
    pub fn step(&self, name: &str, step: SlotStep) -> Result<Self, SlotError> {
        let mut next = self.next();
        if let Some(root) = self.root(name) {
            step.check(name, root.state)?;
            next.step_root(name, step)?;
        } else if let Some(slot) = self.issuing.iter().find(|slot| slot.name == name) {
            step.check(name, slot.state)?;
            let above = self.root(&slot.root).is_some_and(|root| root.state == SlotState::Active);
            if !above && step != SlotStep::Retire {
                return Err(SlotError::WithItsRoot { name: name.to_owned(), root: slot.root.clone(), step });
            }
            if step == SlotStep::Activate {
                next.demote_active(slot.role);
            }
            next.set(name, step.target());
        } else {
            return Err(SlotError::Unknown(name.to_owned()));
        }
        next.checked()
    }

    fn step_root(&mut self, name: &str, step: SlotStep) -> Result<(), SlotError> {
        let below: Vec<IssuingSlot> = self.issuing.iter().filter(|slot| slot.root == name).cloned().collect();
        match step {
            SlotStep::Publish => {
                let prepared = below.iter().filter(|slot| slot.state == SlotState::Prepared);
                prepared.for_each(|slot| self.set(&slot.name, SlotState::Published));
                let generation = self.generation;
                self.roots
                    .iter_mut()
                    .filter(|slot| slot.name == name)
                    .for_each(|slot| slot.published = Some(generation));
            }
            SlotStep::Activate => {
                for role in Role::ALL {
                    // the newest, if there are several
                    let ready = |slot: &&IssuingSlot| slot.role == role && slot.state == SlotState::Published;
                    let newest = below.iter().rfind(ready);
                    let newest = newest.ok_or_else(|| SlotError::NoIssuing { root: name.to_owned(), role })?;
                    self.demote_active(role);
                    self.set(&newest.name, SlotState::Active);
                }
                let active = self.roots.iter_mut().filter(|slot| slot.state == SlotState::Active);
                active.for_each(|slot| slot.state = SlotState::Published);
            }
            SlotStep::Retire => below.iter().for_each(|slot| self.set(&slot.name, SlotState::Retired)),
        }
        self.roots.iter_mut().filter(|slot| slot.name == name).for_each(|slot| slot.state = step.target());
        Ok(())
    }

    fn demote_active(&mut self, role: Role) {
        let active = self.issuing.iter_mut().filter(|slot| slot.role == role && slot.state == SlotState::Active);
        active.for_each(|slot| slot.state = SlotState::Published);
    }

    fn set(&mut self, name: &str, state: SlotState) {
        self.issuing.iter_mut().filter(|slot| slot.name == name).for_each(|slot| slot.state = state);
    }
}

impl SlotStep {
    const fn target(self) -> SlotState {
        match self {
            Self::Publish => SlotState::Published,
            Self::Activate => SlotState::Active,
            Self::Retire => SlotState::Retired,
        }
    }
}

fn one_active(what: &'static str, states: impl Iterator<Item = SlotState>) -> Result<(), SlotError> {
    let found = states.filter(|state| *state == SlotState::Active).count();
    if found == 1 { Ok(()) } else { Err(SlotError::Active { what, found }) }
}

#[cfg(test)]
mod tests;
