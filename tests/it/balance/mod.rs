//! Who gets the next call, and what becomes of one that nobody can take.

mod connections;
mod least_request;
mod levels;
mod load;
mod pick_first;
mod picks;
mod ring_hash;
mod rotation;
mod sets;
mod states;
mod switches;
mod weights;
