//! Fronts: one protocol each by which certificates are asked for. A front turns requests of its protocol into our own types,
//! calls [`crate::flow`], and says the outcome, or the refusal, in its own dialect. What all have in common, the endpoint
//! table, rates, sizes and callers, is in [`super::endpoints`] and [`super::http`].

pub mod native;
