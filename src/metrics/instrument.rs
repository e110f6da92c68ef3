//! Instruments: a name, its unit, and the labels it may have.

/// One thing that a channel measures, as a [`Meter`](super::Meter) is told of it.
///
/// Those with the prefix `grpc.` are defined by gRFCs, and have the same names in gRPC's other
/// implementations. Those with `tonic_health_channel.` are this crate's own. [`all`](Self::all)
/// lists them, and `docs/observing.md` says when each is recorded.
///
/// ```
/// use tonic_health_channel::metrics::Instrument;
///
/// let by_default = Instrument::all().iter().filter(|instrument| instrument.is_default());
/// let names: Vec<_> = by_default.map(|instrument| instrument.name()).collect();
/// assert!(names.contains(&"grpc.client.call.duration"));
/// assert!(!names.contains(&"grpc.subchannel.disconnections"));
/// ```
#[derive(Debug)]
pub struct Instrument {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) unit: &'static str,
    pub(super) kind: InstrumentKind,
    pub(super) buckets: &'static [f64],
    pub(super) labels: &'static [&'static str],
    pub(super) optional_labels: &'static [&'static str],
    pub(super) is_default: bool,
}

/// How the values of an [`Instrument`] add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InstrumentKind {
    /// A sum of whole numbers that only grows.
    Counter,
    /// A sum of whole numbers that grows and falls.
    UpDown,
    /// A distribution.
    Histogram,
    /// A sum that only grows and is read at each collection.
    Observed,
}

impl Instrument {
    /// The name in gRPC's spelling, such as `grpc.client.call.duration`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its meaning, in a sentence.
    pub fn description(&self) -> &'static str {
        self.description
    }

    /// The unit in UCUM's spelling: `s`, `By`, or what is counted, such as `{attempt}`.
    pub fn unit(&self) -> &'static str {
        self.unit
    }

    /// How its values add up.
    pub fn kind(&self) -> InstrumentKind {
        self.kind
    }

    /// The upper bounds of a histogram's buckets, each inclusive. Values above the last are in
    /// a bucket of their own. Empty for other kinds.
    pub fn buckets(&self) -> &'static [f64] {
        self.buckets
    }

    /// The labels that each series has.
    pub fn labels(&self) -> &'static [&'static str] {
        self.labels
    }

    /// The labels that a series has if
    /// [`Metrics::optional_labels`](super::Metrics::optional_labels) names them.
    pub fn optional_labels(&self) -> &'static [&'static str] {
        self.optional_labels
    }

    /// Whether it is recorded unless [`Metrics::disable`](super::Metrics::disable) names it.
    pub fn is_default(&self) -> bool {
        self.is_default
    }
}
