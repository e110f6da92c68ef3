//! Generates code from `proto/` with protox, so that a build needs no `protoc`.
//!
//! A user's build does nothing here: what the library includes is checked in. The feature
//! `_generate`, which only the package's own dev-dependencies turn on, generates 3 trees:
//!
//! - `with_server/`: the greeter, client and server, for examples and benches; and the servers alone
//!   of health and channelz, whose messages are in `crate::health` and `crate::channelz`;
//! - `server/`, the health server alone and the descriptors of its file, for the crate
//!   `grpc-health-service`;
//! - beside them the clients of health and channelz and the load report, which `tests/generated.rs`
//!   compares with those in `src/pb/` and in the crates.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    #[cfg(feature = "_generate")]
    generate::all()?;
    Ok(())
}

#[cfg(feature = "_generate")]
mod generate {
    use std::{env, error::Error, fs, path::PathBuf};

    const HEALTH: &str = "grpc/health/v1/health.proto";
    const GREETER: &str = "demo/v1/greeter.proto";
    const CHANNELZ: &str = "grpc/channelz/v1/channelz.proto";
    const LOAD: &str = "xds/data/orca/v3/orca_load_report.proto";

    pub(crate) fn all() -> Result<(), Box<dyn Error>> {
        let out = PathBuf::from(env::var("OUT_DIR")?);
        let with_server = out.join("with_server");
        let server = out.join("server");
        fs::create_dir_all(&with_server)?;
        fs::create_dir_all(&server)?;

        tonic_prost_build::configure()
            .build_transport(false)
            .build_server(false)
            .out_dir(&out)
            .compile_fds(protox::compile([HEALTH, LOAD], ["proto"])?)?;
        tonic_prost_build::configure()
            .build_transport(false)
            .build_server(false)
            .out_dir(&out)
            .compile_fds(protox::compile([CHANNELZ], ["proto"])?)?;
        tonic_prost_build::configure()
            .build_client(false)
            .build_transport(false)
            .extern_path(".grpc.channelz.v1", "crate::channelz")
            .out_dir(&with_server)
            .compile_fds(protox::compile([CHANNELZ], ["proto"])?)?;
        tonic_prost_build::configure()
            .build_transport(false)
            .out_dir(&with_server)
            .compile_fds(protox::compile([GREETER], ["proto"])?)?;
        tonic_prost_build::configure()
            .build_client(false)
            .extern_path(".grpc.health.v1", "crate::health")
            .out_dir(&with_server)
            .compile_fds(protox::compile([HEALTH], ["proto"])?)?;
        tonic_prost_build::configure()
            .build_client(false)
            .build_transport(false)
            .codec_path("crate::codec::SmallCodec")
            .out_dir(&server)
            .compile_fds(protox::compile([HEALTH], ["proto"])?)?;
        let descriptors = protox::Compiler::new(["proto"])?
            .open_file(HEALTH)?
            .encode_file_descriptor_set();
        fs::write(server.join("grpc.health.v1.bin"), descriptors)?;
        Ok(())
    }
}
