//! Options for backends of several priorities and localities.

use super::builder::ChannelBuilder;
use crate::discover::Locality;

impl ChannelBuilder {
    /// Where this channel is. Calls then go to the nearest backends, by the
    /// [locality](crate::discover::Backend::locality) that the source gives each.
    ///
    /// Only the fields that are given here count. With region and zone, for example, the backends
    /// of the zone come first, then those of the region, and then the others. How many calls
    /// spill over to the next says the [overprovisioning factor](Self::overprovisioning_factor).
    ///
    /// Not known by default, and then all backends of a priority are equal. Envoy's zone aware
    /// routing ("Zone aware routing" in its documentation) also goes by the number of clients in
    /// each zone, which a client does not know here. With many more clients than backends in a
    /// zone, those backends have more calls than others.
    pub fn locality(mut self, locality: Locality) -> Self {
        self.levels.locality = Some(locality);
        self
    }

    /// How much load the backends of a priority can bear, in percent of their share while all are
    /// healthy. 140 by default, as in Envoy ("Priority levels" in its documentation): with 10
    /// backends 8 healthy ones have all calls, and with 7 of them 2 % go to the next priority. A
    /// number below 100 counts as 100.
    ///
    /// The same goes for the localities of a priority, by their distance. A backend that has
    /// neither been READY nor failed counts neither way.
    pub fn overprovisioning_factor(mut self, percent: u32) -> Self {
        self.levels.overprovisioning_factor = percent.max(100);
        self
    }

    /// Below how many percent of healthy backends a priority is in panic: its calls then go to
    /// all of its backends that are connected, whatever their health is and whether they are
    /// ejected or not. 0 by default, which is never. More than 100 counts as 100.
    ///
    /// If most backends say that they are unwell, the check may be wrong, and the few that are
    /// left would break down under the calls of all ("Panic threshold" in Envoy's documentation,
    /// where it is 50 by default). While the healthy backends of all priorities are enough
    /// together, none is in panic. [`ChannelStatus::priorities`] tells of it.
    ///
    /// [`ChannelStatus::priorities`]: crate::status::ChannelStatus::priorities
    pub fn panic_threshold(mut self, percent: u32) -> Self {
        self.levels.panic_threshold = percent.min(100);
        self
    }
}
