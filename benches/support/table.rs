//! What a bench prints, and writes to a CSV file.

use std::{fs, path::Path};

use super::Result;

/// Rows of text under a header. Units stand in the header, so that the cells
/// can be read by programs.
#[derive(Debug)]
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    pub(crate) fn new(header: &[&str]) -> Self {
        Self(vec![header.iter().map(ToString::to_string).collect()])
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.0[0].len(), "one cell for each column");
        self.0.push(cells);
    }

    pub(crate) fn print(&self) {
        let width = |column: usize| self.0.iter().map(|row| row[column].chars().count()).max();
        let widths: Vec<_> = (0..self.0[0].len()).filter_map(width).collect();
        for row in &self.0 {
            let cells = row.iter().zip(&widths);
            let line: Vec<_> = cells.map(|(cell, &w)| format!("{cell:>w$}")).collect();
            println!("{}", line.join("  "));
        }
    }

    /// No cell has a comma or a quote in it.
    pub(crate) fn write_csv(&self, file: Option<&Path>) -> Result<()> {
        let Some(file) = file else { return Ok(()) };
        let lines: String = self.0.iter().map(|row| row.join(",") + "\n").collect();
        let written = fs::write(file, lines);
        written.map_err(|error| format!("cannot write {}: {error}", file.display()).into())
    }
}

/// The value that `part` of all are not above; sorts. 0.5 is the median, 1.0 the
/// largest.
///
/// # Panics
///
/// If there are no values.
pub(crate) fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * part).ceil() as usize;
    values[rank.clamp(1, values.len()) - 1]
}
