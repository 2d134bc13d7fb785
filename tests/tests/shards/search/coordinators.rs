//! What coordinators do: the stages of a move, each possible only while nobody else has come between.

use super::book::{Answer, Change, SOURCE, TARGET, Version};
use super::model::Model;
use super::protocol::{Broken, Stage};
use super::world::{Coordinator, Gate, Heard, PodIndex, Post, World, Write};
use rules::shard::coordinate::{AfterRound, Excuses, Laggard, Round, after_round, needs_members};
use rules::shard::object::MoveStage;

/// Processes as they name themselves: host name and random digits.
const PROCESSES: [&str; 4] = ["a-1", "a-2", "b-1", "b-2"];
/// Bits of all processes.
const EVERY_PROCESS: u8 = 0b1111;

impl Model {
    /// The coordinator begins with what the store and the owners say: the one before may have ended anywhere.
    pub fn begin(&self, world: &World, own: usize) -> Option<World> {
        let post = self.post_of(world);
        (post != Post::Idle).then(|| self.appointed(world, own, post))
    }

    pub fn abort(&self, world: &World, own: usize) -> Option<World> {
        self.book.next(world.store, self.aborting())?;
        let post = if self.protocol.has_gate { Post::Reopens } else { Post::Aborts };
        Some(self.appointed(world, own, post))
    }

    fn appointed(&self, world: &World, own: usize, post: Post) -> World {
        let mut next = *world;
        next.coordinators[own] = Coordinator { post, seen: world.store, ..Coordinator::IDLE };
        if self.protocol.has_gate {
            next.leader = Some(own);
            let other = 1 - own;
            next = self.placed(next, other, next.coordinators[other].post);
        }
        self.placed(next, own, post)
    }

    fn aborting(&self) -> Change {
        match self.protocol.broken {
            Some(Broken::AbortWithOldEpoch) => Change::PutBack,
            Some(Broken::AbortInSameEpoch) => Change::AbortInSameEpoch,
            Some(Broken::AbortAfterNoReturn) => Change::AbortForced,
            _ => Change::Abort,
        }
    }

    /// Where a coordinator that knows nothing else goes on.
    fn post_of(&self, world: &World) -> Post {
        let gates = world.gates;
        let has_gate = self.protocol.has_gate;
        let stage = self.book.object(world.store).moving.as_ref().map(|moving| moving.stage);
        match stage {
            Some(MoveStage::Announced) => Post::At(0),
            Some(MoveStage::Fenced) if gates[SOURCE] == Gate::Moved => {
                Post::At(self.protocol.place(Stage::OpenTarget))
            }
            Some(MoveStage::Fenced) => Post::At(1),
            None if has_gate
                && self.book.is_committed(world.store)
                && gates[TARGET] != Gate::Open =>
            {
                Post::At(self.protocol.place(Stage::OpenTarget))
            }
            None if has_gate
                && self.book.is_aborted(world.store)
                && gates[SOURCE] != Gate::Open =>
            {
                Post::Reopens
            }
            None => Post::Idle,
        }
    }

    pub fn lead(&self, world: &World, own: usize) -> Option<World> {
        match world.coordinators[own].post {
            Post::Idle => None,
            Post::At(place) => self.at_stage(world, own, place),
            Post::Reopens => {
                let mut next = *world;
                next.gates[SOURCE] = Gate::Open;
                next.coordinators[own].post = Post::Aborts;
                Some(next)
            }
            Post::Aborts => {
                let seen = world.coordinators[own].seen;
                let next = self.book.next(seen, self.aborting());
                let put = next.map_or(*world, |next| self.put(world, own, next));
                Some(idle(put, own))
            }
        }
    }

    fn at_stage(&self, world: &World, own: usize, place: u8) -> Option<World> {
        let mut next = *world;
        let seen = world.coordinators[own].seen;
        let stage = *self.protocol.order.get(usize::from(place))?;
        match stage {
            Stage::Fence => next = self.put(world, own, self.book.next(seen, Change::Fence)?),
            Stage::Members => match self.after_round(world, own) {
                AfterRound::Followed => {}
                AfterRound::Confirm => return Some(asked_again(next, own)),
                AfterRound::AskAgain | AfterRound::Over(_) => return None,
            },
            Stage::Close => next.gates[SOURCE] = next.gates[SOURCE].max(Gate::Closed),
            Stage::Drain => (!has_open_transaction(world)).then_some(())?,
            Stage::CopyRest => next.writes = world.writes.map(copied),
            Stage::PassReturn if !self.may_be_aborted(seen) => {}
            Stage::PassReturn => {
                (self.after_round(world, own) == AfterRound::Followed).then_some(())?;
                next = self.put(world, own, self.book.next(seen, Change::PassReturn)?);
            }
            Stage::MarkMoved => next.gates[SOURCE] = Gate::Moved,
            Stage::OpenTarget => next.gates[TARGET] = Gate::Open,
            Stage::Commit if self.book.is_committed(seen) => {}
            Stage::Commit => {
                let before =
                    place.checked_sub(1).map(|before| self.protocol.order[usize::from(before)]);
                let needs = needs_members(self.book.object(seen)).expect("a fenced move");
                (!needs || before == Some(Stage::Members)).then_some(())?;
                next = self.put(world, own, self.book.next(seen, Change::Commit)?);
            }
        }
        // A put that came too late has ended it.
        if next.coordinators[own].post == Post::Idle {
            return Some(next);
        }
        let is_last = usize::from(place) + 1 == self.protocol.order.len();
        Some(self.placed(next, own, if is_last { Post::Idle } else { Post::At(place + 1) }))
    }

