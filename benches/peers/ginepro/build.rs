//! Generates the greeter's client for tonic 0.13, and tells which versions Cargo.lock
//! has.

use std::{error::Error, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../../../proto");
    println!("cargo:rerun-if-changed=../Cargo.lock");
    tonic_build::configure()
        .build_transport(false)
        .build_server(false)
        .compile_fds(protox::compile(
            ["demo/v1/greeter.proto"],
            ["../../../proto"],
        )?)?;
    let lock = fs::read_to_string("../Cargo.lock")?;
    for (name, variable) in [("ginepro", "GINEPRO_VERSION"), ("tonic", "TONIC_VERSION")] {
        println!("cargo:rustc-env={variable}={}", version(&lock, name)?);
    }
    Ok(())
}

/// The oldest: of tonic there are two, and ginepro's is not the newest.
fn version<'a>(lock: &'a str, name: &str) -> Result<&'a str, String> {
    let entry = format!("name = \"{name}\"\nversion = \"");
    let found = lock.split_once(&entry).map(|(_, rest)| rest);
    let end = found.and_then(|rest| rest.split('"').next());
    end.ok_or(format!("Cargo.lock has no {name}"))
}
