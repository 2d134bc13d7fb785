//! What happens to pods: they learn of a map, are cut off, crash and start.

use super::book::{BEFORE, Version};
use super::model::{Model, Reach, Teacher};
use super::protocol::Broken;
use super::world::{Mishap, PodIndex, PodMap, World, Write};
use rules::shard::protocol::Adoption;

impl Model {
    /// Shows a pod a version (`LiveMaps::offer`).
    pub fn show(&self, world: &World, pod: PodIndex, shown: Version) -> World {
        let mut next = *world;
        let in_force = world.pods[pod].follows();
        let is_taken = self.book.adoption(in_force, shown) == Adoption::Take
            || (self.protocol.is(Broken::LowerEpochTaken) && in_force != Some(shown));
        if is_taken {
            next.pods[pod].map = PodMap::Follows(shown);
            if in_force.is_some_and(|own| self.book.epoch(own) > self.book.epoch(shown)) {
                next.mishap = Mishap::EpochFell;
            }
        }
        next
    }

    /// The state after a pod has asked the store.
    pub fn refreshed(&self, world: &World, pod: PodIndex, reach: Reach) -> World {
        match reach {
            Reach::Answered => self.show(world, pod, world.store),
            Reach::CutOff => *world,
        }
    }

    pub fn learn(&self, world: &World, pod: PodIndex, teacher: Teacher) -> Option<World> {
        let shown = match (world.pods[pod].map, teacher) {
            (PodMap::Down, _) => None,
            (_, Teacher::Store) => Some(world.store),
            // Only a process that starts asks the other one.
            (PodMap::Unknown, Teacher::OtherPod) => world.pods[1 - pod].follows(),
            (PodMap::Follows(_), Teacher::OtherPod) => None,
        };
        self.shown(world, pod, shown?)
    }

    /// The same as [`Self::show`], where the pod takes it.
    fn shown(&self, world: &World, pod: PodIndex, shown: Version) -> Option<World> {
        let next = self.show(world, pod, shown);
        (next.pods[pod].map != world.pods[pod].map).then_some(next)
    }

    pub fn show_old(&self, world: &World, pod: PodIndex) -> Option<World> {
        // One that knows no map would take it: that is another way to break the protocol.
        world.pods[pod].follows()?;
        self.shown(world, pod, BEFORE)
    }

    /// Its clients and the other pod lose what it was doing for them. What reached an owner may be written, but
    /// nobody is told so.
    pub fn crash(&self, world: &World, pod: PodIndex) -> Option<World> {
        let own = world.pods[pod];
        if !self.protocol.may_crash[pod] || own.has_crashed || !own.is_up() {
            return None;
        }
        let mut next = *world;
        (next.pods[pod].map, next.pods[pod].has_crashed) = (PodMap::Down, true);
        for write in next.writes.iter_mut().filter(|write| write.needs(pod)) {
            *write = Write::Ended;
        }
        Some(next)
    }

    pub fn start(&self, world: &World, pod: PodIndex) -> Option<World> {
        if world.pods[pod].is_up() {
            return None;
        }
        let mut next = *world;
        let is_from_seed = self.protocol.is(Broken::NewcomerFromSeed);
        next.pods[pod].map = if is_from_seed { PodMap::Follows(BEFORE) } else { PodMap::Unknown };
        Some(next)
    }
}
