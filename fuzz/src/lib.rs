//! Fuzz targets: what must hold for any bytes at all.
//!
//! A target is a plain function that panics when something does not hold. `cargo xtask fuzz` calls
//! them from libFuzzer, which looks for bytes that reach new code; `cargo test` calls each with its
//! seeds and with drawn bytes. To add one: a file with `pub fn run(data: &[u8])`, its `mod` line and
//! its line in [`TARGETS`]; what is in `seeds/NAME/` is tried first.

mod cache_policy;
mod differential;
mod hygiene;
mod map_object;
mod marker;
mod message;
mod messages;
mod path;
mod rules_file;
mod sql;

pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
}

pub const TARGETS: [Target; 11] = [
    Target { name: "cache_policy", run: cache_policy::run },
    Target { name: "chunked", run: messages::chunked },
    Target { name: "differential", run: differential::run },
    Target { name: "hygiene", run: hygiene::run },
    Target { name: "map_object", run: map_object::run },
    Target { name: "marker", run: marker::run },
    Target { name: "path", run: path::run },
    Target { name: "request_head", run: messages::request },
    Target { name: "response_head", run: messages::response },
    Target { name: "rules_file", run: rules_file::run },
    Target { name: "sql", run: sql::run },
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::path::Path;

    #[test]
    fn every_target_holds_for_its_seeds() {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
        let mut folders = 0;
        for target in &TARGETS {
            let Ok(files) = std::fs::read_dir(seeds.join(target.name)) else { continue };
            folders += 1;
            for file in files {
                (target.run)(&std::fs::read(file.expect("a seed").path()).expect("its bytes"));
            }
        }
        let all = std::fs::read_dir(&seeds).expect("the seeds").count();
        assert_eq!(folders, all, "a folder of seeds that belongs to no target");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn every_target_holds_for_drawn_bytes(data in vec(any::<u8>(), 0..400)) {
            for target in &TARGETS {
                (target.run)(&data);
            }
        }
    }
}
