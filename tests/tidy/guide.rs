//! The code in `docs/migrating-from-tonic.md` is that of files which the gate compiles.

use std::fs;

use super::{assert_none, root};

/// `tests/client_only` is built with the first, and the step `guide-lint` uses the second.
const COMPILED: [&str; 2] = [
    "tests/client_only/src/connect.rs",
    "tests/client_only/clippy.toml",
];

#[test]
fn the_migration_guide_contains_code_that_is_compiled() {
    let guide = fs::read_to_string(root().join("docs/migrating-from-tonic.md"));
    let guide = guide.expect("the guide");
    let missing = COMPILED.iter().filter(|path| {
        let text = fs::read_to_string(root().join(path)).expect("a UTF-8 file");
        let header = |line: &&str| {
            line.is_empty() || ["//!", "# "].iter().any(|mark| line.starts_with(mark))
        };
        let code: Vec<_> = text.lines().skip_while(header).collect();
        !guide.contains(&format!("\n{}\n```", code.join("\n")))
    });
    let complaints = missing.map(|path| format!("the guide does not contain the code of {path}"));
    assert_none(&complaints.collect::<Vec<_>>());
}
