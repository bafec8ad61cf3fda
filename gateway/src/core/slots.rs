//! The slots of the authority: which roots and issuing CAs there are, and how far each is on its way from being made to being
//! gone. Here is what may follow what; keys, certificates and files are the signer's.
//!
//! A root and the issuing CAs made with it go together: they are published and activated at one moment, so that the active CAs
//! always lead to the active root. An issuing CA that is made below the active root goes by itself.

use std::fmt::Write as _;

use pki::{KeyDigest, Role};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::records::text::{digest, role};

/// How far a slot is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SlotState {
    /// Made, and shown to nobody.
    Prepared,
    /// Believed by everybody who fetches what there is to believe, and signing nothing: on its way in, or on its way out.
    Published,
    /// Signing. One root, and one issuing CA of each role.
    Active,
    /// Told to nobody new. What it signed is accepted until it ends.
    Retired,
}

impl SlotState {
    /// The word for it.
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

/// A root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootSlot {
    /// Its name: that of its files.
    pub name: String,
    /// How far it is.
    pub state: SlotState,
    /// The digest of its key: the pin.
    #[serde(with = "digest")]
    pub key: KeyDigest,
    /// The generation in which it was published: whoever was given roots since has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<u64>,
}

/// An issuing CA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuingSlot {
    /// Its name: that of its files.
    pub name: String,
    /// Whose leaves it signs.
    #[serde(with = "role")]
    pub role: Role,
    /// The name of the root that signed it.
    pub root: String,
    /// How far it is.
    pub state: SlotState,
    /// The digest of its key.
    #[serde(with = "digest")]
    pub key: KeyDigest,
}

/// All slots, which fit each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    generation: u64,
    roots: Vec<RootSlot>,
    issuing: Vec<IssuingSlot>,
}

/// What the file says, before it is checked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    generation: u64,
    #[serde(rename = "root")]
    roots: Vec<RootSlot>,
    issuing: Vec<IssuingSlot>,
}

/// Longest name of a slot: it is the name of files.
const NAME_MAX: usize = 32;

/// Why slots are refused, or do not move.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SlotError {
    /// Not the file that it should be.
    #[error("it does not read as the slots of an authority: {0}")]
    Syntax(String),
    /// A name that is no name of files.
    #[error("`{0}` is no name of a slot: letters, digits and hyphens, at most {NAME_MAX}")]
    Name(String),
    /// Two slots of one name or key.
    #[error("two slots have the name or the key of `{0}`")]
    Twice(String),
    /// An issuing CA of no root.
    #[error("`{name}` is below the root `{root}`, and there is none of that name")]
    NoRoot {
        /// The CA.
        name: String,
        /// The root that it names.
        root: String,
    },
    /// A root that says when it was published although it never was, or the reverse.
    #[error("`{0}` does not say in which generation it was published, or says so although it never was")]
    Published(String),
    /// None or several that sign.
    #[error("{found} of `{what}` are active instead of one")]
    Active {
        /// Which.
        what: &'static str,
        /// How many.
        found: usize,
    },
    /// A CA that signs below a root that does not.
    #[error("`{name}` is active, and its root `{root}` is not")]
    ActiveBelow {
        /// The CA.
        name: String,
        /// Its root.
        root: String,
    },
    /// A name of nothing.
    #[error("there is no slot `{0}`; `lychgate-gateway ca list` shows them")]
    Unknown(String),
    /// What is not the next step.
    #[error("`{name}` is {}, and only what is {wanted} can be {}", state.as_str(), step.done())]
    NotNow {
        /// The slot.
        name: String,
        /// How far it is.
        state: SlotState,
        /// From where the step leads.
        wanted: &'static str,
        /// The step.
        step: SlotStep,
    },
    /// An issuing CA whose root is not so far.
    #[error("`{name}` is below `{root}`, and goes with it: {} that one", step.as_str())]
    WithItsRoot {
        /// The CA.
        name: String,
        /// The root.
        root: String,
        /// The step.
        step: SlotStep,
    },
    /// A root without CAs to take the place of the active ones.
    #[error("`{root}` has no published CA for {} certificates, so it cannot become active", role.as_str())]
    NoIssuing {
        /// The root.
        root: String,
        /// Whose CA is missing.
        role: Role,
    },
}

/// A step of a slot.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum SlotStep {
    /// From prepared to published.
    Publish,
    /// From published to active; what was active becomes published.
    Activate,
    /// From prepared or published to retired.
    Retire,
}

impl SlotStep {
    /// The verb.
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
    /// Of a new authority: everything is active.
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

    /// Reads them, strictly.
    ///
    /// # Errors
    /// [`SlotError`].
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

    /// Grows with every change.
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

    /// Whether anything is on its way in or out.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        let mut states = self.roots.iter().map(|slot| slot.state).chain(self.issuing.iter().map(|slot| slot.state));
        states.any(|state| state == SlotState::Published)
    }

    /// A name that no slot has: `stem`, `stem-2` and so on.
    #[must_use]
    pub fn free_name(&self, stem: &str) -> String {
        let used = |name: &str| self.root(name).is_some() || self.issuing.iter().any(|slot| slot.name == *name);
        let numbered = (2..).map(|number: u32| format!("{stem}-{number}"));
        std::iter::once(stem.to_owned()).chain(numbered).find(|name| !used(name)).unwrap_or_default()
    }

    fn next(&self) -> Self {
        Self { generation: self.generation.saturating_add(1), ..self.clone() }
    }

    /// The same slots with other certificates: renewed ones, or another list.
    #[must_use]
    pub fn touched(&self) -> Self {
        self.next()
    }

    /// With a new root and the issuing CAs below it.
    ///
    /// # Errors
    /// [`SlotError`].
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

    /// With a new issuing CA below the active root.
    ///
    /// # Errors
    /// [`SlotError`].
    pub fn with_issuing(&self, name: String, role: Role, key: KeyDigest) -> Result<Self, SlotError> {
        let root = self.active_root().map(|slot| slot.name.clone()).unwrap_or_default();
        let mut next = self.next();
        next.issuing.push(IssuingSlot { name, role, root, state: SlotState::Prepared, key });
        next.checked()
    }

    /// After a step of the slot of that name.
    ///
    /// # Errors
    /// [`SlotError`] when it is not the slot's next step.
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
                next.stand_down(slot.role);
            }
            next.set(name, step.leads_to());
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
                    // The newest, should there be several.
                    let ready = |slot: &&IssuingSlot| slot.role == role && slot.state == SlotState::Published;
                    let newest = below.iter().rfind(ready);
                    let newest = newest.ok_or_else(|| SlotError::NoIssuing { root: name.to_owned(), role })?;
                    self.stand_down(role);
                    self.set(&newest.name, SlotState::Active);
                }
                let active = self.roots.iter_mut().filter(|slot| slot.state == SlotState::Active);
                active.for_each(|slot| slot.state = SlotState::Published);
            }
            SlotStep::Retire => below.iter().for_each(|slot| self.set(&slot.name, SlotState::Retired)),
        }
        self.roots.iter_mut().filter(|slot| slot.name == name).for_each(|slot| slot.state = step.leads_to());
        Ok(())
    }

    fn stand_down(&mut self, role: Role) {
        let active = self.issuing.iter_mut().filter(|slot| slot.role == role && slot.state == SlotState::Active);
        active.for_each(|slot| slot.state = SlotState::Published);
    }

    fn set(&mut self, name: &str, state: SlotState) {
        self.issuing.iter_mut().filter(|slot| slot.name == name).for_each(|slot| slot.state = state);
    }
}

impl SlotStep {
    const fn leads_to(self) -> SlotState {
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
