//! Where the objects of live maps lie in the result store.

/// Of epochs as text: keys are listed in the order of their text.
const EPOCH_DIGITS: usize = 20;

/// The map itself.
pub fn map(name: &str) -> String {
    format!("shards/{name}")
}

/// A copy of one version of the map.
pub fn log(name: &str, epoch: u64) -> String {
    format!("shards-log/{name}/{epoch:0EPOCH_DIGITS$}")
}

/// All copies of the map.
pub fn logs(name: &str) -> String {
    format!("shards-log/{name}/")
}

/// What one member of a move says of itself.
pub fn member(name: &str, move_id: &str, pod: &str) -> String {
    format!("shards-members/{name}/{move_id}/{pod}")
}

/// What all members of all moves of a map say.
pub fn all_members(name: &str) -> String {
    format!("shards-members/{name}/")
}

/// What all members of a move say.
pub fn members(name: &str, move_id: &str) -> String {
    format!("shards-members/{name}/{move_id}/")
}
