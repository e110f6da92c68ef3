//! Compiles `proto/` with protox, so that nobody needs `protoc`.
//!
//! Two trees come out. The library includes the health *client* alone, which is
//! all that its `tonic` features allow. Examples, tests and benches include
//! `with_server/`, which has clients and servers of both services.

use std::{env, error::Error, fs, path::PathBuf};

const PROTOS: [&str; 2] = ["grpc/health/v1/health.proto", "demo/v1/greeter.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let with_server = out.join("with_server");
    fs::create_dir_all(&with_server)?;

    tonic_prost_build::configure()
        .build_transport(false)
        .build_server(false)
        .out_dir(&out)
        .compile_fds(descriptors.clone())?;
    tonic_prost_build::configure()
        .build_transport(false)
        .out_dir(&with_server)
        .compile_fds(descriptors)?;
    Ok(())
}
