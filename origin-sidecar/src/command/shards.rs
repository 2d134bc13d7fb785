//! `spillway shards`: looks at live shard maps and changes them. It works on the result store itself, and tells
//! the processes that follow the map.

mod arguments;
mod coordinator;
mod events;
mod members;
mod moves;
mod stored;

pub use arguments::ShardsSettings;

use super::run::runtime;
use super::stop::Stop;
use arguments::ShardsCommand;
use coordinator::{Coordinator, say_key};
use events::Events;

/// Runs one of the commands.
///
/// # Errors
/// Code 78 when settings or rules are wrong, 1 when the map can't be read or changed.
pub fn shards(settings: &ShardsSettings) -> Result<(), Stop> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let events = Events::new(settings.json);
        if matches!(settings.command, ShardsCommand::Key) {
            return say_key(settings, &events);
        }
        let coordinator = Coordinator::open(settings, events).await?;
        run(&coordinator, &settings.command).await
    })
}

async fn run(coordinator: &Coordinator<'_>, command: &ShardsCommand) -> Result<(), Stop> {
    match command {
        // It needs no store, and so no coordinator.
        ShardsCommand::Key => Ok(()),
        ShardsCommand::Show { map } => coordinator.show(map.as_deref()).await,
        ShardsCommand::Members { map } => coordinator.members(map).await,
        ShardsCommand::Lookup { map, key } => coordinator.lookup(map, key).await,
        ShardsCommand::Log { map } => coordinator.log(map).await,
        ShardsCommand::Export { map } => coordinator.export(map).await,
        ShardsCommand::Init(own) => coordinator.init(own).await,
        ShardsCommand::Restore(own) => coordinator.restore(own).await,
        ShardsCommand::Sign(own) => coordinator.sign(own).await,
        ShardsCommand::Retire(own) => coordinator.retire(own).await,
        ShardsCommand::Extend { changing, from, until, open, shard } => {
            let ends = (from.as_deref(), until.as_deref(), *open);
            coordinator.extend(changing, ends, shard).await
        }
        ShardsCommand::Split { changing, at } => coordinator.split(changing, at).await,
        ShardsCommand::Merge { changing, at } => coordinator.merge(changing, at).await,
        ShardsCommand::Announce(own) => coordinator.announce(own).await,
        ShardsCommand::Fence(own) => coordinator.fence(own).await,
        ShardsCommand::NoReturn(own) => coordinator.pass_return(own).await,
        ShardsCommand::Commit(own) => coordinator.commit(own).await,
        ShardsCommand::Abort(own) => coordinator.abort(own).await,
    }
}
