//! The generated code in `src/gen` is what the `.proto` files say.
//! `UPDATE_GENERATED=1 cargo test -p ambit-proto` rewrites it.

use std::path::Path;

const FILES: [&str; 9] = [
    "xds.proto",
    "workload.proto",
    "authorization.proto",
    "ca.proto",
    "zds.proto",
    "waypoint.proto",
    "names.proto",
    "ext_authz.proto",
    "otlp.proto",
];

#[test]
fn generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = root.join("proto");
    let committed = root.join("src/gen");
    let fresh = tempfile::tempdir().expect("a temporary folder");

    let descriptors = protox::compile(FILES, [&sources]).expect("the .proto files compile");
    tonic_prost_build::configure()
        .out_dir(fresh.path())
        .client_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .bytes(".istio.workload")
        .bytes(".istio.security")
        .bytes(".ambit.waypoint")
        .bytes(".envoy.service.discovery.v3")
        .compile_fds(descriptors)
        .expect("code generation");

    let update = std::env::var_os("UPDATE_GENERATED").is_some();
    for entry in std::fs::read_dir(fresh.path()).expect("a readable folder") {
        let path = entry.expect("a folder entry").path();
        let name = path.file_name().expect("a file name");
        let wanted = std::fs::read_to_string(&path).expect("generated text");
        let target = committed.join(name);
        if update {
            std::fs::write(&target, &wanted).expect("a writable src/gen");
        }
        let found = std::fs::read_to_string(&target).unwrap_or_default();
        assert!(
            found == wanted,
            "{} differs from its .proto file; run UPDATE_GENERATED=1 cargo test -p ambit-proto",
            target.display()
        );
    }
}
