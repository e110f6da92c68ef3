//! The metrics of a channel, as Prometheus reads them.

mod calls;
mod connections;
mod health;
mod policies;
mod scrape;
