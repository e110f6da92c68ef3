//! Generates the greeter where the package's own build leaves it, and tells which
//! versions Cargo.lock has.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../../proto");
    println!("cargo:rerun-if-changed=Cargo.lock");
    let out = PathBuf::from(env::var("OUT_DIR")?).join("with_server");
    fs::create_dir_all(&out)?;
    tonic_prost_build::configure()
        .build_transport(false)
        .out_dir(out)
        .compile_fds(protox::compile(["demo/v1/greeter.proto"], ["../../proto"])?)?;
    let lock = fs::read_to_string("Cargo.lock")?;
    for (name, variable) in [("h2", "H2_VERSION"), ("tonic-health-channel", "VERSION")] {
        println!("cargo:rustc-env={variable}={}", version(&lock, name)?);
    }
    // ginepro brings an older one; the newest comes last.
    println!("cargo:rustc-env=TONIC_VERSION={}", version(&lock, "tonic")?);
    Ok(())
}

fn version<'a>(lock: &'a str, name: &str) -> Result<&'a str, String> {
    let entry = format!("name = \"{name}\"\nversion = \"");
    let found = lock.rsplit_once(&entry).map(|(_, rest)| rest);
    let end = found.and_then(|rest| rest.split('"').next());
    end.ok_or(format!("Cargo.lock has no {name}"))
}
