//! Names chosen by users, which become metric labels, parts of header fields and parts of cache
//! keys.

use super::tree::Table;

const NAME_CHARS_MAX: usize = 64;
const REMEDY: &str = "Use up to 64 lower-case letters, digits, - and _.";

pub(super) fn is_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    !name.is_empty() && name.len() <= NAME_CHARS_MAX && name.chars().all(legal)
}

/// Checks the name of one thing, which its table contains.
pub(super) fn own(table: &Table<'_>, name: &str) {
    let reason = format!("`{name}` can't be a metric label");
    table.fault("bad-name", reason, REMEDY);
}

/// Checks the keys of a table that are names.
pub(super) fn of_entries(table: &Table<'_>, what: &str) {
    for (name, value) in table.entries().filter(|(name, _)| !is_name(name)) {
        let reason =
            format!("`{name}` can't be the name of {what}: header fields carry it between pods");
        value.fault("bad-name", reason, REMEDY);
    }
}

#[cfg(test)]
mod tests {
    use crate::file::check;

    /// The faults of a file with this map and this shard.
    fn faults(map: &str, shard: &str) -> Vec<String> {
        let text = format!(
            "[shard_map.{map}]\nkey_type = \"int\"\nranges = [{{ from = 1, shard = {shard} }}]\nshards = {{ {shard} = {{}} }}\n"
        );
        let faults = check(&text).err().unwrap_or_default();
        faults.iter().map(|fault| format!("{} {}", fault.name, fault.path)).collect()
    }

    #[test]
    fn maps_and_shards_have_names_that_a_field_can_carry() {
        assert!(faults("market_data-2", "\"a\"").is_empty());
        assert!(faults(&"m".repeat(64), "\"a\"").is_empty());
        for name in ["\"a.b\"", "Market", "\"a b\"", "\"\"", "\"é\"", &"m".repeat(65)] {
            assert_eq!(faults(name, "\"a\"").len(), 1, "{name}");
            assert!(faults(name, "\"a\"")[0].starts_with("bad-name shard_map"), "{name}");
        }
        assert!(faults("m", "\"shard.1\"").iter().any(|fault| fault.starts_with("bad-name")));
        assert!(faults("m", "\"A\"").iter().any(|fault| fault.starts_with("bad-name")));
    }
}
