//! Regenerates `fixtures/audio/`: `cargo run --example make_fixtures`.

use std::path::Path;

#[path = "../fixtures/audio/make/mod.rs"]
mod make;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/audio");
    std::fs::create_dir_all(folder.join("broken"))?;
    for (name, bytes) in make::files() {
        std::fs::write(folder.join(name), &bytes)?;
        println!("{:>7} bytes  {name}", bytes.len());
    }
    Ok(())
}
