//! The metrics of a channel, as Prometheus reads them.

mod calls;
mod policies;
mod scrape;
