//! The text format 0.0.4 of Prometheus.

use std::fmt::{self, Write};

use super::series::{Family, Series};
use crate::metrics::{
    instrument::{Instrument, InstrumentKind},
    meter::Label,
};

/// Adds the series that have a value, behind what is said of all of them.
pub(super) fn write(out: &mut String, family: &Family) {
    let name = name_of(family.instrument);
    let mut lines = String::new();
    for (labels, series) in &family.series {
        write_series(&mut lines, &name, labels, family.instrument, series)
            .expect("a string takes all");
    }
    if lines.is_empty() {
        return;
    }
    let kind = match family.instrument.kind() {
        InstrumentKind::Counter | InstrumentKind::Observed => "counter",
        InstrumentKind::UpDown => "gauge",
        InstrumentKind::Histogram => "histogram",
    };
    let help = family.instrument.description();
    let help = help.replace('\\', "\\\\").replace('\n', "\\n");
    out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    out.push_str(&lines);
}

fn write_series(
    out: &mut String,
    name: &str,
    labels: &[Label],
    instrument: &Instrument,
    series: &Series,
) -> fmt::Result {
    match series {
        Series::Counter(counter) => match counter.sum() {
            0 => Ok(()),
            sum => write_line(out, name, labels, None, sum),
        },
        Series::Level(level) => match level.value() {
            None => Ok(()),
            Some(value) => write_line(out, name, labels, None, value),
        },
        Series::Observed(observed) => {
            let sum = observed.sum();
            match sum > 0.0 {
                true => write_line(out, name, labels, None, sum),
                false => Ok(()),
            }
        }
        Series::Histogram(histogram) => {
            let all = histogram.distribution();
            let count: u64 = all.counts.iter().sum();
            if count == 0 {
                return Ok(());
            }
            let bucket = format!("{name}_bucket");
            let mut below = 0;
            for (bound, count) in instrument.buckets().iter().zip(&all.counts) {
                below += count;
                write_line(out, &bucket, labels, Some(&bound.to_string()), below)?;
            }
            write_line(out, &bucket, labels, Some("+Inf"), count)?;
            write_line(out, &format!("{name}_sum"), labels, None, all.sum)?;
            write_line(out, &format!("{name}_count"), labels, None, count)
        }
    }
}

fn write_line(
    out: &mut String,
    name: &str,
    labels: &[Label],
    bound: Option<&str>,
    value: impl fmt::Display,
) -> fmt::Result {
    out.push_str(name);
    let labels = labels.iter().map(|label| (label.key(), label.value()));
    let labels = labels.chain(bound.map(|bound| ("le", bound)));
    let mut separator = '{';
    for (key, value) in labels {
        out.push(separator);
        separator = ',';
        write_plain(out, key);
        out.push_str("=\"");
        write_escaped(out, value);
        out.push('"');
    }
    if separator == ',' {
        out.push('}');
    }
    writeln!(out, " {value}")
}

/// The name that OpenTelemetry's exporter makes of the name and the unit.
pub(super) fn name_of(instrument: &Instrument) -> String {
    let mut name = String::new();
    write_plain(&mut name, instrument.name());
    name.push_str(match instrument.unit() {
        "s" => "_seconds",
        "By" => "_bytes",
        _ => "",
    });
    let is_sum = matches!(
        instrument.kind(),
        InstrumentKind::Counter | InstrumentKind::Observed
    );
    if is_sum {
        name.push_str("_total");
    }
    name
}

fn write_plain(out: &mut String, name: &str) {
    out.extend(name.chars().map(|letter| match letter {
        letter if letter.is_ascii_alphanumeric() => letter,
        _ => '_',
    }));
}

fn write_escaped(out: &mut String, value: &str) {
    for letter in value.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            letter => out.push(letter),
        }
    }
}
