//! A write on its way: what `origin-sidecar` does with it (`LiveMaps::admit` and `enter`), by the same decisions.

use super::book::{Receiving, TARGET, Version};
use super::model::{Model, Reach};
use super::protocol::Broken;
use super::world::{Gate, Mishap, PodIndex, Way, World, Write};
use rules::shard::protocol::Arrival;

impl Model {
    pub fn ask(&self, world: &World, write: usize, pod: PodIndex) -> Option<World> {
        // Two that are both new are one choice.
        let is_other = write > 0 && world.writes[0] == Write::New;
        if world.writes[write] != Write::New || is_other {
            return None;
        }
        let version = world.pods[pod].follows()?;
        Some(self.admit(world, write, Way { origin: pod, marker: None }, version))
    }

    pub fn go_on(&self, world: &World, write: usize, reach: Reach) -> Option<World> {
        match world.writes[write] {
            Write::New | Write::Acknowledged { .. } | Write::Ended => None,
            Write::Looked(way, version) => Some(self.send(world, write, way, version)),
            Write::Entered(way, version) => self.look_again(world, write, (way, version), reach),
            Write::Held(way) => {
                let newest = world.pods[way.at()].follows()?;
                let is_released = !self.must_wait(newest);
                is_released.then(|| self.changed(world, write, (way, newest), reach))
            }
            Write::Away(origin, version) => {
                let way = Way { origin, marker: Some(version) };
                let Some(own) = world.pods[way.at()].follows() else {
                    return Some(with(world, write, Write::Ended));
                };
                Some(self.settle(world, write, (way, version, own), reach))
            }
            Write::Sent(way, version) => Some(self.meet_owner(world, write, way, version)),
            Write::Open(_, owner) => Some(acknowledged(world, write, owner)),
        }
    }

    /// A write whose owner is known waits, or is entered. Nothing happens to it in between: until it is entered
    /// it is as if it were resolved later.
    fn admit(&self, world: &World, write: usize, way: Way, version: Version) -> World {
        if self.must_wait(version) {
            with(world, write, Write::Held(way))
        } else {
            self.enter(world, write, way, version)
        }
    }

    fn enter(&self, world: &World, write: usize, way: Way, version: Version) -> World {
        let is_late = self.protocol.is(Broken::LookedBeforeEntry);
        let now = if is_late { Write::Looked(way, version) } else { Write::Entered(way, version) };
        with(world, write, now)
    }

    /// The map is looked at once more after a write was entered.
    fn look_again(
        &self,
        world: &World,
        write: usize,
        (way, version): (Way, Version),
        reach: Reach,
    ) -> Option<World> {
        let newest = world.pods[way.at()].follows()?;
        let is_outdated = if self.protocol.is(Broken::EnteredByOlderMap) {
            self.book.epoch(newest) != self.book.epoch(version)
        } else {
            self.book.resolved(version).is_outdated_by(self.book.resolved(newest))
        };
        if !is_outdated {
            return Some(self.send(world, write, way, version));
        }
        let mut next = self.changed(world, write, (way, newest), reach);
        if next == *world {
            next.mishap = Mishap::WentRound;
        }
        Some(next)
    }

    /// The map has changed since a write was admitted, or began to wait.
    fn changed(
        &self,
        world: &World,
        write: usize,
        (way, newest): (Way, Version),
        reach: Reach,
    ) -> World {
        let is_sent_on = self.protocol.is(Broken::SentOnAfterChange) && !self.must_wait(newest);
        match way.marker {
            Some(sent) if !is_sent_on => self.settle(world, write, (way, sent, newest), reach),
            _ => self.admit(world, write, way, newest),
        }
    }

    /// To the owner, or to the pod that sits beside it. What was forwarded is never forwarded again.
    fn send(&self, world: &World, write: usize, way: Way, version: Version) -> World {
        let is_here = self.protocol.is_annotated || self.book.owner(version) == way.at();
        match (is_here, way.marker) {
            (true, _) => with(world, write, Write::Sent(way, version)),
            (false, None) => with(world, write, Write::Away(way.origin, version)),
            (false, Some(_)) => looped(world, write),
        }
    }

    fn arrival(&self, pod: PodIndex, sent: Version, own: Version, is_refreshed: bool) -> Arrival {
        let is_write = !self.protocol.is(Broken::HeldAtReceiver);
        self.book.arrival(sent, own, Receiving { pod, is_refreshed, is_write })
    }

    /// A pod that follows `own` settles which map counts with the one that sent it a write by `sent`.
    fn settle(
        &self,
        world: &World,
        write: usize,
        (way, sent, own): (Way, Version, Version),
        reach: Reach,
    ) -> World {
        let (mut world, mut own) = (*world, own);
        let mut arrival = self.arrival(way.at(), sent, own, false);
        if arrival == Arrival::Refresh {
            world = self.refreshed(&world, way.at(), reach);
            own = world.pods[way.at()].follows().unwrap_or(own);
            arrival = self.arrival(way.at(), sent, own, true);
        }
        match arrival {
            Arrival::Serve => self.admit(&world, write, way, own),
            Arrival::ServeBegun => self.enter(&world, write, way, own),
            Arrival::ServeAsSent => self.enter(&world, write, way, sent),
            Arrival::Stale => self.send_back(&world, write, way.origin, reach),
            Arrival::StaleToOld | Arrival::Behind => with(&world, write, Write::Ended),
            Arrival::Loop | Arrival::Refresh => looped(&world, write),
        }
    }

    /// The sender of a write that was answered 421 looks for a newer map, and sends it by that.
    fn send_back(&self, world: &World, write: usize, origin: PodIndex, reach: Reach) -> World {
        let world = self.refreshed(world, origin, reach);
        match world.pods[origin].follows() {
            Some(newest) => self.admit(&world, write, Way { origin, marker: None }, newest),
            None => with(&world, write, Write::Ended),
        }
    }

    fn meet_owner(&self, world: &World, write: usize, way: Way, version: Version) -> World {
        let owner = self.book.owner(version);
        if !self.protocol.has_gate {
            // Without a gate, one that is on its way and one that was let in are the same.
            return acknowledged(world, write, owner);
        }
        if world.gates[owner] == Gate::Open {
            return with(world, write, Write::Open(way, owner));
        }
        let mut next = with(world, write, Write::Ended);
        if self.book.is_committed(version) {
            next.mishap = Mishap::MetClosedGate;
        }
        next
    }
}

fn with(world: &World, write: usize, now: Write) -> World {
    let mut next = *world;
    next.writes[write] = now;
    next
}

fn acknowledged(world: &World, write: usize, owner: usize) -> World {
    with(world, write, Write::Acknowledged { owner, is_copied: owner == TARGET })
}

fn looped(world: &World, write: usize) -> World {
    World { mishap: Mishap::Loop, ..with(world, write, Write::Ended) }
}
