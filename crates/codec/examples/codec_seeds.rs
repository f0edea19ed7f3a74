//! Writes the corpus as seed files for the fuzz targets `codec_*`: one file for each packet and
//! version. `cargo run -p martlet-codec --features corpus --example codec_seeds -- DIR`

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(std::io::Error::other("usage: codec_seeds DIR"));
    };
    std::fs::create_dir_all(&directory)?;
    for (name, seed) in martlet_codec::corpus::seeds() {
        std::fs::write(directory.join(name), seed)?;
    }
    Ok(())
}
