//! The clients of the greeter and of the health service.

use std::error::Error;

const PROTOS: [&str; 2] = ["grpc/health/v1/health.proto", "demo/v1/greeter.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../../../proto");
    let descriptors = protox::compile(PROTOS, ["../../../proto"])?;
    tonic_prost_build::configure()
        .build_transport(false)
        .build_server(false)
        .compile_fds(descriptors)?;
    Ok(())
}
