//! `bindgen IN.wasm OUT_DIR`: wasm-bindgen's own library as a command.
//!
//! The options are those of worker-build 0.8.7 (`--target module
//! --experimental-reset-state-function --force-enable-abort-handler --no-typescript`), so the
//! output runs like its output does: after a panic the next request gets a fresh instance.
use std::{env, path::Path, process::ExitCode};

use wasm_bindgen_cli_support::Bindgen;

/// The stem of everything written: `index.js` and `index_bg.wasm`.
const OUT_NAME: &str = "index";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let [input, out_dir] = args.as_slice() else {
        eprintln!("usage: bindgen IN.wasm OUT_DIR");
        return ExitCode::from(64);
    };
    match generate(Path::new(input), Path::new(out_dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bindgen: {input}: {why}");
            ExitCode::FAILURE
        }
    }
}

fn generate(input: &Path, out_dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut bindgen = Bindgen::new();
    bindgen.input_path(input).out_name(OUT_NAME).typescript(false);
    bindgen.reset_state_function(true).force_enable_abort_handler(true);
    // Workers have no debugger for these sections, and they are a third of the upload.
    bindgen.remove_name_section(true).remove_producers_section(true);
    bindgen.module(true)?.generate(out_dir)?;
    Ok(())
}
