//! From arguments to a move, its map and its databases.

use super::arguments::{Connections, MoveArguments};
use super::stop::Stop;
use crate::map::{Spillway, source};
use crate::moved::{Move, MoveId, MovedTable, tables};
use crate::preflight::MapFacts;
use crate::server::{Addresses, Endpoint, Passwords};
use crate::sql::KeyRange;
use rules::Rules;
use rules::shard::object::MapObject;
use std::time::Duration;

/// What the arguments ask for, and the map that it is asked of.
pub struct Wanted {
    pub spillway: Spillway,
    pub object: MapObject,
    pub map: MapFacts,
    name: String,
    range: KeyRange,
    target: String,
    tables: Vec<MovedTable>,
}

impl Wanted {
    /// The move from this shard.
    pub fn from(&self, source: &str, id: MoveId) -> Move {
        Move {
            id,
            map: self.name.clone(),
            range: self.range.clone(),
            source: source.to_owned(),
            target: self.target.clone(),
            tables: self.tables.clone(),
        }
    }

    /// The move from the range's owner.
    ///
    /// # Errors
    /// When the range can't move now.
    pub fn from_owner(&self, id: MoveId) -> Result<Move, Stop> {
        let source = source(&self.object, &self.range, &self.target)
            .map_err(|why| Stop::run(format!("{}: {why}", why.name())))?;
        Ok(self.from(&source, id))
    }
}

/// Reads the map and the arguments.
///
/// # Errors
/// Code 78 when an argument is wrong, 1 when the map can't be had.
pub async fn wanted(own: &MoveArguments) -> Result<Wanted, Stop> {
    let tables = tables(own.tables.iter().map(String::as_str), own.key.as_deref());
    let tables = tables.map_err(|why| Stop::config(format!("--tables: {why}")))?;
    let spillway = own.spillway.spillway();
    let object = spillway.map(&own.map).await.map_err(Stop::run)?;
    let range = KeyRange::parse(object.key_type, &own.range);
    let range = range.map_err(|why| Stop::config(format!("--range: {why}")))?;
    let map = map_facts(&spillway, &own.map).await?;
    let (name, target) = (own.map.clone(), own.to.clone());
    Ok(Wanted { spillway, object, map, name, range, target, tables })
}

/// What the rules file and those who follow the map say of it.
///
/// # Errors
/// Code 78 when the rules file can't be read, or has no such map.
pub async fn map_facts(spillway: &Spillway, map: &str) -> Result<MapFacts, Stop> {
    let file = spillway.rules.display();
    let text = std::fs::read_to_string(&spillway.rules);
    let text = text.map_err(|why| Stop::config(format!("{file}: {why}")))?;
    let rules = Rules::from_toml(&text).map_err(|faults| {
        Stop::config(format!("{file} has {} faults: `spillway check` lists them", faults.len()))
    })?;
    let section = rules.document.shard_maps.get(map);
    let section = section.ok_or_else(|| Stop::config(format!("{file} has no map `{map}`")))?;
    let members = match spillway.sidecars.is_empty() {
        true => None,
        false => Some(spillway.members(map).await.map_err(Stop::run)?),
    };
    let shards = section.shards.keys().cloned().collect();
    Ok(MapFacts { shards, hold: Duration::from(section.hold.time), members })
}

/// The databases of the arguments.
///
/// # Errors
/// Code 78 when an address can't be read.
pub fn addresses(own: &Connections) -> Result<Addresses, Stop> {
    let file = match &own.shards_file {
        Some(file) => std::fs::read_to_string(file)
            .map_err(|why| Stop::config(format!("{}: {why}", file.display())))?,
        None => String::new(),
    };
    let given = own.shards.iter().map(String::as_str);
    Addresses::read(given.chain(Addresses::lines(&file))).map_err(Stop::config)
}

/// The database of one shard and its password.
///
/// # Errors
/// Code 78 when none is given, or the file of passwords is open to others.
pub fn endpoint(addresses: &Addresses, shard: &str) -> Result<Endpoint, Stop> {
    let missing = || {
        Stop::config(format!(
            "the database of shard `{shard}` is not given: add --shard {shard}=postgresql://…"
        ))
    };
    let address = addresses.of(shard).ok_or_else(missing)?.clone();
    let password = Passwords::of_process().of(&address).map_err(Stop::config)?;
    Ok(Endpoint { address, password })
}
