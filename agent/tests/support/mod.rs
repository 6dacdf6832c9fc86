//! What the agent's tests share.

pub(crate) mod host_tree;
