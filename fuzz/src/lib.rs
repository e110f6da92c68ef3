//! What each fuzz target does with its bytes, and what has to hold then. A panic is a
//! finding, and so is an input that takes seconds.
//!
//! The tests of the package include this file, and replay the corpora.

#![allow(
    unreachable_pub,
    reason = "public for the targets, and in the tests a module of theirs"
)]

pub mod health_request;
pub mod health_response;
pub mod http2_driver;
pub mod service_config;
pub mod target;
pub mod wire;

mod http2_server;
mod input;
mod rig;
