//! Writes seed files for the fuzz targets `cli_*`: the examples of the configuration reference, all of them in one
//! file, and mistakes. `cargo run -p martlet-cli --example cli_seeds -- DIR`

use std::path::PathBuf;

const REFERENCE: &str = include_str!("../configuration.md");

const MISTAKES: [&str; 8] = [
    "[limits]\nconections_max = 1\n",
    "[mqtt\n",
    "limits = 5\n",
    "[[users]]\nname = 1\npassword_hash = \"x\"\n",
    "listeners = [{ url = \"tcp://[::1]:1883\" }, { url = \"ws://localhost:0/mqtt\", id = \"\\u00df\" }]\n",
    "a.b.c = [[1, 2.5e3], [true, 1979-05-27T07:32:00Z]]\n",
    "log.level = \"warn,martlet_broker::session=trace\"\r\n",
    "x = '''\nlines'''\ny = \"\"\"\\\n   more\"\"\" # comment\n",
];

fn main() -> std::io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(std::io::Error::other("usage: cli_seeds DIR"));
    };
    std::fs::create_dir_all(&directory)?;
    let examples: Vec<&str> = REFERENCE
        .split("```toml\n")
        .skip(1)
        .filter_map(|block| block.split("```").next())
        .collect();
    for (number, seed) in examples.iter().chain(&MISTAKES).enumerate() {
        std::fs::write(directory.join(format!("seed-{number:03}")), seed)?;
    }
    Ok(())
}
