//! The host collectors on a GPU node's tree, on odd trees and on this machine.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod gpu_node;
mod machine;
mod oddities;
mod view;
