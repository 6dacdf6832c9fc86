//! The AIM coordinator: fleet (QUIC) → inventory → store; keyvault; auth; audit; api.

pub mod api;
pub mod app;
pub mod auth;
pub mod clock;
pub mod conditions;
pub mod entropy;
pub mod store;
