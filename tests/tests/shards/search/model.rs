//! What can happen in a state: one step of a write, of a pod or of a coordinator.

use super::book::{Book, Version};
use super::protocol::Protocol;
use super::world::{PodIndex, World, Write};

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A client sends a write to a pod.
    Ask(usize, PodIndex),
    /// A write goes one step on.
    GoOn(usize, Reach),
    /// A pod learns a map from the store, or from the other pod.
    Learn(PodIndex, Teacher),
    /// A pod is shown the map from before the move: by a copy, a slow coordinator, a store that was set back.
    ShowOld(PodIndex),
    Crash(PodIndex),
    Start(PodIndex),
    /// A coordinator does what its stage says.
    Lead(usize),
    /// A coordinator lists the members, and begins a round.
    List(usize),
    /// A coordinator shows a pod its version, and hears what the pod says.
    Push(usize, PodIndex),
    /// A coordinator begins, on a machine that knows only what store and owners say.
    Begin(usize),
    /// A coordinator begins to abort.
    Abort(usize),
}

/// Whether a pod that asks the store gets an answer. One that is cut off is one that never does, and to which no
/// coordinator's push comes: so none of them need be a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Answered,
    CutOff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Teacher {
    Store,
    OtherPod,
}

pub struct Model {
    pub book: Book,
    pub protocol: Protocol,
}

impl Model {
    pub fn new(protocol: Protocol) -> Self {
        Self { book: Book::new(), protocol }
    }

    /// Shows all steps of a state, with the states to which they lead; some may lead nowhere else.
    pub fn steps(&self, world: &World, show: &mut dyn FnMut(Step, World)) {
        let mut add = |step| {
            if let Some(next) = self.after(world, step) {
                show(step, next);
            }
        };
        for write in 0..2 {
            add(Step::GoOn(write, Reach::Answered));
            if asks_the_store(world.writes[write]) {
                add(Step::GoOn(write, Reach::CutOff));
            }
        }
        for pod in 0..2 {
            for write in 0..self.protocol.writes {
                add(Step::Ask(write, pod));
            }
            add(Step::Learn(pod, Teacher::Store));
            add(Step::Learn(pod, Teacher::OtherPod));
            add(Step::ShowOld(pod));
            add(Step::Crash(pod));
            add(Step::Start(pod));
        }
        for own in 0..self.protocol.coordinators {
            add(Step::Lead(own));
            add(Step::List(own));
            add(Step::Begin(own));
            add(Step::Abort(own));
            for pod in 0..2 {
                add(Step::Push(own, pod));
            }
        }
    }

    fn after(&self, world: &World, step: Step) -> Option<World> {
        match step {
            Step::Ask(write, pod) => self.ask(world, write, pod),
            Step::GoOn(write, reach) => self.go_on(world, write, reach),
            Step::Learn(pod, teacher) => self.learn(world, pod, teacher),
            Step::ShowOld(pod) => self.show_old(world, pod),
            Step::Crash(pod) => self.crash(world, pod),
            Step::Start(pod) => self.start(world, pod),
            Step::Lead(own) => self.lead(world, own),
            Step::List(own) => self.list(world, own),
            Step::Push(own, pod) => self.push(world, own, pod),
            Step::Begin(own) => self.begin(world, own),
            Step::Abort(own) => self.abort(world, own),
        }
    }

    pub fn must_wait(&self, version: Version) -> bool {
        self.book.resolved(version).must_wait(true)
    }
}

/// Whether the next step of a write may ask the store for a newer map.
fn asks_the_store(write: Write) -> bool {
    match write {
        Write::Away(..) => true,
        Write::Entered(way, _) | Write::Held(way) => way.marker.is_some(),
        _ => false,
    }
}
