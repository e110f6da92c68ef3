//! Tables as CSV, and how large a study is.

use std::{env, fmt::Write, fs, path::PathBuf};

/// The size of a fleet: the full one where there is a folder for the figures.
pub(super) fn sized(full: usize, small: usize) -> usize {
    match folder() {
        Some(_) => full,
        None => small,
    }
}

fn folder() -> Option<PathBuf> {
    env::var_os("FLEET_OUT").map(PathBuf::from)
}

pub(super) struct Table {
    name: &'static str,
    text: String,
}

impl Table {
    pub(super) fn new(name: &'static str, columns: &str) -> Self {
        let text = format!("{columns}\n");
        Self { name, text }
    }

    /// Numbers have 4 digits, at most.
    pub(super) fn row(&mut self, names: &[&str], numbers: &[f64]) {
        let numbers = numbers.iter().map(|number| shown(*number));
        let names = names.iter().map(|name| (*name).to_owned());
        let cells: Vec<_> = names.chain(numbers).collect();
        let _ = writeln!(self.text, "{}", cells.join(","));
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Writes it, if there is a folder.
    pub(super) fn write(self) {
        if let Some(folder) = folder() {
            let path = folder.join(format!("{}.csv", self.name));
            fs::create_dir_all(&folder).expect("a folder that can be made");
            fs::write(path, self.text).expect("a file that can be written");
        }
    }
}

fn shown(number: f64) -> String {
    let digits = match number.abs() {
        size if size >= 100.0 || number.fract() == 0.0 => 0,
        size if size >= 1.0 => 2,
        _ => 4,
    };
    format!("{number:.digits$}")
}
