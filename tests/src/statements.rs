//! Statements (soon).
