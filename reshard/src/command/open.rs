//! From arguments to a move, its map and its databases.

use super::arguments::{Connections, MoveArguments};
use super::planned::{PlannedMove, planned};
use super::stop::Stop;
use crate::map::{Spillway, source};
use crate::moved::{Move, MoveId, MovedTable, tables};
use crate::preflight::MapFacts;
use crate::server::{Addresses, Endpoint, Passwords};
use crate::sql::KeyRange;
use rules::Rules;
use rules::shard::change::ChangeRefusal;
use rules::shard::object::MapObject;
use std::time::Duration;

/// Nothing is left to do of a plan.
pub const PLAN_IS_DONE: &str = "plan-is-done: each range of the plan lies at its target";

/// What the arguments ask for, and the map that it is asked of.
pub struct Wanted {
    pub spillway: Spillway,
    pub object: MapObject,
    pub map: MapFacts,
    range: KeyRange,
    tables: Vec<MovedTable>,
    planned: PlannedMove,
}

impl Wanted {
    /// The move from this shard.
    pub fn from(&self, source: &str, id: MoveId) -> Move {
        Move {
            id,
            map: self.planned.map.clone(),
            range: self.range.clone(),
            source: source.to_owned(),
            target: self.planned.to.clone(),
            tables: self.tables.clone(),
        }
    }

    /// The move from the range's owner.
    ///
    /// # Errors
    /// When the range can't move now, or has another owner than when the plan was made.
    pub fn from_owner(&self, id: MoveId) -> Result<Move, Stop> {
        let source = self.owner().map_err(|why| Stop::run(format!("{}: {why}", why.name())))?;
        match &self.planned.from {
            Some(planned) if *planned != source => Err(Stop::run(format!(
                "plan-is-stale: {} belonged to `{planned}` when the plan was made, and belongs to `{source}` now: \
                 make the plan again",
                self.range
            ))),
            _ => Ok(self.from(&source, id)),
        }
    }

    /// Whether the target owns the range already.
    pub fn is_done(&self) -> bool {
        self.owner() == Err(ChangeRefusal::SameOwner)
    }

    /// The shard that the range moves to.
    pub fn target(&self) -> &str {
        &self.planned.to
    }

    fn owner(&self) -> Result<String, ChangeRefusal> {
        source(&self.object, &self.range, &self.planned.to)
    }
}

/// Reads what is asked for, and the maps that it is asked of.
///
/// # Errors
/// Code 78 when an argument is wrong, 1 when a map can't be had.
pub async fn wanted(own: &MoveArguments) -> Result<Vec<Wanted>, Stop> {
    let mut found = Vec::new();
    for planned in planned(own)? {
        found.push(of(own, planned).await?);
    }
    Ok(found)
}

/// The first move that is asked for and not done.
///
/// # Errors
/// As [`wanted`]; when all are done.
pub async fn first_wanted(own: &MoveArguments) -> Result<Wanted, Stop> {
    let open = |it: &Wanted| own.plan.is_none() || !it.is_done();
    let first = wanted(own).await?.into_iter().find(open);
    first.ok_or_else(|| Stop::run(PLAN_IS_DONE))
}

async fn of(own: &MoveArguments, planned: PlannedMove) -> Result<Wanted, Stop> {
    let named = |what: &str| match &own.plan {
        Some(file) => format!("--plan {}: {what}", file.display()),
        None => format!("--{what}"),
    };
    let tables = tables(planned.tables.iter().map(String::as_str), own.asked.key.as_deref());
    let tables = tables.map_err(|why| Stop::config(format!("{}: {why}", named("tables"))))?;
    let spillway = own.spillway.spillway();
    let object = spillway.map(&planned.map).await?;
    let range = KeyRange::parse(object.key_type, &planned.range);
    let range = range.map_err(|why| Stop::config(format!("{}: {why}", named("range"))))?;
    let map = map_facts(&spillway, &planned.map).await?;
    Ok(Wanted { spillway, object, map, range, tables, planned })
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
        false => Some(spillway.members(map).await?),
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
