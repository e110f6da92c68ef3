//! Service configs that are in force, and what calls make of them.

mod files;
mod methods;
mod updates;
