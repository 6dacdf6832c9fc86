//! The AIM coordinator: fleet (QUIC) → inventory → store; keyvault; auth; audit; api.

pub mod api;
pub mod app;
pub mod audit;
pub mod auth;
pub mod clock;
pub mod conditions;
pub mod config;
pub mod entropy;
pub mod fleet;
pub mod host_commands;
pub mod host_control;
pub mod inventory;
pub mod keyvault;
pub mod log;
pub mod private_file;
pub mod private_memory;
pub mod seal;
pub mod serve;
pub mod store;
pub mod supervise;
