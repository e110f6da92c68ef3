//! The figures of `docs/scale.md`. `FLEET_OUT` names the folder for them, and without it each
//! study is a small one that writes nothing.

mod connections;
mod herd;
mod knowledge;
mod naming;
mod spread;
mod start;
mod table;
