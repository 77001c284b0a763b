//! Compiles the control-frame schema with protox, so that no protoc is needed on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/hawser.proto");
    let set = protox::compile(["proto/hawser.proto"], ["proto"])?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    config.compile_fds(set)?;
    Ok(())
}