    /// At a new post. The members are listed where they are to be asked. Who was overtaken has lost its session at
    /// the owners, and can do no more than a put that is on its way.
    fn placed(&self, mut world: World, own: usize, post: Post) -> World {
        let is_overtaken = self.protocol.has_gate && world.leader != Some(own);
        if post == Post::Idle || (is_overtaken && !self.puts(post)) {
            return idle(world, own);
        }
        world.coordinators[own].post = post;
        world.coordinators[own].round = Heard::default();
        if self.is_asking(post) {
            world.coordinators[own].round.missing = running(&world);
        }
        world
    }

    fn puts(&self, post: Post) -> bool {
        match post {
            Post::Idle | Post::Reopens => false,
            Post::Aborts => true,
            Post::At(place) => {
                let stage = &self.protocol.order[usize::from(place)];
                matches!(stage, Stage::Fence | Stage::PassReturn | Stage::Commit)
            }
        }
    }

    fn may_be_aborted(&self, version: Version) -> bool {
        self.book.object(version).moving.as_ref().is_some_and(|moving| !moving.no_return)
    }

    /// Replaces the object if nobody else has (`If-Match`).
    fn put(&self, world: &World, own: usize, version: Version) -> World {
        let mut next = *world;
        if next.store != next.coordinators[own].seen && !self.protocol.is(Broken::NoIfMatch) {
            return idle(next, own);
        }
        next.store = version;
        next.stored |= 1 << version;
        next.coordinators[own].seen = version;
        next
    }

    /// Whether this coordinator goes by what members say, and asks them now. With a gate it tells them, and
    /// goes on when the time is over.
    fn is_asking(&self, post: Post) -> bool {
        let Post::At(place) = post else { return false };
        !self.protocol.has_gate && self.protocol.order[usize::from(place)] == Stage::Members
    }

    /// What comes after a round, when there is no time to wait for more.
    fn after_round(&self, world: &World, own: usize) -> AfterRound {
        let Coordinator { seen, round, .. } = world.coordinators[own];
        let has_gate = self.protocol.has_gate;
        let (is_listed, answer): (u8, &dyn Fn(PodIndex) -> Option<Answer>) = if has_gate {
            (running(world), &|pod| self.answer(world, pod))
        } else {
            // Who has not followed in this round counts as silent: another round may hear more.
            (round.missing, &|_| None)
        };
        let laggards = (0..2).filter(|pod| is_listed & 1 << pod != 0).filter_map(|pod| {
            let why = self.book.hindrance(seen, answer(pod))?;
            Some(Laggard { who: name(world, pod), why, detail: String::new() })
        });
        let round = Round { followed: names(round.followed), laggards: laggards.collect() };
        let is_once = self.protocol.is(Broken::AskedOnce);
        let before = if is_once { EVERY_PROCESS } else { world.coordinators[own].round.before };
        let left_out = [name(world, SOURCE)];
        let without = if self.protocol.is(Broken::PodLeftOut) { &left_out[..] } else { &[] };
        let excuses = Excuses { without, owner_is_fenced: has_gate };
        after_round(round, &names(before), excuses, true)
    }

    /// What a pod says when it is asked.
    fn answer(&self, world: &World, pod: PodIndex) -> Option<Answer> {
        let own = world.pods[pod];
        let has_writes = world.writes.iter().any(|write| write.is_in_flight_at(pod))
            && !self.protocol.is(Broken::AckWithWritesInFlight);
        own.is_up().then(|| Answer { follows: own.follows(), has_writes })
    }

    pub fn list(&self, world: &World, own: usize) -> Option<World> {
        self.is_asking(world.coordinators[own].post).then(|| asked_again(*world, own))
    }

    /// Shows the pod the object, and hears what the pod says of it (`POST /shards/map`).
    pub fn push(&self, world: &World, own: usize, pod: PodIndex) -> Option<World> {
        let Coordinator { seen, round, .. } = world.coordinators[own];
        if round.missing & 1 << pod == 0 {
            return None;
        }
        self.answer(world, pod)?;
        let mut next = self.show(world, pod, seen);
        if self.book.hindrance(seen, self.answer(&next, pod)).is_none() {
            next.coordinators[own].round.missing &= !(1 << pod);
            next.coordinators[own].round.followed |= 1 << world.process(pod);
        }
        Some(next)
    }
}

fn idle(mut world: World, own: usize) -> World {
    world.coordinators[own] = Coordinator::IDLE;
    world
}

/// Bits of the pods that an address leads to.
fn running(world: &World) -> u8 {
    (0..2).filter(|pod| world.pods[*pod].is_up()).map(|pod| 1 << pod).sum()
}

/// The next round.
fn asked_again(mut world: World, own: usize) -> World {
    let before = world.coordinators[own].round.followed;
    world.coordinators[own].round = Heard { missing: running(&world), followed: 0, before };
    world
}

fn name(world: &World, pod: PodIndex) -> String {
    PROCESSES[world.process(pod)].to_owned()
}

fn names(processes: u8) -> Vec<String> {
    let named = PROCESSES.iter().enumerate().filter(|(bit, _)| processes & 1 << bit != 0);
    named.map(|(_, name)| (*name).to_owned()).collect()
}

fn has_open_transaction(world: &World) -> bool {
    world.writes.iter().any(|write| matches!(write, Write::Open(_, SOURCE)))
}

fn copied(write: Write) -> Write {
    match write {
        Write::Acknowledged { owner, .. } => Write::Acknowledged { owner, is_copied: true },
        other => other,
    }
}
