//! Owns the subchannels and publishes whom calls may go to.
