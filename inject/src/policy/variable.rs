//! Names of the policy's variables.

/// `env-config` → `variables.envConfig`
pub(super) fn variable(annotation: &str) -> String {
    let mut name = String::from("variables.");
    for (index, word) in annotation.split('-').enumerate() {
        let (first, rest) = word.split_at(usize::from(index > 0));
        name.push_str(&first.to_uppercase());
        name.push_str(rest);
    }
    name
}
