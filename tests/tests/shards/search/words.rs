//! The way to a broken invariant in plain words: each step, and what it changed.

use super::book::SHARDS;
use super::breadth_first::BrokenPath;
use super::model::{Model, Reach, Step, Teacher};
use super::world::{Mishap, PodMap, Post, Way, World, Write};

const PODS: [&str; 2] = ["pod A", "pod B"];
/// What follows from a step stands below it.
const INDENT: &str = "       ";

impl Model {
    pub fn words(&self, path: &BrokenPath) -> String {
        let mut before = World::new();
        let mut lines = vec![format!("broken: {}", path.invariant.sentence())];
        for (number, (step, after)) in path.steps.iter().enumerate() {
            lines.push(format!("  {:>2}. {}", number + 1, self.step(&before, *step)));
            lines.extend(self.changes(&before, after).iter().map(|line| format!("{INDENT}{line}")));
            before = *after;
        }
        lines.join("\n")
    }

    fn step(&self, before: &World, step: Step) -> String {
        match step {
            Step::Ask(write, pod) => {
                format!("A client sends write {} to {}.", write + 1, PODS[pod])
            }
            Step::GoOn(write, Reach::Answered) => format!("Write {} goes on.", write + 1),
            Step::GoOn(write, Reach::CutOff) => {
                format!("Write {} goes on, and the store does not answer its pod.", write + 1)
            }
            Step::Learn(pod, Teacher::Store) => format!("{} looks at the store.", PODS[pod]),
            Step::Learn(pod, Teacher::OtherPod) => {
                format!("{} can't reach the store, and asks {}.", PODS[pod], PODS[1 - pod])
            }
            Step::ShowOld(pod) => format!("{} is shown the map from before the move.", PODS[pod]),
            Step::Crash(pod) => format!("{} crashes.", PODS[pod]),
            Step::Start(pod) => format!("{} starts.", PODS[pod]),
            Step::Lead(own) => format!("Coordinator {} {}.", own + 1, self.post(before, own)),
            Step::List(own) => format!("Coordinator {} lists the members anew.", own + 1),
            Step::Push(own, pod) => {
                format!("Coordinator {} shows {} its version, and is answered.", own + 1, PODS[pod])
            }
            Step::Begin(own) => format!("Coordinator {} begins.", own + 1),
            Step::Abort(own) => format!("Coordinator {} is told to abort.", own + 1),
        }
    }

    fn post(&self, before: &World, own: usize) -> String {
        match before.coordinators[own].post {
            Post::Idle => "does nothing".to_owned(),
            Post::At(place) => {
                format!("does its stage {:?}", self.protocol.order[usize::from(place)])
            }
            Post::Reopens => "opens the source's gate to abort".to_owned(),
            Post::Aborts => "puts the abort".to_owned(),
        }
    }

    fn changes(&self, before: &World, after: &World) -> Vec<String> {
        let mut lines = Vec::new();
        if before.store != after.store {
            lines.push(format!("The store has {}.", self.book.words(after.store)));
        }
        for (owner, name) in SHARDS.iter().enumerate() {
            if before.gates[owner] != after.gates[owner] {
                lines.push(format!("The gate of owner {name} is {:?}.", after.gates[owner]));
            }
        }
        for (pod, name) in PODS.iter().enumerate() {
            match after.pods[pod].map {
                now if now == before.pods[pod].map => {}
                PodMap::Down => lines.push(format!("{name} is down.")),
                PodMap::Unknown => lines.push(format!("{name} knows no map.")),
                PodMap::Follows(version) => {
                    lines.push(format!("{name} follows {}.", self.book.words(version)));
                }
            }
        }
        for (number, write) in after.writes.iter().enumerate() {
            if before.writes[number] != *write {
                lines.push(format!("Write {} {}.", number + 1, self.write(*write)));
            }
        }
        match after.mishap {
            Mishap::Loop => lines.push("It is answered 508: it was forwarded already.".to_owned()),
            Mishap::WentRound => lines.push("Its pod is where it was before.".to_owned()),
            Mishap::None | Mishap::MetClosedGate | Mishap::EpochFell => {}
        }
        lines
    }

    fn write(&self, write: Write) -> String {
        let epoch = |version| self.book.epoch(version);
        let owner = |version| SHARDS[self.book.owner(version)];
        match write {
            Write::New => "is new".to_owned(),
            Write::Looked(way, version) => {
                format!(
                    "is resolved by {} under epoch {}, and not entered",
                    at(way),
                    epoch(version)
                )
            }
            Write::Entered(way, version) => {
                format!("is entered by {} under epoch {}", at(way), epoch(version))
            }
            Write::Held(way) => format!("waits in {}", at(way)),
            Write::Away(origin, version) => {
                let (from, to) = (PODS[origin], PODS[1 - origin]);
                format!(
                    "is on its way from {from} to {to} with a marker of epoch {}",
                    epoch(version)
                )
            }
            Write::Sent(way, version) => {
                format!("is on its way from {} to owner {}", at(way), owner(version))
            }
            Write::Open(_, owner) => format!("is let in by owner {}", SHARDS[owner]),
            Write::Acknowledged { owner, is_copied } => {
                let copied = if is_copied { "" } else { ", and not copied" };
                format!("is acknowledged by owner {}{copied}", SHARDS[owner])
            }
            Write::Ended => "has ended without an acknowledgement".to_owned(),
        }
    }
}

fn at(way: Way) -> &'static str {
    PODS[way.at()]
}
