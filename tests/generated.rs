//! The generated code that is checked in is what `build.rs` makes of `proto/` today.
//!
//! After a change to `proto/`, or to the version of tonic that generates, this renews it:
//!
//! ```sh
//! UPDATE_GENERATED=1 cargo test --test generated
//! ```

use std::{env, fs, path::Path};

/// What `build.rs` has made, and the file that has to be the same.
const GENERATED: [(&[u8], &str); 9] = [
    (
        include_bytes!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs")),
        "src/pb/grpc.health.v1.rs",
    ),
    (
        include_bytes!(concat!(env!("OUT_DIR"), "/xds.data.orca.v3.rs")),
        "src/pb/xds.data.orca.v3.rs",
    ),
    (
        include_bytes!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs")),
        "crates/grpc-health/src/pb/grpc.health.v1.rs",
    ),
    (
        include_bytes!(concat!(env!("OUT_DIR"), "/grpc.channelz.v1.rs")),
        "crates/grpc-health/src/pb/grpc.channelz.v1.rs",
    ),
    (
        include_bytes!(concat!(env!("OUT_DIR"), "/with_server/grpc.channelz.v1.rs")),
        "crates/harness/src/pb/grpc.channelz.v1.rs",
    ),
    (
        include_bytes!(concat!(env!("OUT_DIR"), "/with_server/demo.v1.rs")),
        "crates/harness/src/pb/demo.v1.rs",
    ),
    (
        include_bytes!(concat!(env!("OUT_DIR"), "/with_server/grpc.health.v1.rs")),
        "crates/harness/src/pb/grpc.health.v1.rs",
    ),
    (
        include_bytes!(concat!(env!("OUT_DIR"), "/server/grpc.health.v1.rs")),
        "crates/health-service/src/pb/grpc.health.v1.rs",
    ),
    (
        include_bytes!(concat!(env!("OUT_DIR"), "/server/grpc.health.v1.bin")),
        "crates/health-service/src/pb/grpc.health.v1.bin",
    ),
];

#[test]
fn generated_code_is_up_to_date() {
    let update = env::var_os("UPDATE_GENERATED").is_some();
    for (fresh, path) in GENERATED {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        if update {
            fs::write(&file, fresh).expect("a file that can be written");
        }
        let checked_in = fs::read(&file).unwrap_or_default();
        assert!(
            checked_in == fresh,
            "{path} is not what `build.rs` makes of `proto/`. This renews it:\n\
             UPDATE_GENERATED=1 cargo test --test generated"
        );
    }
}
